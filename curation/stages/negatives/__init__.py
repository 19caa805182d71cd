"""Stages that make, check, refine and grade hard negatives."""
