"""Contrasts: which words of a corpus can stand in place of one another and exclude each other, learned from its captions."""
