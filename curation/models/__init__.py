"""What stages lean on: a small protocol and one real adapter each."""
