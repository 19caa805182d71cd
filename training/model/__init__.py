"""Models: specs, two-tower models, LoRA, text encoding."""
