"""Stages that parse captions and say them in other words."""
