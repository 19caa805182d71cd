"""Formats that knowledge graphs come in, one file each."""
