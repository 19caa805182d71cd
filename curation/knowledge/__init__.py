"""Knowledge graphs: reading, linking, and saying in words what they know."""
