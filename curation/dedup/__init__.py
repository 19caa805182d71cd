"""Near-duplicate pictures and captions, and leaks from evaluation sets."""
