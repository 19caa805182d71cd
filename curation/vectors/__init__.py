"""Neighbours and equally large clusters of many vectors: bounded memory, the same result on every run."""
