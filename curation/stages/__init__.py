"""One file, one class, one idea; each named by what it does."""
