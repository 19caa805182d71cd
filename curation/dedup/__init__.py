"""Near-duplicate images and captions, and leaks of evaluation sets into training data."""
