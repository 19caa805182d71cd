"""What commands print: tables, progress bars and JSON."""
