"""Models that stages use: a protocol each, and one adapter to a real library."""
