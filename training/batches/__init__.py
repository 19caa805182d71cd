"""Batches: plans and samplers, the loader, decoding, caches."""
