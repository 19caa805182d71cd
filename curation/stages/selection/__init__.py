"""Stages that score samples and keep the best."""
