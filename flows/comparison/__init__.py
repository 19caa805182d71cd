"""What `compare` does: rows, cells, statistics, the table."""
