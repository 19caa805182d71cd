"""Judges that see only text, and negatives refined until they cannot tell."""
