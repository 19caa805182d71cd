"""Taking samples out of everything that is kept."""
