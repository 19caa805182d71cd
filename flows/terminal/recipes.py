"""The list of recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_manifests.errors import InputError
from flows.recipe import Recipe, load_recipe
from flows.recipe_finding import find_recipe, own_recipe_names, recipe_names, shadowed_recipes
from flows.terminal.console import err, print_json, print_table


def list_recipes(chosen: Sequence[str] = (), *, as_json: bool) -> None:
    """Print recipes with their papers, stages and differences.

    Args:
        chosen: Names or files; all recipes if there are none.
        as_json: Print only JSON.

    Raises:
        InputError: a chosen recipe, or one of ours, cannot be loaded. One that another package offers is left out with a
            warning.
    """
    recipes = [(text, load_recipe(text)) for text in chosen] if chosen else [*_all_recipes()]
    if as_json:
        print_json(
            [
                {
                    "name": recipe.name,
                    "paper": recipe.paper,
                    "differs": recipe.differs,
                    "stages": [stage.name for stage in recipe.all_stages()],
                    "train": recipe.train_parts().to_json(),
                    **({"origin": origin} if (origin := find_recipe(text).origin) else {}),
                }
                for text, recipe in recipes
            ]
        )
        return
    rows = (
        (recipe.name, recipe.paper, " → ".join(stage.name for stage in recipe.all_stages()), recipe.differs)
        for _, recipe in recipes
    )
    print_table("recipes", ("recipe", "paper", "stages", "differs"), rows)


def _all_recipes() -> Iterator[tuple[str, Recipe]]:
    """Yield our recipes and those of other packages; what is wrong with these is a warning."""
    warnings, own = shadowed_recipes(), own_recipe_names()
    for name in recipe_names():
        try:
            yield name, load_recipe(name)
        except InputError as error:
            if name in own:
                raise
            warnings.append(str(error))
    for warning in warnings:
        err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
