"""Word lists: each stands once, in a file, and changes the fingerprint of the stages that depend on it."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from curation.engine.stage import Stage
from curation.stages import stage_classes
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.negatives.bind_attributes import BindAttributes
from curation.stages.negatives.swap_roles import SwapRoles
from curation.stages.negatives.swap_words import SwapWords
from curation.stages.selection.keep_top import KeepTop
from curation.text import wordlists
from curation.versions.numbering import stage_record
from flows.execution.estimate import _changes

NAMES = sorted(path.stem for path in wordlists.FOLDER.glob("*.txt"))
ROOT = Path(wordlists.__file__).parents[1]
SOURCES = {path: path.read_text() for path in sorted(ROOT.rglob("*.py"))}
LONGEST_IN_CODE = 15
"""Words that a collection in code may hold; longer ones are data."""


@pytest.mark.parametrize("name", NAMES)
def test_a_list_is_valid_and_starts_with_what_it_is(name: str) -> None:
    text = (wordlists.FOLDER / f"{name}.txt").read_text("utf-8")
    assert text.startswith("# ")
    assert "\n# Source: " in text
    assert text.endswith("\n")
    assert wordlists.word_rows(name)


def test_every_list_is_loaded_and_by_a_literal_name() -> None:
    calls = [name for source in SOURCES.values() for name in re.findall(r'\bword_(?:rows|map|sets)\("(\w+)"', source)]
    assert set(calls) == set(NAMES)
    named = [path for path, source in SOURCES.items() if re.search(r"\bword_(?:rows|map|sets)\((?!\")", source)]
    assert named == [ROOT / "text" / "wordlists.py"]


@pytest.mark.parametrize(
    "name", sorted({name for source in SOURCES.values() for name in re.findall(r'word_sets\("(\w+)"', source)})
)
def test_sets_are_sorted(name: str) -> None:
    assert list(wordlists.word_rows(name)) == sorted(wordlists.word_rows(name))


def test_no_set_stands_twice() -> None:
    names = {name for source in SOURCES.values() for name in re.findall(r'word_sets\("(\w+)"', source)}
    seen: dict[frozenset[str], str] = {}
    for name in sorted(names):
        for label, words in wordlists.word_sets(name).items():
            assert len(words) < 4 or words not in seen, f"{name}/{label} is {seen.get(words)}"
            seen[words] = f"{name}/{label}"


def test_words_are_data_not_code() -> None:
    for path, source in SOURCES.items():
        if ROOT / "sources" in path.parents:
            continue  # made-up scenes have a grammar of their own
        for node in ast.walk(ast.parse(source)):
            items = node.elts if isinstance(node, ast.Set | ast.Tuple | ast.List) else []
            words = [item.value for item in items if isinstance(item, ast.Constant) and str(item.value).islower()]
            assert len(words) <= LONGEST_IN_CODE or "_" in "".join(map(str, words)), f"{path.name}:{words}"


def test_lists_are_found_behind_every_import_of_a_stage() -> None:
    graph = grimp.build_graph("curation", cache_dir=None)
    calls = {path: set(re.findall(r'\bword_(?:rows|map|sets)\("(\w+)"', source)) for path, source in SOURCES.items()}
    of_module = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): names for path, names in calls.items()}
    for stage in stage_classes():
        behind = {stage.__module__, *graph.find_upstream_modules(stage.__module__)}
        expected = {name for module in behind for name in of_module.get(module, ())}
        assert set(wordlists.list_hashes(stage.__module__)) == expected, stage.name


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let the loader read a copy of the lists."""
    folder = tmp_path / "wordlists"
    shutil.copytree(wordlists.FOLDER, folder)
    monkeypatch.setattr(wordlists, "FOLDER", folder)
    clear()
    yield folder
    monkeypatch.undo()
    clear()


def clear() -> None:
    for function in (wordlists.word_rows, wordlists.word_map, wordlists.word_sets, wordlists.list_hashes):
        function.cache_clear()


def fingerprints(*stages: Stage) -> list[str]:
    clear()
    return [stage.fingerprint() for stage in stages]


def test_a_changed_list_changes_the_stages_that_depend_on_it_and_no_others(copied: Path) -> None:
    stages = BindAttributes(), SwapRoles(), SwapWords(), KeepTop(("s_clip_loss 50%",))
    before = fingerprints(*stages)
    with (copied / "semantic_roles.txt").open("a") as file:
        file.write("# only a comment\n\n")
    assert fingerprints(*stages) == before
    with (copied / "semantic_roles.txt").open("a") as file:
        file.write("symmetric_verbs\tmirror\n")
    after = fingerprints(*stages)
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False, True, True]


def test_stages_without_words_depend_on_no_list() -> None:
    free = {"check_images", "embed_samples", "find_neighbours", "keep_top", "hash_images", "score_alignment"}
    lists = {stage.name: wordlists.list_hashes(stage.__module__) for stage in stage_classes()}
    assert {name for name in free if lists[name]} == set()
    assert set(wordlists.list_hashes(LinkConcepts.__module__)) == {
        "concept_linking",
        "homonyms",
        "sense_classes",
        "word_sense",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog\tanimal\ndog\tanimal\n", r"line 2: the same as line 1"),
        ("dog\t\n", "line 1: a column is empty"),
        ("# dogs\n\ndog \tanimal\n", "line 3: a column is empty or has spaces around it"),
    ],
)
def test_a_broken_list_is_refused(copied: Path, text: str, message: str) -> None:
    (copied / "colours.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        wordlists.word_rows("colours")


def test_a_word_has_one_value_in_a_mapping(copied: Path) -> None:
    (copied / "colours.txt").write_text("rose\tpink\nrose\tred\n")
    with pytest.raises(ValueError, match="colours.txt: a word has two values"):
        wordlists.word_map("colours")


def test_a_plan_names_the_lists_that_changed() -> None:
    record = stage_record(SwapRoles())
    other = {**record, "word_lists": {**record["word_lists"], "people": "0", "semantic_roles": "1"}}
    assert _changes(record, other) == ["word lists changed: people, semantic_roles"]
    older = {name: value for name, value in record.items() if name != "word_lists"}
    assert _changes(older, record) == ["the last version did not record its word lists"]
    assert _changes(record, record) == []
