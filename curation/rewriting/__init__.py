"""Captions in other words: prompts, rules, and the gate that checks them."""
