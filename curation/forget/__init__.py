"""Forgetting: removes samples from everything in a workspace."""
