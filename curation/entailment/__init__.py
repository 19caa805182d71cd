"""Whether a changed caption could still be true: the claims of texts, and entailment between them."""
