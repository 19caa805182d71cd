"""Many vectors at once: neighbours and equally large clusters, in bounded memory, the same on every run."""
