"""Negatives of a version: counted, filtered, drawn, printed; their edits marked and nobody's markup believed."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from curation.stages.hygiene.check_images import CheckImages
from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from data_manifests.negatives import (
    ALL_KINDS,
    MAX_PIECES,
    NegativeFilter,
    blind_gaps,
    draw_negatives,
    edit_pieces,
    read_negatives,
    shorten_pieces,
)
from data_manifests.text_diff import DiffPiece
from flows.cli.main import main
from flows.terminal import negatives
from tests.data_manifests.built_versions import Picture, build, negative, picture

HOSTILE = "[red]a[/red] <script>alert(1)</script> \x1b]0;owned\x07\u202e dog"
TYPES = ("object", "attribute", "relation")
NUM = 48


def records(number: int) -> list[dict[str, Any]]:
    """Return negatives of picture `number`: none, one or two, of all types, graded but for every seventh."""
    caption = f"A grey ball , number {number} ."
    hard = None if number % 7 == 0 else number / 100
    made = []
    for place in range(number % 3):
        more = {"type": TYPES[number // 3 % 3], "difficulty": hard, "scores": '{"blind_words":-0.5,"edit":0.1}'}
        made.append(negative(0, caption, 2, 6, f"red{place}", operation=("replace", "swap")[place], **more))
    return made


def pictures(count: int) -> list[Picture]:
    return [
        picture(number, f"A grey ball , number {number} .", negatives=tuple(records(number))) for number in range(count)
    ]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    odd = negative(0, HOSTILE, len(HOSTILE) - 3, len(HOSTILE), "[b]cat[/b]", operation="swap", rule="[link=x]\x1b[31m")
    hostile = picture(90, HOSTILE, negatives=(odd,))
    made = build(tmp_path_factory.mktemp("negatives"), "drawn", [*pictures(NUM), hostile], shard_bytes=8_000)
    assert len(made.manifest.body["shards"]) > 2
    return made


def drawn_texts(version: DatasetVersion, wanted: NegativeFilter, limit: int, seed: int) -> list[tuple[str, str]]:
    shown = read_negatives(version, draw_negatives(version, wanted, limit, seed))
    return [(item.caption, item.record["text"]) for item in shown]


def test_counts_are_those_of_the_version(version: DatasetVersion) -> None:
    drawn = draw_negatives(version, NegativeFilter(types=("relation",)), 1000, 0)
    expected = Counter((item["operation"], item["type"]) for number in range(NUM) for item in records(number))
    expected["swap", "attribute"] += 1
    assert dict(drawn.counts) == expected
    assert drawn.matching == {kind: expected[kind] if kind[1] == "relation" else 0 for kind in expected}
    assert len(drawn.positions[ALL_KINDS]) == sum(drawn.matching.values()) == 15


@pytest.mark.parametrize(
    "wanted",
    [
        NegativeFilter(),
        NegativeFilter(types=("attribute", "relation")),
        NegativeFilter(operations=("swap",)),
        NegativeFilter(low=0.1),
        NegativeFilter(high=0.1),
        NegativeFilter(types=("relation",), operations=("replace",), low=0.05, high=0.17),
    ],
)
def test_filters_pass_what_a_loop_passes(version: DatasetVersion, wanted: NegativeFilter) -> None:
    def fits(item: dict[str, Any]) -> bool:
        hard = item.get("difficulty")
        return (
            (not wanted.types or item["type"] in wanted.types)
            and (not wanted.operations or item["operation"] in wanted.operations)
            and (wanted.low is None or (hard is not None and hard >= wanted.low))
            and (wanted.high is None or (hard is not None and hard <= wanted.high))
        )

    every = [item for row in version_rows(version) for item in row]
    shown = read_negatives(version, draw_negatives(version, wanted, 1000, 3))
    assert sorted(item.record["text"] for item in shown) == sorted(item["text"] for item in every if fits(item))
    assert 0 < len(shown) < len(every) or wanted == NegativeFilter()


def version_rows(version: DatasetVersion) -> list[list[dict[str, Any]]]:
    shards = range(len(version.manifest.body["shards"]))
    return [row for shard in shards for row in version.sidecar(shard, ["negatives"])["negatives"].to_pylist()]


def test_draws_are_repeatable_seeded_and_nested(version: DatasetVersion) -> None:
    eight = drawn_texts(version, NegativeFilter(), 8, 0)
    assert len(eight) == 8
    assert drawn_texts(version, NegativeFilter(), 8, 0) == eight
    assert set(drawn_texts(version, NegativeFilter(), 4, 0)) < set(eight)
    assert drawn_texts(version, NegativeFilter(), 8, 1) != eight
    swaps = draw_negatives(version, NegativeFilter(operations=("swap",)), 8, 0)
    both = draw_negatives(version, NegativeFilter(), 8, 0)
    narrow = [place for place in both.positions[ALL_KINDS] if place[2] == 1]
    assert narrow == [place for place in swaps.positions[ALL_KINDS] if place[2] == 1][: len(narrow)], (
        "the same ones come first"
    )


def test_every_kind_is_among_a_draw_of_each(version: DatasetVersion) -> None:
    drawn = draw_negatives(version, NegativeFilter(), 1, 0, of_each_kind=True)
    assert set(drawn.positions) == set(drawn.counts)
    assert {len(positions) for positions in drawn.positions.values()} == {1}


def test_each_negative_comes_with_its_own_caption(version: DatasetVersion) -> None:
    for item in read_negatives(version, draw_negatives(version, NegativeFilter(), 1000, 0)):
        pieces = edit_pieces(item.caption, item.record)
        assert "".join(piece.text for piece in pieces if piece.kind != "added") == item.caption
        assert "".join(piece.text for piece in pieces if piece.kind != "removed") == item.record["text"]
        assert sum(piece.kind == "added" for piece in pieces) == 1


def test_what_cannot_be_meant_is_refused(version: DatasetVersion, tmp_path: Path) -> None:
    for wrong in ({"low": -0.1}, {"high": 1.5}, {"low": 0.6, "high": 0.5}, {"low": float("nan")}):
        with pytest.raises(InputError):
            NegativeFilter(**wrong)
    with pytest.raises(
        InputError, match="(?s)did you mean 'relation'.*attribute, object, relation|attribute, relation"
    ):
        draw_negatives(version, NegativeFilter(types=("relatoin",)), 1, 0)
    with pytest.raises(InputError, match="--operation 'shuffle'"):
        draw_negatives(version, NegativeFilter(operations=("shuffle",)), 1, 0)
    plain = build(tmp_path, "plain", [picture(1)], (CheckImages(),))
    with pytest.raises(InputError, match="has no negatives"):
        draw_negatives(plain, NegativeFilter(), 1, 0)


@given(
    st.text(max_size=30),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.text("ab ", max_size=4)), max_size=4),
)
def test_edits_lead_from_caption_to_negative(caption: str, steps: list[tuple[int, int, str]]) -> None:
    text, edits, at = "", [], 0
    for skip, size, put in steps:
        start = min(at + skip, len(caption))
        end = min(start + size, len(caption))
        text += caption[at:start]
        edits.append([start, end, len(text), len(text) + len(put)])
        text += put
        at = end
    text += caption[at:]
    pieces = edit_pieces(caption, {"text": text, "edits": edits})
    if any(end > start or new_end > new_start for start, end, new_start, new_end in edits):
        assert "".join(piece.text for piece in pieces if piece.kind != "added") == caption
        assert "".join(piece.text for piece in pieces if piece.kind != "removed") == text
    assert all(piece.text for piece in pieces)


@pytest.mark.parametrize(
    "edits", [[], [[0, 99, 0, 3]], [[-3, 2, 0, 2]], [[5, 2, 5, 2]], [[3, 4, 3, 4]], [[2, 5, 2, 5], [3, 8, 3, 8]]]
)
def test_edits_that_do_not_lead_there_give_way_to_words(edits: list[list[int]]) -> None:
    pieces = edit_pieces("a red dog", {"text": "a tan dog", "edits": edits})
    assert [(piece.kind, piece.text.strip()) for piece in pieces] == [
        ("same", "a"), ("removed", "red"), ("added", "tan"), ("same", "dog"),
    ]  # fmt: skip


def test_long_texts_keep_what_is_next_to_an_edit() -> None:
    pieces = (
        DiffPiece("same", "x" * 500 + "before "),
        DiffPiece("removed", "red"),
        DiffPiece("same", " after" + "y" * 500),
    )
    cut = shorten_pieces(pieces, 40)
    assert [piece.kind for piece in cut] == [piece.kind for piece in pieces]
    assert cut[0].text.startswith("… ") and cut[0].text.endswith("before ")
    assert cut[2].text.startswith(" after") and cut[2].text.endswith(" …")
    assert max(len(piece.text) for piece in cut) < 45
    assert len(shorten_pieces((DiffPiece("added", "word "),) * 500, 40)) == MAX_PIECES + 1


def test_blind_gaps_are_the_scores_of_blind_readers() -> None:
    assert blind_gaps({"scores": '{"blind_tags":1.5,"blind_words":-0.5,"edit":0.9}'}) == {"tags": 1.5, "words": -0.5}
    assert blind_gaps({"scores": "{}"}) == blind_gaps({}) == {}


def printed(version: DatasetVersion, patch: pytest.MonkeyPatch, wanted: NegativeFilter, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=140, **options)
    patch.setattr(negatives, "out", console)
    negatives.print_negatives(version, wanted, 100, 0, as_json=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminal_marks_edits_and_is_not_steered(version: DatasetVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = printed(version, monkeypatch, NegativeFilter())
    assert "A [-grey-] ball , number 1 ." in plain
    assert "A {+red0+} ball , number 1 ." in plain
    assert "difficulty 0.010" in plain and "not graded" in plain
    assert "blind gaps words -0.50" in plain
    assert "[red]a[/red] <script>alert(1)</script>" in plain
    assert "{+[b]cat[/b]+}" in plain
    coloured = printed(
        version, monkeypatch, NegativeFilter(), force_terminal=True, color_system="standard", legacy_windows=False
    )
    assert "\x1b[4;32mred0\x1b[0m" in coloured
    assert "\x1b[9;31mgrey\x1b[0m" in coloured
    for text in (plain, coloured):
        assert "\x1b]" not in text and "\u202e" not in text and "\x07" not in text
    narrowed = printed(version, monkeypatch, NegativeFilter(types=("relation",), low=0.2))
    assert "matching" in narrowed and "matching" not in plain
    assert "no negative matches" in printed(version, monkeypatch, NegativeFilter(low=0.99))


def run(version: DatasetVersion, patch: pytest.MonkeyPatch, *words: str) -> int:
    root = version.folder.parents[2]
    places = ["--workspace", str(root), "--manifests", str(root / "manifests")]
    patch.setattr(sys, "argv", ["clipcurate", *places, "show", version.ref, *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_command(
    version: DatasetVersion, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("--negatives", "--type", "relation", "--operation", "swap", "--min-difficulty", "0.1", "--json")
    assert run(version, monkeypatch, *words, "--limit", "2", "--seed", "4", "--html", str(tmp_path / "p.html")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == version.ref
    assert told["matching"] == 3
    assert len(told["negatives"]) == 2
    assert {(item["operation"], item["type"], item["rule"]) for item in told["negatives"]} == {
        ("swap", "relation", "test")
    }
    assert told["negatives"][0]["blind_gaps"] == {"words": -0.5}
    assert told["negatives"][0]["caption_text"].startswith("A grey ball")
    assert "drawn with seed 4" in (tmp_path / "p.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--type", "object"), "add --negatives"),
        (("--seed", "1"), "add --negatives"),
        (("--negatives", "--type", "objekt"), "--type 'objekt'"),
        (("--negatives", "--max-difficulty", "7"), "--max-difficulty 7"),
        (("--negatives", "--limit", "0"), "--limit"),
        (("abc", "--negatives"), "clipcurate show drawn@1.0.0 abc"),
    ],
)
def test_bad_input_ends_in_one_message(
    words: tuple[str, ...],
    told: str,
    version: DatasetVersion,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(version, monkeypatch, *words) == 2
    assert told in capsys.readouterr().err.replace("│", "")


def test_a_samples_lineage_does_not_steer_the_terminal(
    version: DatasetVersion, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (hostile,) = (
        item
        for item in read_negatives(version, draw_negatives(version, NegativeFilter(), 1000, 0))
        if item.name == "90.png"
    )
    assert run(version, monkeypatch, hostile.uid) == 0
    told = capsys.readouterr().out
    assert "<script>alert" in told and "[red]" in told
    assert not {"\x1b", "\x07", "\u202e"} & set(told)
