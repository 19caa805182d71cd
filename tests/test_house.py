"""The house rules that a machine can hold: budgets, light imports, and tables in step with the code.

Run as a script it writes the generated tables into the READMEs.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from curation.engine.stage import Stage
from curation.stages import stage_classes
from flows.recipe import load_recipe, recipe_names
from tests.benchmarks.keep_results import RESULTS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("curation", "data_manifests", "flows", "training")
MAX_FUNCTION_LINES = 60
MAX_RECIPE_LINES = 60
HEAVY = ("torch", "spacy", "prefect", "transformers", "open_clip", "polars", "pyarrow", "faiss", "pandas")


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_budgets(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.parent.name == "recipes":
        assert len(text.splitlines()) <= MAX_RECIPE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert {path.stem for path in modules()}.isdisjoint({"utils", "helpers", "common", "base", "manager"})


@pytest.mark.parametrize("stage", stage_classes(), ids=lambda stage: stage.name)
def test_stage_declares_itself(stage: type[Stage]) -> None:
    assert Path(inspect.getfile(stage)).stem == stage.name
    assert dataclasses.is_dataclass(stage)
    assert stage.source
    assert "Source:" in (stage.__doc__ or "")
    assert "Differs:" in (stage.__doc__ or "")


def test_page_style_parses_and_styles_only_what_pages_have() -> None:
    import tinycss2

    folder = ROOT / "flows" / "pages"
    used = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.suffix in (".py", ".js"))
    rules = tinycss2.parse_stylesheet((folder / "page.css").read_text(encoding="utf-8"), skip_whitespace=True)
    while rules:
        rule = rules.pop()
        assert rule.type != "error", rule.message
        if rule.type == "at-rule":
            assert rule.at_keyword == "media"
            rules += tinycss2.parse_rule_list(rule.content, skip_whitespace=True)
        elif rule.type == "qualified-rule":
            for name in re.findall(r"\.([a-z][\w-]*)", tinycss2.serialize(rule.prelude)):
                assert re.search(rf"\b{name}\b|s\{{", used), name
            declarations = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
            assert [item for item in declarations if item.type != "declaration"] == []


def test_listing_recipes_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli.main import app; from flows.recipe import load_recipe, recipe_names;"
        "[load_recipe(name) for name in recipe_names()]; print(','.join(sorted(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(loaded.stdout.strip().split(",")).isdisjoint(HEAVY)


SHOWN = {
    "order order_accuracy": "order", "swaps accuracy": "swaps", "retrieval image_to_text_R@1": "R@1 image→text",
    "retrieval text_to_image_R@1": "text→image", "zero_shot top1": "zero-shot",
}  # fmt: skip


def measured() -> dict[str, str]:
    """Return what the kept comparison says of each recipe, per cent."""
    rows = orjson.loads(RESULTS.read_bytes())["rows"]
    return {
        name: ", ".join(f"{label} {row['numbers'][key][0]:.1f}" for key, label in SHOWN.items())
        for name, row in rows.items()
    }


def recipe_table() -> str:
    rows = ["| paper | recipe | stages | planner, objectives | measured |", "| --- | --- | --- | --- | --- |"]
    found = measured()
    for recipe in (load_recipe(name) for name in recipe_names()):
        stages = ", ".join(stage.name for stage in recipe.all_stages()[1:]) or "-"
        objectives = ", ".join(objective.name for objective in recipe.objectives)
        rows.append(
            f"| {recipe.paper} | `{recipe.name}` | {stages} | {recipe.planner.name}; {objectives} "
            f"| {found.get(recipe.name, 'not yet')} |"
        )
    return "\n".join(rows)


def stage_table() -> str:
    rows = ["| stage | adds | may drop as | source |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{stage.name}` | {', '.join(item.name for item in stage.provides)} | {', '.join(stage.drops) or '-'} "
        f"| {stage.source} |"
        for stage in stage_classes()
    ]
    return "\n".join(rows)


def command_table() -> str:
    from flows.cli.main import app

    rows = ["| command | what it does |", "| --- | --- |"]
    groups = [
        ("", app),
        *((f"{group.name} " if group.name else "", group.typer_instance) for group in app.registered_groups),
    ]
    for prefix, group in groups:
        assert group is not None
        for command in group.registered_commands:
            callback = command.callback
            assert callback is not None
            first = (callback.__doc__ or "").strip().splitlines()[0]
            rows.append(f"| `clipcurate {prefix}{callback.__name__}` | {first} |")
    return "\n".join(rows)


GENERATED = {"recipes": recipe_table, "stages": stage_table, "commands": command_table}
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from (ROOT / package / "README.md" for package in PACKAGES)


def filled(text: str) -> str:
    return _BLOCK.sub(lambda found: f"{found[1]}{GENERATED[found[2]]()}\n{found[3]}", text)


@pytest.mark.parametrize("path", list(pages()), ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_tables_are_in_step(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == filled(text), "run: make docs"


def test_every_table_is_on_some_page() -> None:
    shown = {found[2] for path in pages() for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))}
    assert shown == set(GENERATED)


def test_nothing_names_a_folder_of_some_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".json", ".txt", ""} and path.is_file():
            assert f"{ROOT.parent}/" not in path.read_text(encoding="utf-8"), name


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
