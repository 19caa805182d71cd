"""Whether a changed caption could still be true: claims and what they entail."""
