"""The generated parts of README.md, docs/ and the packages' READMEs.

A generated part stands between ``<!-- generated: NAME -->`` (or ``<!-- generated: NAME ARGUMENT -->``) and ``<!-- end -->``.

Run: python -m tests.generated_docs (``make docs``) writes all of them; `tests/test_docs.py` checks that none is stale.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import typer

import clipcurate
from curation.stages import stage_classes
from flows.cli.app import app
from flows.cli.train_help import training_numbers
from flows.execution.advise import MeasuredData
from flows.project_file import OPTIONS, variable
from flows.recipe import Recipe, load_recipe
from flows.recipe_finding import find_recipe, own_recipe_names
from tests.benchmarks.keep_results import RESULTS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("curation", "data_manifests", "flows", "training")

MEASURED = {
    "retrieval image_to_text_R@1": "R@1 image→text",
    "retrieval text_to_image_R@1": "R@1 text→image",
    "zero_shot top1": "zero-shot",
}
"""Numbers of `training/results.json` that the tables of recipes show, with their headings."""

SHORT = ("R@1 image→text/text→image", "zero-shot")
"""Headings of the README's table, which has both R@1 in one column."""

OPTION_OF = {
    "model": "--model", "graph": "--graph", "writer": "--llm", "masked": "--masked-model", "against": "--against",
    "feedback": "--feedback", "vocabulary": "--vocabulary",
}  # fmt: skip
"""The option of `clipcurate curate` that fills each argument of a recipe."""

_BLOCK = re.compile(r"(<!-- generated: (\w+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)
_CITATION = re.compile(r"(\w+ \d{4}), .*arXiv ([\d.]+)")


def pages() -> list[Path]:
    """Return every page that users and contributors read."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *(ROOT / package / "README.md" for package in PACKAGES),
    ]


def blocks(text: str) -> Iterator[str]:
    """Yield the names of a page's generated parts."""
    return (found[2] for found in _BLOCK.finditer(text))


def filled(text: str, *, blank: bool = False) -> str:
    """Return a page with its generated parts as they should be now, or blank."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}{'' if blank else GENERATED[found[2]](*filter(None, [found[3]]))}\n{found[4]}"

    return _BLOCK.sub(part, text)


def recipe_table() -> str:
    """Return the README's table: one line a recipe."""
    measured = orjson.loads(RESULTS.read_bytes())["rows"]
    rows = [_row("paper", "what it does", "recipe", *SHORT), _row(*["---"] * 3, *["---:"] * len(SHORT))]
    for name in own_recipe_names():
        recipe, numbers = load_recipe(name), measured.get(name, {}).get("numbers", {})
        values = [f"{numbers[key][0]:.1f}" if key in numbers else "-" for key in MEASURED]
        values[:2] = ["/".join(values[:2]).replace("-/-", "-")]
        rows.append(_row(_citation(recipe.paper), _summary(name), f"`{name}`", *values))
    return "\n".join(rows)


def recipe_details() -> str:
    """Return what each recipe is made of."""
    return "\n\n".join(_details(load_recipe(name)) for name in own_recipe_names())


def stage_table() -> str:
    """Return the table of all curation stages."""
    rows = [_row("stage", "adds", "may drop as", "source"), _row(*["---"] * 4)]
    for stage in stage_classes():
        adds = ", ".join(item.name for item in stage.provides if item.role != "evidence")
        rows.append(_row(f"`{stage.name}`", adds, ", ".join(stage.drops) or "-", stage.source))
    return "\n".join(rows)


def cli_reference() -> str:
    """Return the reference of all commands, from the command line's own help texts."""
    root: Any = typer.main.get_command(app)
    parts = [f"Before the command:\n\n{_options(root)}"]
    for name, command in _commands(root):
        arguments = [item for item in command.params if not item.opts[0].startswith("-")]
        words = " ".join(_argument(item) for item in arguments)
        usage = f"`clipcurate {name}{' ' + words if words else ''}{' [OPTIONS]' if _shown(command) else ''}`"
        described = [f"- `{_argument(item).strip('[]')}`: {item.help}" for item in arguments if item.help]
        text = "\n".join((inspect.cleandoc(command.help or ""), "", usage, *(["", *described] if described else [])))
        parts.append(f"## clipcurate {name}\n\n{text}" + (f"\n\n{_options(command)}" if _shown(command) else ""))
    return "\n\n".join(parts)


def train_table() -> str:
    """Return the table of training numbers that `clipcurate train --help` prints."""
    rows = [_row("setting", "type", "default", "what it is"), _row(*["---"] * 4)]
    told = (
        (f"`{name}`", kind.replace("|", "\\|"), default and f"`{default}`", text)
        for name, kind, default, text in training_numbers()
    )
    return "\n".join([*rows, *(_row(*cells) for cells in told)])


def settings_table() -> str:
    """Return the table of options that a project's file and variables may set."""
    rows = [_row("in the file", "variable", "value"), _row(*["---"] * 3)]
    return "\n".join(rows + [_row(f"`{key}`", f"`{variable(key)}`", kind.words) for key, kind in OPTIONS.items()])
def measured_tables() -> str:
    """Return a table for each comparison that `clipcurate advise` knows."""
    return "\n\n".join(_measured_table(one) for one in MeasuredData.load_all())


def python_reference() -> str:
    """Return the reference of `import clipcurate`, from docstrings: functions, then classes with what they offer."""
    promised = [getattr(clipcurate, name) for name in clipcurate.__all__]
    functions = [item for item in promised if not isinstance(item, type)]
    classes = [item for item in promised if isinstance(item, type)]
    parts = [f"### {item.__name__}\n\n`{_signature(item)}`\n\n{_docstring(item)}" for item in functions]
    for item in classes:
        members = [
            (name, value) for name, value in vars(item).items() if not name.startswith("_") and _is_member(value)
        ]
        lines = [f"- `{_member(name, value)}`: {_first_line(value)}" for name, value in members]
        parts.append(f"### {item.__name__}\n\n{_docstring(item)}" + ("\n\n" + "\n".join(lines) if lines else ""))
    return "\n\n".join(parts)


def included_file(path: str) -> str:
    """Return a file of this repository as a block of code."""
    return f"```python\n{(ROOT / path).read_text(encoding='utf-8').strip()}\n```"


GENERATED: dict[str, Callable[..., str]] = {
    "recipes": recipe_table,
    "recipe_details": recipe_details,
    "stages": stage_table,
    "cli": cli_reference,
    "settings": settings_table,
    "python": python_reference,
    "train_settings": train_table,
    "file": included_file,
    "measured": measured_tables,
}


def _signature(function: Callable[..., Any]) -> str:
    """Return how a function is called, without types."""
    signature = inspect.signature(function)
    bare = [item.replace(annotation=inspect.Parameter.empty) for item in signature.parameters.values()]
    shown = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    return f"{function.__name__}{shown}".replace("(self, ", "(").replace("(self)", "()")


def _is_member(value: Any) -> bool:
    return isinstance(value, property) or inspect.isfunction(value)


def _member(name: str, value: Any) -> str:
    return name if isinstance(value, property) else _signature(value)


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").splitlines()[0]


def _docstring(item: Any) -> str:
    """Return a docstring as Markdown: its sections as lists."""
    lines: list[str] = []
    for line in (inspect.getdoc(item) or "").replace("``", "`").splitlines():
        if line in _SECTIONS:
            lines += [line, ""]
        elif not line.startswith("    "):
            lines.append(line)
        elif found := re.match(r"    (\w+): (.*)", line):
            lines.append(f"- `{found[1]}`: {found[2]}")
        else:
            lines.append(("- " if lines[-1] == "" else "  ") + line.strip())
    return "\n".join(lines)


_SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Warns:")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _measured_table(one: MeasuredData) -> str:
    tests = list(dict.fromkeys(gap.test for row in one.rows for gap in row.differences))
    heading = f"### {one.describe()[0].upper()}{one.describe()[1:]}\n\n{one.budget}\n"
    lines = [_row("recipe", *tests, "training takes", "gate"), _row("---", *["---:"] * (len(tests) + 1), "---")]
    for row in one.rows:
        cells = {gap.test: f"{gap.value:+.1f} ({gap.low:+.1f} to {gap.high:+.1f})" for gap in row.differences}
        cells |= {gap.test: f"**{cells[gap.test]}**" for gap in row.differences if gap.told_apart}
        gate = "failed" if row.failed else "passed"
        lines.append(_row(f"`{row.recipe}`", *(cells.get(test, "") for test in tests), "not measured" if row.times_longer is None else f"{row.times_longer:g}x", gate))
    return "\n".join([heading, *lines])


def _summary(recipe: str) -> str:
    """Return the first line of the docstring of a recipe's file."""
    return (importlib.import_module(f"flows.recipes.{recipe}").__doc__ or "").strip().splitlines()[0].rstrip(".")


def _citation(paper: str) -> str:
    """Return the short form of a recipe's paper: author, year, arXiv number."""
    first = paper.partition(";")[0]
    found = _CITATION.fullmatch(first)
    return f"{found[1]}, [{found[2]}](https://arxiv.org/abs/{found[2]})" if found else first


def _details(recipe: Recipe) -> str:
    arguments = [OPTION_OF[name] for name in find_recipe(recipe.name).arguments]
    parts = {
        "Paper": recipe.paper,
        "Differs": recipe.differs,
        "Stages": " → ".join(stage.name for stage in recipe.all_stages()),
        "Batches": recipe.planner.name,
        "Objectives": ", ".join(f"{objective.name} ({objective.weight:g})" for objective in recipe.objectives),
        "Options": ", ".join(f"`{option}`" for option in arguments) or "none of its own",
    }
    return f"### `{recipe.name}`\n\n" + "\n".join(f"- {name}: {text}" for name, text in parts.items())


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _shown(command: Any) -> list[Any]:
    return [item for item in command.params if item.opts[0].startswith("--") and item.name not in _TYPER_OWN]


def _options(command: Any) -> str:
    rows = [_row("option", "default", "what it does"), _row(*["---"] * 3)]
    for item in _shown(command):
        help_text = (item.help or "").replace("|", "\\|") + (" (repeatable)" if _unsaid_repeat(item) else "")
        names = "/".join(f"`{name}`" for name in (item.opts[0], *item.secondary_opts))
        rows.append(_row(names, _default(item), help_text.strip()))
    return "\n".join(rows)


def _unsaid_repeat(parameter: Any) -> bool:
    return bool(parameter.multiple) and "repeat" not in (parameter.help or "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
    return "" if value is None or value is False or value == "" else f"`{value}`"


_TYPER_OWN = ("install_completion", "show_completion", "help")


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
