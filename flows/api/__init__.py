"""What `import clipcurate` offers: versions opened as Python objects, models, and the commands as functions."""
