"""The engine: stages, the memo store, and what runs them."""
