"""Stages that check pictures: readable, not twice, not in an evaluation set."""
