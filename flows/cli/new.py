"""``clipcurate new``: a stage or a recipe of one's own to start from, with its test."""

from __future__ import annotations

import importlib.resources
import importlib.util
import keyword
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from data_manifests.errors import InputError
from flows.terminal.console import out

app = typer.Typer(name="new", no_args_is_help=True, help="Write a stage or a recipe of your own, with its test.")

NameArg = Annotated[str, typer.Argument(metavar="NAME", help="its name: small letters, digits and _")]
OutOpt = Annotated[Path, typer.Option("--out", help="folder of the two files; made if it is not there")]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@app.command()
def stage(name: NameArg, folder: OutOpt = Path()) -> None:
    """Write NAME.py, a stage with a recipe to try it, and test_NAME.py."""
    from flows.recipe_check import own_stage_names

    write_template("stage", name, folder, own_stage_names())


@app.command()
def recipe(name: NameArg, folder: OutOpt = Path()) -> None:
    """Write NAME.py, a recipe, and test_NAME.py."""
    from flows.recipe_finding import recipe_names

    write_template("recipe", name, folder, {*recipe_names()})


def write_template(kind: Literal["stage", "recipe"], name: str, folder: Path, taken: set[str]) -> None:
    """Write a plug-in and its test; nothing that is there is overwritten.

    Args:
        kind: What it is.
        name: Its name.
        folder: Where the files are written.
        taken: Names that it may not have.

    Raises:
        InputError: the name cannot be used, or a file is there already.
    """
    check_plugin_name(kind, name, taken)
    class_name = "".join(word.capitalize() for word in name.split("_"))
    files = {folder / f"{name}.py": f"{kind}.py.txt", folder / f"test_{name}.py": f"test_{kind}.py.txt"}
    if there := [path for path in files if path.exists() or path.is_symlink()]:
        raise InputError(
            f"{there[0]} exists already", allowed="new files only", fix="give another NAME, or another folder as --out"
        )
    check_no_module(kind, name)
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in files.items():
        text = (importlib.resources.files("flows.templates") / template).read_text(encoding="utf-8")
        for word, value in (("CLASS", class_name), ("NAME", name), ("FILE", path.stem)):
            text = text.replace(word, value)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    made, test = files
    out.print(f"wrote {made} and {test}", markup=False, highlight=False, soft_wrap=True)
    for command in (f"pytest {test}", f"clipcurate curate {made} --source folder:photos --name tried"):
        out.print(f"  next: {command}", markup=False, highlight=False, soft_wrap=True)


def check_plugin_name(kind: str, name: str, taken: set[str]) -> None:
    """Check a name of a plug-in, which is that of its file and module, too.

    Raises:
        InputError: it is malformed, or taken by clipcurate or an installed package.
    """
    where = f"new {kind} {name!r}"
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("test_"):
        raise InputError(
            where, allowed="1 to 40 small letters, digits and _, a letter first, no word of Python, not test_...",
            fix="for example my_stage" if kind == "stage" else "for example my_clip",
        )  # fmt: skip
    if name in taken:
        raise InputError(f"{where}: there is a {kind} of this name", allowed="a new name", fix=f"for example my_{name}")


def check_no_module(kind: str, name: str) -> None:
    """Check that no module has the name.

    Raises:
        InputError: Python would import that one.
    """
    if importlib.util.find_spec(name) is not None:
        raise InputError(
            f"new {kind} {name!r}: Python has a module of this name, which the test would import instead",
            allowed="a name that no module has",
            fix=f"for example my_{name}",
        )
