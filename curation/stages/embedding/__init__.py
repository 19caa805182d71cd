"""Stages that embed samples, and what is computed from embeddings."""
