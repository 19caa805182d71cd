"""What `evaluate --on KIND:SRC` opens, and the results it writes."""
