"""Benchmarks: one module a kind (`order.py` opens ``--on order:SRC``), each with one class of `interface.Benchmark`."""
