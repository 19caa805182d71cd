"""A version's negatives: counted, filtered and drawn from the sidecars, and read with their captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from data_manifests.errors import InputError, nearest
from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import draw_seed
from data_manifests.sidecar_diff import read_payloads
from data_manifests.text_diff import DiffPiece, diff_words

if TYPE_CHECKING:
    import pyarrow as pa

BLIND_PREFIX = "blind_"
"""Prefix of the scores by which blind judges prefer the caption to the negative."""

_COLUMNS = [f"negatives.list.element.{name}" for name in ("operation", "type", "difficulty")]

_ROWS_AT_ONCE = 1_000
"""Samples whose negatives are Python objects at the same time."""

NegativeKind = tuple[str, str]
"""Operation and type."""

NegativePosition = tuple[int, int, int]
"""Shard, row in the shard, position among the sample's negatives."""

ALL_KINDS: NegativeKind = ("", "")
"""Key of a draw from all kinds together."""


@dataclass(frozen=True)
class NegativeFilter:
    """Which negatives to draw; empty or None means any.

    Attributes:
        types: object, attribute, relation, action, number, negation, order.
        operations: swap, replace, ...
        low: Smallest difficulty; negatives without one are left out.
        high: Largest difficulty; negatives without one are left out.
    """

    types: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("--min-difficulty", self.low), ("--max-difficulty", self.high)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name} {value}", allowed="0 (easiest) to 1")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"--min-difficulty {self.low} is above --max-difficulty {self.high}")


@dataclass(frozen=True)
class ShownNegative:
    """One negative with its caption.

    Attributes:
        uid: The sample.
        name: The sample's name in its source.
        caption: The true text.
        record: The negative as published.
    """

    uid: str
    name: str
    caption: str
    record: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        scores = {"scores": scores_of(self.record), "blind_gaps": blind_gaps(self.record)}
        return {"uid": self.uid, "name": self.name, "caption_text": self.caption, **self.record, **scores}


@dataclass(frozen=True)
class NegativeDraw:
    """Counts of a version's negatives, and the positions of the drawn ones.

    Attributes:
        counts: Negatives by operation and type.
        matching: The same of those that match the filter.
        positions: Positions of the drawn negatives, in the order of the draw, by kind or under `ALL_KINDS`.
    """

    counts: Mapping[NegativeKind, int]
    matching: Mapping[NegativeKind, int]
    positions: Mapping[NegativeKind, Sequence[NegativePosition]]


def draw_negatives(
    version: DatasetVersion, wanted: NegativeFilter, limit: int, seed: int, *, of_each_kind: bool = False
) -> NegativeDraw:
    """Count a version's negatives and draw some that match a filter, with one shard in memory at a time.

    Every negative has its own random key, and those with the smallest keys are drawn: a narrower filter draws the
    matching ones of a wider filter, and more.

    Args:
        version: The version.
        wanted: The filter.
        limit: Most to draw, of each kind or of all.
        seed: Seed of the keys.
        of_each_kind: Draw up to `limit` of each operation and type, each from another sample.

    Raises:
        InputError: the version has no negatives, or none with an operation or type of the filter.
    """
    counts: Counter[NegativeKind] = Counter()
    matching: Counter[NegativeKind] = Counter()
    best: dict[NegativeKind, list[tuple[float, NegativePosition]]] = {}
    for shard in range(len(version.manifest.body["shards"])):
        listed = _listed(version, shard)
        fits = _fits(listed, wanted)
        keys = np.random.default_rng(draw_seed(seed, "show negatives", shard)).random(len(fits))
        for kind, members in _by_kind(listed):
            found = members[fits[members]]
            counts[kind] += len(members)
            matching[kind] += len(found)
            kept = found[np.argsort(keys[found], kind="stable")]
            if of_each_kind:
                whose = np.searchsorted(listed.offsets, kept, side="right")
                kept = kept[np.sort(np.unique(whose, return_index=True)[1])]
            kept = kept[:limit]
            rows = np.searchsorted(listed.offsets, kept, side="right") - 1
            at = kept - listed.offsets[rows]
            positions = zip([shard] * len(kept), rows.tolist(), at.tolist(), strict=True)
            best.setdefault(kind if of_each_kind else ALL_KINDS, []).extend(
                zip(keys[kept].tolist(), positions, strict=True)
            )
        best = {kind: sorted(keyed)[:limit] for kind, keyed in best.items()}
    _require(version, wanted, counts)
    return NegativeDraw(
        counts, matching, {kind: [position for _, position in keyed] for kind, keyed in sorted(best.items())}
    )


@dataclass(frozen=True)
class _Listed:
    """One shard's negatives as one list; sample `i` has those from ``offsets[i]`` to ``offsets[i + 1]``."""

    offsets: NDArray[np.int64]
    operation: pa.Array
    type: pa.Array
    difficulty: NDArray[np.float64]


def _listed(version: DatasetVersion, shard: int) -> _Listed:
    column = version.sidecar(shard, _COLUMNS)["negatives"].combine_chunks()
    offsets = column.offsets.to_numpy().astype(np.int64)
    flat = column.flatten()
    difficulty = np.full(len(flat), np.nan)
    if flat.type.get_field_index("difficulty") >= 0:  # older versions have no such field
        difficulty = flat.field("difficulty").to_numpy(zero_copy_only=False).astype(np.float64)
    return _Listed(offsets - offsets[0], flat.field("operation"), flat.field("type"), difficulty)


def _fits(listed: _Listed, wanted: NegativeFilter) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    fits = np.ones(len(listed.difficulty), dtype=bool)
    for names, column in ((wanted.types, listed.type), (wanted.operations, listed.operation)):
        if names:
            fits &= pc.is_in(column, value_set=pa.array(names, pa.string())).to_numpy(zero_copy_only=False)
    # an unknown difficulty is NaN, which compares as false
    if wanted.low is not None:
        fits &= listed.difficulty >= wanted.low
    if wanted.high is not None:
        fits &= listed.difficulty <= wanted.high
    return fits


def _by_kind(listed: _Listed) -> Iterator[tuple[NegativeKind, NDArray[np.int64]]]:
    """Yield each operation and type with the positions of its negatives, sorted by name."""
    operations, types = (column.fill_null("").dictionary_encode() for column in (listed.operation, listed.type))
    names = operations.dictionary.to_pylist(), types.dictionary.to_pylist()
    codes = operations.indices.to_numpy() * max(len(names[1]), 1) + types.indices.to_numpy()
    found = [((names[0][code // len(names[1])], names[1][code % len(names[1])]), code) for code in np.unique(codes)]
    for kind, code in sorted(found):
        yield kind, np.flatnonzero(codes == code)


def _require(version: DatasetVersion, wanted: NegativeFilter, counts: Mapping[NegativeKind, int]) -> None:
    if not counts:
        raise InputError(
            f"{version.ref} has no negatives",
            allowed="versions of recipes with stages that make negatives",
            fix="clipcurate recipes lists the stages of each recipe",
        )
    for option, part, names in (("--operation", 0, wanted.operations), ("--type", 1, wanted.types)):
        known = sorted({kind[part] for kind in counts})
        for name in names:
            if name not in known:
                got = f"{option} {name!r}: {version.ref} has no such negatives; {nearest(name, known)}"
                raise InputError(got.removesuffix("; "), allowed=", ".join(known))


def iterate_negatives(
    version: DatasetVersion, wanted: NegativeFilter
) -> Iterator[tuple[str, Sequence[str], Mapping[str, Any]]]:
    """Yield (uid, captions, record) of each negative that matches a filter, in the order of the shards.

    Raises:
        InputError: the version has no negatives, or none with an operation or type of the filter.
    """
    draw_negatives(version, wanted, 0, 0)
    for shard in range(len(version.manifest.body["shards"])):
        fits, at = _fits(_listed(version, shard), wanted), 0
        for batch in version.sidecar(shard, ["uid", "captions", "negatives"]).to_batches(max_chunksize=_ROWS_AT_ONCE):
            for sample in batch.to_pylist():
                for record in sample["negatives"]:
                    if fits[at]:
                        yield sample["uid"], sample["captions"], record
                    at += 1


def read_samples(
    version: DatasetVersion, positions: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the JSON of samples by shard and row, read by byte range.

    Raises:
        InputError: a shard is missing, or does not hold what the index says.
    """
    import polars as pl

    index = pl.DataFrame(version.index(["uid", "shard", "json_offset", "json_bytes"]))
    numbered = index.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64).over("shard"))
    wanted = pl.DataFrame(
        sorted(set(positions)), schema={"shard": index.schema["shard"], "row": pl.Int64}, orient="row"
    )
    frame = numbered.join(wanted, on=["shard", "row"], how="semi")
    payloads = read_payloads(version, frame)
    return {(shard, row): payloads[uid] for uid, shard, row in frame.select("uid", "shard", "row").iter_rows()}


def read_negatives(version: DatasetVersion, drawn: NegativeDraw) -> list[ShownNegative]:
    """Return the drawn negatives with their captions, by operation and type, then as drawn.

    Raises:
        InputError: a shard is missing, or does not hold what the index says.
    """
    positions = [position for listed in drawn.positions.values() for position in listed]
    samples = read_samples(version, ((shard, row) for shard, row, _ in positions))
    shown = []
    for shard, row, at in positions:
        payload = samples[shard, row]
        record = payload["negatives"][at]
        shown.append(ShownNegative(payload["uid"], payload["name"], payload["captions"][record["caption"]], record))
    return sorted(shown, key=lambda item: (item.record["operation"], item.record["type"]))


def scores_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores that stages gave a negative, by name."""
    scores: dict[str, float] = orjson.loads(record.get("scores") or "{}")
    return scores


def blind_gaps(record: Mapping[str, Any]) -> dict[str, float]:
    """Return by how much each blind judge prefers the caption; empty without blind judges."""
    return {
        name.removeprefix(BLIND_PREFIX): gap for name, gap in scores_of(record).items() if name.startswith(BLIND_PREFIX)
    }


def edit_pieces(caption: str, record: Mapping[str, Any]) -> tuple[DiffPiece, ...]:
    """Return the differences of a negative from its caption, in reading order.

    They are the edits of the record; if these do not turn the caption into the negative, words are compared.
    """
    text, done, done_new = str(record["text"]), 0, 0
    pieces: list[DiffPiece] = []
    for start, end, new_start, new_end in sorted(record.get("edits") or ()):
        kept = caption[done:start]
        if not (done <= start <= end <= len(caption) and done_new <= new_start <= new_end <= len(text)):
            return diff_words(caption, text)
        if kept != text[done_new:new_start]:
            return diff_words(caption, text)
        parts = (
            DiffPiece("same", kept),
            DiffPiece("removed", caption[start:end]),
            DiffPiece("added", text[new_start:new_end]),
        )
        pieces += [piece for piece in parts if piece.text]
        done, done_new = end, new_end
    if not pieces or caption[done:] != text[done_new:]:
        return diff_words(caption, text)
    return (*pieces, DiffPiece("same", caption[done:])) if caption[done:] else tuple(pieces)


def shorten_pieces(pieces: Sequence[DiffPiece], max_chars: int) -> tuple[DiffPiece, ...]:
    """Return the pieces with long texts cut in the middle or away from the edits, at most `max_chars` characters each."""
    cut = []
    for number, piece in enumerate(pieces[:MAX_PIECES]):
        text = piece.text
        if len(text) > max_chars:
            head, tail = text[: max_chars // 2].rstrip(), text[-(max_chars // 2) :].lstrip()
            ends = (number == 0, number == len(pieces) - 1)
            text = f"… {tail}" if ends[0] else f"{head} …" if ends[1] else f"{head} … {tail}"
        cut.append(DiffPiece(piece.kind, text))
    return (*cut, DiffPiece("same", " …")) if len(pieces) > MAX_PIECES else tuple(cut)


MAX_PIECES = 40
"""Most pieces of one text that are shown."""
