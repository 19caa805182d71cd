"""Benchmarks: functions of a model and samples that return plain numbers."""
