"""The diff of two versions against versions whose differences are known."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages.hygiene.check_images import CheckImages
from data_manifests.diff import VersionDiff, diff_versions
from data_manifests.drift import ValueChange, distribution_shift
from data_manifests.errors import InputError
from data_manifests.index_diff import PLACE
from data_manifests.manifest import DatasetVersion
from data_manifests.text_diff import DifficultyChange, DiffPiece, diff_captions, diff_records, diff_words
from tests.data_manifests.built_versions import Given, Picture, build, negative, picture

TEXTS = st.text(alphabet="ab .,'-\u00e9\n", max_size=30) | st.sampled_from(["a dog .", "two dogs", "a red dog .", ""])


def pair(tmp_path: Path, old: list[Any], new: list[Any]) -> tuple[DatasetVersion, DatasetVersion]:
    return build(tmp_path, "drawn", old), build(tmp_path, "drawn", new)


def test_same_version_is_empty(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(number) for number in range(5)])
    diff = diff_versions(version, version)
    assert diff.is_empty
    assert (diff.num_old, diff.num_new, diff.edited, diff.added, diff.removed) == (5, 5, (), (), ())


def test_names_what_was_added_removed_and_edited(tmp_path: Path) -> None:
    made = [picture(number) for number in range(8)]
    edited = picture(3, "A shiny orange ball, number 3 .", "One ball on a plain ground")
    old, new = pair(tmp_path, made, [*made[1:3], edited, *made[4:], picture(20), picture(21)])
    diff = diff_versions(old, new)
    assert not diff.is_empty
    assert (diff.num_added, diff.num_removed, diff.num_edited) == (2, 1, 1)
    assert {item.name for item in diff.added} == {"20.png", "21.png"}
    assert [(item.name, item.caption) for item in diff.removed] == [("0.png", "A red ball, number 0 .")]
    (sample,) = diff.edited
    assert sample.name == "3.png"
    assert sample.uid == picture(3).draw(tmp_path / "3.png")
    assert {"captions", "negatives", "rewrites"} <= set(sample.fields)
    (caption,) = sample.captions
    assert (caption.kind, caption.old_position, caption.new_position) == ("changed", 0, 0)
    assert caption.pieces == (
        DiffPiece("same", "A "),
        DiffPiece("added", "shiny "),
        DiffPiece("same", "orange ball, number 3 ."),
    )
    assert [(change.kind, change.new and change.new["text"]) for change in sample.negatives] == [
        ("changed", "A striped orange ball, number 3 .")
    ]
    assert diff.edited_fields["captions"] == 1
    assert "split" not in diff.edited_fields
    assert ValueChange("samples", 8, 9) in diff.numbers
    orjson.dumps(diff.to_json())


def test_data_sets_of_different_names(tmp_path: Path) -> None:
    old, new = build(tmp_path, "one", [picture(1)]), build(tmp_path, "two", [picture(1), picture(2)])
    diff = diff_versions(old, new)
    assert (diff.old, diff.new, diff.num_added, diff.num_edited) == ("one@1.0.0", "two@1.0.0", 1, 0)


def test_split_is_content(tmp_path: Path) -> None:
    old, new = pair(tmp_path, [picture(1), picture(2)], [picture(1), picture(2, split="dev")])
    (sample,) = diff_versions(old, new).edited
    assert sample.values[0] == ValueChange("split", "train", "dev")


def test_stages_that_come_and_change(tmp_path: Path) -> None:
    pictures = [picture(number) for number in range(4)]
    plain = build(tmp_path, "drawn", pictures, (CheckImages(),))
    given_one = build(tmp_path, "drawn", pictures)
    strong = build(tmp_path, "drawn", pictures, (CheckImages(), Given(strength=2.5)))
    came = diff_versions(plain, given_one)
    assert [(stage.name, stage.kind) for stage in came.stages] == [("given", "added")]
    assert set(came.added_fields) == {"rewrites", "cluster_id", "difficulty"}
    assert came.clusters is None
    assert came.edited_fields == {"negatives": 4}
    assert [(row.added, row.removed, row.changed) for row in came.negatives] == [(4, 0, 0)]
    went = diff_versions(given_one, plain)
    assert set(went.removed_fields) == set(came.added_fields)
    changed = diff_versions(given_one, strong)
    assert changed.stages[0].details == (ValueChange("config.strength", 1.0, 2.5),)
    assert not changed.num_edited
    assert not changed.is_empty


def test_renumbered_clusters_are_the_same_clusters(tmp_path: Path) -> None:
    old = [picture(number, cluster_id=number % 3) for number in range(12)]
    new = [dataclasses.replace(item, cluster_id=(item.cluster_id + 1) % 3) for item in old]
    new[4] = dataclasses.replace(new[4], cluster_id=new[5].cluster_id)
    before, after = pair(tmp_path, old, new)
    clusters = diff_versions(before, after).clusters
    assert clusters is not None
    assert (clusters.num_old, clusters.num_new, clusters.num_moved) == (3, 3, 1)
    assert {(one, other) for one, other, _ in clusters.matched} == {(0, 1), (1, 2), (2, 0)}
    (move,) = clusters.moved
    assert (move.uid, move.old, move.new) == (picture(4).draw(tmp_path / "4.png"), 1, 0)


def test_merged_clusters_move_the_smaller_one(tmp_path: Path) -> None:
    old = [picture(number, cluster_id=int(number >= 7)) for number in range(12)]
    new = [dataclasses.replace(item, cluster_id=4) for item in old]
    clusters = diff_versions(*pair(tmp_path, old, new)).clusters
    assert clusters is not None
    assert (clusters.num_old, clusters.num_new, clusters.matched) == (2, 1, ((0, 4, 7),))
    assert clusters.num_moved == 5
    assert {(move.old, move.new) for move in clusters.moved} == {(1, 4)}


def test_difficulty_shift(tmp_path: Path) -> None:
    old = [picture(number, difficulty=number / 10) for number in range(5)]
    new = [*old[:3], *(dataclasses.replace(item, difficulty=item.difficulty + 0.25) for item in old[3:])]
    before, after = pair(tmp_path, old, new)
    (shift,) = diff_versions(before, after).shifts
    assert (shift.name, shift.num_changed) == ("difficulty", 2)
    assert shift.mean_abs == pytest.approx(0.1)
    assert {(round(one, 4), round(other, 4)) for _, one, other in shift.largest} == {(0.3, 0.55), (0.4, 0.65)}


def test_lists_end_at_max_details_and_numbers_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [picture(number) for number in range(9)]
    relabelled = [dataclasses.replace(item, split="dev") for item in old[:4]]
    reworded = [picture(number, f"A spotted ball, number {number} .") for number in (4, 5)]
    new = [*relabelled, *reworded, *(picture(number) for number in (30, 31, 32))]
    monkeypatch.setattr("data_manifests.diff.MAX_DETAILS", 2)
    diff = diff_versions(*pair(tmp_path, old, new))
    assert (diff.num_added, diff.num_removed, diff.num_edited) == (3, 3, 6)
    assert (len(diff.added), len(diff.removed), len(diff.edited)) == (2, 2, 2)
    assert {item.name for item in diff.edited} == {"4.png", "5.png"}, "samples with other captions come first"
    assert [item.uid for item in diff.added] == sorted(item.uid for item in diff.added)


def test_counts_over_all_samples_are_the_sum_of_what_each_tells(tmp_path: Path) -> None:
    def ball(number: int, *words: str) -> Picture:
        operations = {"cube": "swap"}
        made = [negative(0, "A ball .", 2, 6, word, operation=operations.get(word, "replace")) for word in words]
        return picture(number, "A ball .", negatives=tuple(made))

    old = [ball(1, "cube", "cone", "cone", "disc"), ball(2)]
    diff = diff_versions(*pair(tmp_path, old, [ball(1, "cone", "ring", "rod"), ball(2, "cube")]))
    told = Counter(
        ((change.new or change.old or {})["operation"], change.kind)
        for sample in diff.edited
        for change in sample.negatives
    )
    kinds = ("added", "removed", "changed")
    counted = {(row.operation, kind): getattr(row, kind) for row in diff.negatives for kind in kinds}
    assert +Counter(counted) == told == {("swap", "removed"): 1, ("swap", "added"): 1, ("replace", "changed"): 2}


def test_negatives_graded_anew(tmp_path: Path) -> None:
    def ball(number: int, *grades: float, scores: str = "") -> Picture:
        words = zip(("cube", "cone", "disc"), grades, strict=False)
        made = [negative(0, "A ball .", 2, 6, word, difficulty=grade, scores=scores) for word, grade in words]
        return picture(number, "A ball .", negatives=tuple(made))

    old = [ball(1, 0.5, 0.25, 0.75), ball(2, 0.5), ball(3, 0.5), ball(4, 0.5, 0.75)]
    new = [ball(1, 0.75, 0.5), ball(2, 0.25), ball(3, 0.5), ball(4, 0.5, 0.75, scores="{}")]
    diff = diff_versions(*pair(tmp_path, old, new))
    assert diff.edited_fields["negatives"] == 3
    told = {sample.name: (sample.regraded, sample.num_rescored) for sample in diff.edited}
    assert told == {
        "1.png": (DifficultyChange(2, 0.375, 0.625), 0),
        "2.png": (DifficultyChange(1, 0.5, 0.25), 0),
        "4.png": (None, 2),
    }
    (row,) = diff.negatives
    assert (row.added, row.removed, row.changed, row.regraded) == (0, 1, 0, 3)


def test_damage_is_told_not_hidden(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(1), picture(2)])
    other = build(tmp_path, "drawn", [picture(1, "Another text"), picture(2, "And another")])
    broken = DatasetVersion(other.manifest, tmp_path / "copy")
    shutil.copytree(other.folder, broken.folder)
    index = pq.read_table(broken.folder / "index.parquet")
    rows = index.to_pylist()
    for changes in ({"json_offset": rows[0]["json_offset"] + 7}, {key: rows[1][key] for key in PLACE[1:]}):
        pq.write_table(
            pa.Table.from_pylist([{**rows[0], **changes}, rows[1]], index.schema), broken.folder / "index.parquet"
        )
        with pytest.raises(InputError, match="no such JSON where"):
            diff_versions(version, broken)
    pq.write_table(index.drop_columns(["key"]), broken.folder / "index.parquet")
    with pytest.raises(InputError, match="no column key"):
        diff_versions(version, broken)
    (broken.folder / "index.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read"):
        diff_versions(version, broken)
    (broken.folder / "index.parquet").unlink()
    with pytest.raises(InputError, match="missing"):
        diff_versions(version, broken)


def test_json_size_is_bounded(tmp_path: Path) -> None:
    old, new = pair(tmp_path, [picture(1)], [picture(1, "Another text")])
    index = pl.read_parquet(new.folder / "index.parquet").with_columns(json_bytes=pl.lit(2**40))
    index.write_parquet(new.folder / "index.parquet")
    with pytest.raises(InputError, match="JSON of 1099511627776 bytes"):
        diff_versions(old, new)


@given(TEXTS, TEXTS)
@settings(max_examples=300, deadline=None)
def test_word_pieces_hold_both_texts(old: str, new: str) -> None:
    pieces = diff_words(old, new)
    for side, text in (("removed", old), ("added", new)):
        kept = "".join(piece.text for piece in pieces if piece.kind in ("same", side))
        assert "".join(kept.split()) == "".join(text.split())
    assert all(piece.kind == "same" for piece in diff_words(old, old))


@given(st.lists(TEXTS, max_size=5), st.lists(TEXTS, max_size=5))
@settings(max_examples=300, deadline=None)
def test_every_caption_is_told_of_once(old: list[str], new: list[str]) -> None:
    changes, moved_to = diff_captions(old, new)
    gone = [change.old_position for change in changes if change.old_position is not None and change.kind == "removed"]
    came = [change.new_position for change in changes if change.new_position is not None and change.kind == "added"]
    assert sorted([*moved_to, *gone]) == list(range(len(old)))
    assert sorted([*moved_to.values(), *came]) == list(range(len(new)))
    told = {change.old_position for change in changes if change.kind == "changed"}
    assert all(old[at] == new[to] or at in told for at, to in moved_to.items())


def test_captions_pair_by_their_words() -> None:
    old = ["A dog runs .", "Two men talk in a street .", "A red car"]
    new = ["Two women talk in a street .", "A red car", "Snow on a hill"]
    changes, moved_to = diff_captions(old, new)
    assert moved_to == {1: 0, 2: 1}
    assert [(change.kind, change.old_position, change.new_position) for change in changes] == [
        ("removed", 0, None),
        ("changed", 1, 0),
        ("added", None, 2),
    ]
    swapped, _ = diff_captions(["a", "b", "c"], ["b", "a", "c"])
    assert [(change.kind, change.old_position, change.new_position) for change in swapped] == [
        ("moved", 1, 0),
        ("moved", 0, 1),
    ]


def test_negatives_follow_their_caption() -> None:
    def record(caption: int, text: str) -> dict[str, Any]:
        return {"caption": caption, "text": text, "source": "s", "operation": "swap", "span_class": "noun"}

    old = [record(0, "cat chases dog"), record(1, "car on man")]
    new = [record(0, "car on woman"), record(1, "cat chases dog")]
    (change,) = diff_records(old, new, {0: 1, 1: 0})
    assert (change.kind, change.pieces[1:]) == ("changed", (DiffPiece("removed", "man"), DiffPiece("added", "woman")))
    kinds = diff_records(old, [{**record(0, "x"), "operation": "replace"}], {0: 0, 1: 1})
    assert sorted(item.kind for item in kinds) == ["added", "removed", "removed"]


def test_a_book_as_caption_does_not_stall() -> None:
    old = " ".join(f"word{number}" for number in range(20_000))
    started = time.perf_counter()
    pieces = diff_words(old, old.replace("word777 ", "other "))
    assert time.perf_counter() - started < 2
    assert [piece.text for piece in pieces if piece.kind != "same"] == ["word777 ", "other "]


def test_distribution_shift_against_the_definition() -> None:
    old, new = {1: 2, 2: 2}, {2: 1, 5: 3}
    shift = distribution_shift("x", old, new)
    assert (shift.old_mean, shift.new_mean) == (1.5, 4.25)
    assert shift.total_variation == pytest.approx(0.5 * (0.5 + 0.25 + 0.75))
    assert shift.ks == pytest.approx(0.75)
    assert distribution_shift("x", old, {1: 10, 2: 10}).total_variation == 0
    assert distribution_shift("x", {}, new).ks == 1


def test_diff_is_the_same_when_the_order_of_rows_is(tmp_path: Path) -> None:
    def made(root: Path) -> VersionDiff:
        pictures = [picture(number) for number in range(10)]
        return diff_versions(*pair(root, pictures, [picture(n, f"Text {n}") for n in range(10)]))

    assert made(tmp_path / "a").to_json() == made(tmp_path / "b").to_json()
