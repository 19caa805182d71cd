"""One file per paper: `flows/recipes/NAME.py` with a function `NAME(model) -> Recipe`."""
