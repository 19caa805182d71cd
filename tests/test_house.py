"""The house rules that a machine can check: sizes of functions and recipes, names of modules, light imports."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from curation.engine.stage import Stage
from curation.stages import stage_classes

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("curation", "data_manifests", "flows", "training")
MAX_FUNCTION_LINES = 60
MAX_RECIPE_LINES = 60
HEAVY = ("torch", "spacy", "prefect", "transformers", "open_clip", "polars", "pyarrow", "faiss", "pandas")
SLOW = ("asyncio", "ssl", "filelock", "rich.progress")
"""What a list needs none of, and what takes a tenth of its start each."""


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


@pytest.mark.parametrize("style", ["pages/page.css", "window/window.css"])
def test_page_style_parses_and_styles_only_what_pages_have(style: str) -> None:
    import tinycss2

    path = ROOT / "flows" / style
    used = "\n".join(file.read_text(encoding="utf-8") for file in path.parent.rglob("*") if file.suffix in (".html", ".py", ".js"))
    rules = tinycss2.parse_stylesheet(path.read_text(encoding="utf-8"), skip_whitespace=True)
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


@pytest.mark.parametrize(("words", "more"), [(["recipes", "--json"], ()), (["--help"], ("numpy", "pydantic"))])
def test_listing_recipes_imports_nothing_heavy(words: list[str], more: tuple[str, ...]) -> None:
    """The two commands that a new user types first start quickly; what each module may bring is a matter of its imports."""
    code = (
        f"import sys; sys.argv = ['clipcurate', *{words!r}]\n"
        "from flows.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print(','.join(sorted(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0 and ran.stdout, ran.stderr
    loaded = set(ran.stderr.strip().split(","))
    assert "flows.cli.app" in loaded and loaded.isdisjoint((*HEAVY, *SLOW, *more)), loaded & {*HEAVY, *SLOW, *more}


def test_nothing_names_a_folder_of_some_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".json", ".txt", ""} and path.is_file():
            assert f"{ROOT.parent}/" not in path.read_text(encoding="utf-8"), name
