"""Stages that embed samples, and stages that work on embeddings."""
