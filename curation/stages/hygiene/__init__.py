"""Stages for data hygiene: unreadable images, duplicates, leaks of evaluation sets."""
