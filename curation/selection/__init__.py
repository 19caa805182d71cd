"""Scores and weights by which samples are selected."""
