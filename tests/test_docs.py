"""The documents: generated parts in step, links that lead somewhere, and commands that run, or at least parse.

A block of commands is run, page by page in one folder with generated photographs in `photos`, unless the comment above it says why
not (``<!-- not run: REASON -->``) or that it takes long (``<!-- slow -->``). Every command is parsed by the real command line.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

import curation.sources
import curation.stages.captions
import flows.recipes
import training.batches
import training.objectives
from curation.engine.stage import check_order
from flows.cli.app import app
from flows.cli.demo import write_photos
from flows.cli.main import main
from flows.evaluation.registry import KINDS as BENCHMARKS
from flows.recipe import load_recipe
from flows.recipe_finding import own_recipe_names
from tests.generated_docs import GENERATED, PACKAGES, ROOT, blocks, filled, pages

MAX_README_WORDS = 1000
"""Outside the generated table of recipes, which has about 35 words a recipe: with today's recipes 1,500 in all."""
GUIDES = [path for path in pages() if path.parent.name not in PACKAGES]
NUM_PHOTOGRAPHS = 40
LONG = ("README.md", "docs/curate.md")
"""Pages whose commands take more than 20 seconds."""

FOREIGN_OPTIONS = {"--help", "--json-text-key"}
"""Options in prose that are not ours, or that every command has."""

_COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
_FENCE = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment above it."""

    kind: str
    text: str
    note: str

    @property
    def runs(self) -> bool:
        """Whether a test runs it."""
        return self.kind in ("bash", "python") and not self.note.startswith(("not run: ", "generated: "))

    def commands(self) -> list[list[str]]:
        """Return the commands' words."""
        joined = _COMMENT.sub("", self.text).replace("\\\n", " ")
        return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def fenced(page: Path) -> list[Block]:
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(item["kind"], item["text"], item["note"] or "") for item in found]


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", pages(), ids=page_id)
each_guide = pytest.mark.parametrize("page", GUIDES, ids=page_id)


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put docs/examples where docs/extending.md says its files go."""
    packages = {
        "sources": curation.sources,
        "stages": curation.stages.captions,
        "recipes": flows.recipes,
        "objectives": training.objectives,
        "batches": training.batches,
    }
    for folder, package in packages.items():
        path = ROOT / "docs" / "examples" / folder
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(path)])
    monkeypatch.setattr(curation.sources, "KINDS", (*curation.sources.KINDS, "tsv"))
    yield
    for folder, package in packages.items():
        for file in (ROOT / "docs" / "examples" / folder).glob("*.py"):
            sys.modules.pop(f"{package.__name__}.{file.stem}", None)
            if hasattr(package, file.stem):
                delattr(package, file.stem)


@each_page
def test_generated_parts_are_in_step(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == filled(text), "run: make docs"


def test_every_generated_part_is_on_some_page() -> None:
    assert {name for page in pages() for name in blocks(page.read_text(encoding="utf-8"))} == set(GENERATED)


def test_the_readme_is_short() -> None:
    written = filled((ROOT / "README.md").read_text(encoding="utf-8"), blank=True)
    assert len(written.split()) <= MAX_README_WORDS, "as `wc -w` counts them: code and its marks, too"


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_readmes_name_files_that_exist(package: str) -> None:
    files = {path.name for path in (ROOT / package).rglob("*.py")}
    named = re.findall(r"`([a-z0-9_/]+\.py)`", (ROOT / package / "README.md").read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).exists() and name.rpartition("/")[2] not in files] == []


def resolve(words: list[str]) -> tuple[Any, str, list[str]]:
    """Return the command that words name, its name, and the words after it."""
    command: Any = typer.main.get_command(app)
    name, rest = "clipcurate", list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        name = rest.pop(0)
        command = command.commands[name]
    return command, name, rest


def options(command: Any) -> set[str]:
    names = (name for item in command.params for name in (*item.opts, *item.secondary_opts))
    return {name for name in names if name.startswith("--")}


def check_clipcurate(words: list[str]) -> None:
    """Parse a whole command, and look up its recipes, sources, benchmarks and settings."""
    command, name, rest = resolve(words)
    assert not hasattr(command, "commands"), f"no such command: {words}"
    given = command.make_context(name, rest).params
    recipe = given.get("recipe")
    for item in [*(given.get("recipes") or ()), *([recipe] if recipe else [])]:
        assert item in own_recipe_names() or item.endswith(".py")
    if (
        recipe in own_recipe_names() and name != "train"
    ):  # a run of settings belongs to the stages that they are given to
        load_recipe(recipe, settings=given["settings"] or ())
    for kinds, values in ((curation.sources.KINDS, [given.get("source")]), (BENCHMARKS, given.get("on") or ())):
        assert {value.partition(":")[0] for value in values if value} <= set(kinds)


def check_words(words: list[str]) -> None:
    """Check a command by what its first words say."""
    if words[0] == "clipcurate":
        check_clipcurate(words[1:])
    elif "-m" in words:
        module, *rest = words[words.index("-m") + 1 :]
        assert importlib.util.find_spec(module), module
        if module == "flows.cli.main":
            check_clipcurate(rest)
    elif words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    else:
        assert words[0] in {"pip", "vllm", "prefect", "export"}


with_examples = pytest.mark.usefixtures("examples")


@with_examples
@each_guide
def test_shown_commands_parse(page: Path) -> None:
    for block in fenced(page):
        if block.kind == "bash":
            for words in block.commands():
                check_words(words)


@each_page
def test_commands_and_options_in_prose_exist(page: Path) -> None:
    every: set[str] = set(FOREIGN_OPTIONS)
    root: Any = typer.main.get_command(app)
    stack: list[Any] = [root]
    while stack:
        command = stack.pop()
        every |= options(command)
        stack += getattr(command, "commands", {}).values()
    for code in _INLINE.findall(prose(page)):
        words = code.split()
        named = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        known = every
        if words[0] == "clipcurate" and len(words) > 1 and words[1].islower():
            command, _, _ = resolve(words[1:])
            assert not hasattr(command, "commands") or len(words) == 2, code
            known = options(command) | {"--help"} | FOREIGN_OPTIONS
        if words[0] in {"clipcurate", *root.commands} or words[0].startswith("--"):
            assert named <= known, code


def test_troubleshooting_quotes_real_messages() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    table = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## Situations")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert quoted
    for message in quoted:
        assert message in source, message


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> None:
    """Run a page's blocks one after the other in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one worker is this process, which starts quickly
    write_photos(folder / "photos", NUM_PHOTOGRAPHS)
    for block in fenced(page):
        if block.note.startswith("file: "):
            Path(block.note.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
        if not block.runs or (block.note == "slow" and not slow):
            continue
        if block.kind == "python":
            exec(compile(block.text, str(page), "exec"), {"__name__": "__main__"})
            continue
        for words in block.commands():
            assert words[0] == "clipcurate", "mark what is not run with the reason"
            monkeypatch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as left:
                main()
            assert not left.value.code, shlex.join(words)


def runnable(*, slow: bool) -> list[Path]:
    return [page for page in GUIDES if any(block.runs and (block.note == "slow") == slow for block in fenced(page))]


def marked(pages: list[Path]) -> list[Any]:
    """Return pages as parameters, those whose commands take more than 20 seconds as slow ones."""
    long = [pytest.mark.slow]
    return [pytest.param(page, id=page_id(page), marks=long if page_id(page) in LONG else []) for page in pages]


ignoring = pytest.mark.filterwarnings(
    "ignore:model 'tiny'", "ignore:TypedStorage is deprecated", "ignore:model 'lite0_minilm'"
)


@ignoring
@with_examples
@pytest.mark.parametrize("page", marked(runnable(slow=False)))
def test_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, tmp_path, monkeypatch, slow=False)


@ignoring
@with_examples
@pytest.mark.slow
@pytest.mark.parametrize("page", runnable(slow=True), ids=page_id)
def test_slow_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, tmp_path, monkeypatch, slow=True)


@with_examples
def test_the_example_recipe_fits_together() -> None:
    recipe = load_recipe("hinge_clip")
    check_order(recipe.all_stages())
    for stage in recipe.all_stages():
        assert "Source:" in (stage.__doc__ or "") and "Differs:" in (stage.__doc__ or "")
