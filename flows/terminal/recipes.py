"""The list of recipes."""

from __future__ import annotations

from flows.terminal.console import print_json, print_table


def list_recipes(*, as_json: bool) -> None:
    """Print the recipes with their papers, stages and differences."""
    from flows.recipe import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    if as_json:
        print_json(
            [
                {
                    "name": recipe.name,
                    "paper": recipe.paper,
                    "differs": recipe.differs,
                    "stages": [stage.name for stage in recipe.all_stages()],
                    "train": recipe.train_parts().to_json(),
                }
                for recipe in recipes
            ]
        )
        return
    rows = (
        (recipe.name, recipe.paper, " → ".join(stage.name for stage in recipe.all_stages()), recipe.differs)
        for recipe in recipes
    )
    print_table("recipes", ("recipe", "paper", "stages", "differs"), rows)
