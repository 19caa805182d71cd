"""Sections of report pages, one file each."""
