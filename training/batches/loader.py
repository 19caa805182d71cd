"""Batches of a plan, read from shards by byte range: nothing is read that a step does not use.

Batch s is a pure function of (version, plan, s): steps may be read in any order; reading ahead changes nothing.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import orjson
from blake3 import blake3

from data_manifests.errors import InputError
from data_manifests.image_decoder import decode_image
from data_manifests.sample import image_uid
from data_manifests.seeds import generator
from training.batches.activation_cache import (
    ActivationStore,
    ProgressReport,
    activation_bytes,
    fill_images,
    fill_texts,
    make_room,
    text_name,
)
from training.batches.batch import Batch, SampleRecord, StepTexts, TextSampling
from training.batches.plan import BatchPlan
from training.batches.remote_shards import CheckedTexts, RemoteVersion, fetch_ahead, open_shards
from training.batches.text_sampling import take_unequal
from training.hard_negatives import in_slots, in_turn
from training.pairs import JoinedTexts, PairSide, check_even, draw_pair, join_images

if TYPE_CHECKING:
    from torch import Tensor

    from data_manifests.manifest import DatasetVersion
    from training.config import TrainConfig
    from training.model.clip_model import ClipModel

T = TypeVar("T", bound=Hashable)

AHEAD = 2
"""Batches that wait ready while a step runs."""

FACTS_OF_SAMPLE = 2
"""Most facts of a sample at a step: each is three texts and more."""

REMEMBERED_TEXTS = 1 << 16
"""Texts whose tokens are remembered: about 40 MB at 77 tokens."""


REMEMBERED_IMAGE_BYTES = 256 * 2**20
"""Prepared images are remembered if all of the plan fit into this many bytes."""


class TextTokens:
    """What a model reads of texts, once they are cut to its context; a text is tokenised once while it is remembered.

    Args:
        model: For its tokeniser.
    """

    def __init__(self, model: ClipModel) -> None:
        self._model = model
        self._rows: dict[str, bytes] = {}

    def __call__(self, texts: Sequence[str]) -> list[bytes]:
        """Return the token ids of each text as bytes (int32, as many as the context has): equal where the model reads the same."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new and len(self._rows) + len(new) > REMEMBERED_TEXTS:
            self._rows, new = {}, list(dict.fromkeys(texts))
        if new:
            rows = self._model.tokenize(new).numpy().astype(np.int32)
            self._rows.update(zip(new, (row.tobytes() for row in rows), strict=True))
        return [self._rows[text] for text in texts]

    def tensor(self, texts: Sequence[str]) -> Tensor:
        """Return int64 token ids [n, context_length], as `ClipModel.tokenize`."""
        import torch

        rows = np.frombuffer(b"".join(self(texts)), dtype=np.int32).reshape(len(texts), self._model.context_length)
        return torch.from_numpy(rows.astype(np.int64))

    def ids(self, texts: Sequence[str]) -> list[str]:
        """Return a short name of each text's tokens."""
        return [blake3(row).hexdigest(length=8) for row in self(texts)]


class PlannedBatches:
    """The batches of a plan, read ahead by a thread.

    Args:
        dataset: The version whose shards are read.
        plan: Which samples and captions each step has.
        model: For its preprocessing, tokeniser and, where a prefix is frozen, its activations.
        config: Seed and limits.
        text_sampling: How many negatives and further texts to draw for each sample, and among which texts the shown one.
        start_step: The first batch that iteration yields.

    Raises:
        InputError: the plan was made for other data.
    """

    def __init__(
        self,
        dataset: DatasetVersion,
        plan: BatchPlan,
        model: ClipModel,
        config: TrainConfig,
        text_sampling: TextSampling | None = None,
        start_step: int = 0,
    ) -> None:
        self._plan, self._model, self._config, self._start = plan, model, config, start_step
        self._sampling = text_sampling or TextSampling()
        self._reader = open_shards(dataset)
        self._index = _ByteRanges(dataset)
        self._tokens = TextTokens(model)
        self._pixels_of: dict[int, Tensor] = {}
        self._num_images = len(np.unique(plan.rows))
        self._distinct: dict[int, set[str]] = {}
        self._images: ActivationStore | None = None
        self._texts: ActivationStore | None = None
        self._checked_texts = CheckedTexts(dataset) if isinstance(dataset, RemoteVersion) else None
        self._index.check(plan)
        # results are taken in order: the number of readers changes no batch
        self._pool = ThreadPoolExecutor(config.readers, thread_name_prefix="reader")

    def cached_bytes(self, side: str) -> int:
        """Return how many bytes the frozen prefix's activations of the whole plan's images or texts take.

        Those of the steps before `start_step` count, too, so that a resumed run finds what it found at first.
        """
        if side == "image":
            return len(set(self._plan.uids)) * activation_bytes(self._model)
        return activation_bytes(self._model, sorted(self.distinct_texts(0)))

    def cache_images(
        self, folder: Path | None, report: ProgressReport, *, budget: float = math.inf, bf16: bool = False
    ) -> None:
        """Compute the frozen image prefix's activations of all images ahead once, and read from them from now on.

        Args:
            folder: Keeps them for other runs with the same prefix; None keeps them in memory.
            report: Called with the progress.
            budget: Most bytes of all stores beside this folder.
            bf16: Compute as a step in bfloat16 does.
        """
        ahead = self._plan.rows[self._start :].ravel().tolist()
        rows = dict(zip(self._plan.uids[len(self._plan.uids) - len(ahead) :], ahead, strict=True))
        store = ActivationStore(folder, list(rows))
        if folder is not None and store.missing():
            make_room(folder, len(store.missing()) * activation_bytes(self._model), budget)
            store = ActivationStore(folder, list(rows))
        fill_images(store, self._model, store.missing(), lambda uid: self._pixels(rows[uid]), report, bf16=bf16)
        self._images = store

    def cache_texts(
        self, folder: Path | None, report: ProgressReport, *, budget: float = math.inf, bf16: bool = False
    ) -> None:
        """Do the same for the frozen text prefix and all texts ahead."""
        named = {text_name(text): text for text in self.distinct_texts(self._start)}
        store = ActivationStore(folder, list(named))
        if folder is not None and store.missing():
            missing = [named[name] for name in store.missing()]
            make_room(folder, activation_bytes(self._model, missing), budget)
            store = ActivationStore(folder, list(named))
        fill_texts(store, self._model, {name: named[name] for name in store.missing()}, report, bf16=bf16)
        self._texts = store

    def distinct_texts(self, first: int) -> set[str]:
        """Return every text that any step from `first` on shows; remembered, for it takes a look at every sample of every step."""
        if first in self._distinct:
            return self._distinct[first]
        found = self._distinct[first] = set()
        for step in range(first, self._plan.num_steps):
            texts = self.texts(step)
            found.update(texts.captions)
            found.update(record["text"] for row in texts.records for record in row)
            found.update(text for row in texts.positives for text in row)
        return found

    def texts(self, step: int) -> StepTexts:
        """Return a step's captions and the negatives drawn for them."""
        rows, shown = self._plan.rows[step].tolist(), self._plan.caption[step].tolist()
        size = len(rows)
        uids = self._plan.uids[step * size : (step + 1) * size]
        fetch_ahead(self._reader, (self._index.byte_range(row, "json") for row in rows))
        drawn = [
            self._draw_texts(self._sample(row, uid), caption, step, uid)
            for row, uid, caption in zip(rows, uids, shown, strict=True)
        ]
        captions = tuple(one.caption for one in drawn)
        return StepTexts(
            uids,
            captions,
            [one.records for one in drawn],
            [one.positives for one in drawn],
            tuple(self._tokens.ids(captions)),
            [self._tokens.ids([str(record["text"]) for record in one.records]) for one in drawn],
            [self._tokens.ids(one.positives) for one in drawn],
            tuple(one.equal_negatives for one in drawn),
            tuple(one.equal_views for one in drawn),
            tuple(one.tags for one in drawn),
            [one.facts for one in drawn],
            [one.phrases for one in drawn],
            self._pairs(drawn, step, uids) if self._sampling.joins(step) else [],
        )

    def _draw_texts(self, sample: SampleRecord, caption: int, step: int, uid: str) -> _SampleTexts:
        if not 0 <= caption < len(sample["captions"]):
            raise InputError(
                f"sample {uid}: the plan shows caption {caption} of {len(sample['captions'])}", fix=_VERIFY
            )
        text, at = str(sample["captions"][caption]), (self._config.seed, step, uid, self._tokens)
        views, further = self._sampling.views, self._sampling.positives
        made = _of_caption(sample, "views", caption) if views else []
        shown, equal_views = views.draw(text, made, *at) if views else (text, 0)
        own = _changed_from(shown, text, _of_caption(sample, "negatives", caption))
        records, equal_negatives = self._draw(own, shown, step, uid)
        positives, more = further.draw(sample, caption, shown, *at) if further else ([], 0)
        tags = str(sample.get("attribute_tags", ""))
        matched = [
            (str(one["scale"]), str(one["text"]), str(one["foil"]))
            for one in _of_caption(sample, "phrase_foils", caption)
        ]
        told = [str(view.get("rule")) for view in sample.get("views", []) if view["kind"] == "knowledge"]
        parts, facts = self._shuffled(matched, "phrases", step, uid), self._shuffled(told, "facts", step, uid)
        words = [(str(one["class"]), str(one["word"])) for one in _of_caption(sample, "words", caption)]
        side = PairSide(text, [str(one) for one in sample["captions"]], words)
        return _SampleTexts(
            shown, records, positives, equal_negatives, equal_views + more, tags, facts[:FACTS_OF_SAMPLE], parts, side
        )

    def _pairs(self, drawn: list[_SampleTexts], step: int, uids: Sequence[str]) -> list[JoinedTexts]:
        """Return the texts of the samples joined two by two; a negative that the model reads as one of the true texts is none."""
        check_even(len(drawn))
        found = []
        for first in range(0, len(drawn), 2):
            rng = generator(self._config.seed, "pairs", step, uids[first], uids[first + 1])
            pair = draw_pair(drawn[first].side, drawn[first + 1].side, rng)
            read = self._tokens([pair.negative, *pair.positives])
            found.append(pair._replace(negative="") if read[0] in read[1:] else pair)
        return found

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        import torch

        joins = self._sampling.joins(step)
        pixels_needed = self._images is None or joins
        members, rows = ["json", "image"] if pixels_needed else ["json"], self._plan.rows[step].tolist()
        fetch_ahead(self._reader, (self._index.byte_range(row, member) for row in rows for member in members))
        texts = self.texts(step)
        pixels = list(self._pool.map(self._pixels, rows)) if pixels_needed else []
        image = torch.stack(pixels) if self._images is None else self._images.take(texts.uids)
        sides = zip(pixels[::2], pixels[1::2], texts.pairs, strict=True) if joins else ()
        joined = torch.stack([join_images(*pair) for pair in sides]) if joins else None
        false = [[str(record["text"]) for record in row] for row in texts.records]
        encoded = self._encode([*texts.captions, *chain(*false, *texts.positives)])
        size, end = len(texts.captions), len(encoded) - sum(map(len, texts.positives))
        chooser, further = self._sampling.negatives, self._sampling.positives
        negatives = _slots(encoded[size:end], false, chooser.candidates if chooser else None)
        positives = _slots(encoded[end:], texts.positives, further.count if further else None)
        cached = self._images is not None, self._texts is not None
        made = Batch(step, texts, image, encoded[:size], *negatives, *cached, *positives, joined)
        return made.pinned() if self._config.device == "cuda" else made

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches from `start_step` on, in order."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=AHEAD)
        stop = threading.Event()
        thread = threading.Thread(target=self._fill, args=(ready, stop), name="batches", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item.to("cuda") if self._config.device == "cuda" else item
        finally:
            stop.set()
            while thread.is_alive():  # the thread may be waiting for room in the queue
                with suppress(queue.Empty):
                    while True:
                        ready.get_nowait()
                thread.join(timeout=0.05)

    def close(self) -> None:
        """Stop the readers and close the shards."""
        self._pool.shutdown()
        self._reader.close()

    def _fill(self, ready: queue.Queue[Batch | BaseException | None], stop: threading.Event) -> None:
        try:
            for step in range(self._start, self._plan.num_steps):
                if stop.is_set():
                    return
                ready.put(self.batch(step))
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that iterates
            ready.put(error)

    def _draw(self, records: list[SampleRecord], shown: str, step: int, uid: str) -> tuple[list[SampleRecord], int]:
        """Return the negatives drawn for a text, and how many were left out because their tokens are the text's."""
        if self._sampling.negatives is None or not records:
            return [], 0
        rng = generator(self._config.seed, "negatives", step, uid)
        drawn = [records[at] for at in rng.permutation(len(records))]
        if self._sampling.negatives.operations_in_turn:
            drawn = [drawn[at] for at in in_turn([one.get("operation") for one in drawn], rng)]
        texts, most = [str(record["text"]) for record in drawn], self._sampling.negatives.candidates
        taken, num_equal = take_unequal(texts, shown, most, self._tokens)
        return [drawn[number] for number in taken], num_equal

    def _shuffled(self, items: Sequence[T], purpose: str, step: int, uid: str) -> list[T]:
        """Return a sample's different items in an order that is drawn for the step."""
        distinct = list(dict.fromkeys(items))
        order = (
            generator(self._config.seed, purpose, step, uid).permutation(len(distinct)) if len(distinct) > 1 else [0]
        )
        return [distinct[at] for at in order] if distinct else []

    def _encode(self, texts: list[str]) -> Tensor:
        if self._texts is None:
            return self._model.trim(self._tokens.tensor(texts))
        return self._texts.take([text_name(text) for text in texts])

    def _sample(self, row: int, uid: str) -> SampleRecord:
        shard, *where = self._index.byte_range(row, "json")
        try:
            sample: SampleRecord = orjson.loads(self._reader.read(shard, *where))
        except orjson.JSONDecodeError as error:
            raise InputError(f"sample {uid}: its JSON cannot be read ({error})", fix=_VERIFY) from None
        if sample.get("uid") != uid:
            raise InputError(
                f"row {row} of index.parquet is sample {uid}, its JSON says {sample.get('uid')}", fix=_VERIFY
            )
        if self._checked_texts:
            self._checked_texts.check(shard, row, sample)
        return sample

    def _pixels(self, row: int) -> Tensor:
        """Return an image as the model takes it; small images are decoded once, not once an epoch."""
        if (known := self._pixels_of.get(row)) is not None:
            return known
        data = self._reader.read(*self._index.byte_range(row, "image"))
        if (found := image_uid(data)) != (uid := self._index.uid(row)):
            raise InputError(f"sample {uid}: its image has other bytes, with uid {found}", fix=_VERIFY)
        side = self._model.image_size_px if self._config.fast_decode else 0
        image = decode_image(data, f"sample {self._index.key(row)}", self._config.max_image_px, side)
        pixels = self._model.preprocess(image)
        if pixels.nbytes * self._num_images <= REMEMBERED_IMAGE_BYTES:
            self._pixels_of[row] = pixels
        return pixels


_VERIFY = "run clipcurate verify"


def _of_caption(sample: SampleRecord, what: str, caption: int) -> list[SampleRecord]:
    return [record for record in sample.get(what, []) if record["caption"] == caption]


def _slots(encoded: Tensor, rows: list[list[str]], slots: int | None) -> tuple[Tensor | None, Tensor | None]:
    """Return encoded texts [n, L], in the order of `rows`, as [B, slots, L], and a mask of the filled slots."""
    import torch

    if slots is None:
        return None, None
    mask = torch.arange(slots) < torch.tensor([len(row) for row in rows])[:, None]
    return in_slots(encoded, mask), mask


def _changed_from(shown: str, caption: str, negatives: list[SampleRecord]) -> list[SampleRecord]:
    """Return a caption's negatives; for a view of it only those that were made from that view.

    A knowledge caption set against an edited caption would teach that longer texts are true.
    """
    return negatives if shown == caption else [record for record in negatives if record.get("against") == shown]


class _SampleTexts(NamedTuple):
    """The texts drawn for one sample of a step; see `StepTexts`."""

    caption: str
    records: list[SampleRecord]
    positives: list[str]
    equal_negatives: int
    equal_views: int
    tags: str
    facts: list[str]
    phrases: list[tuple[str, str, str]]
    side: PairSide


class _ByteRanges:
    """The byte ranges of each row of the index."""

    def __init__(self, dataset: DatasetVersion) -> None:
        table = dataset.index()
        self._uids = table.column("uid").to_pylist()
        self._keys = table.column("key").to_pylist()
        names = ("shard", "image_offset", "image_bytes", "json_offset", "json_bytes")
        self._at = {name: table.column(name).to_numpy() for name in names}

    def check(self, plan: BatchPlan) -> None:
        """Check that every planned row is the sample that the plan means."""
        for row, uid in dict(zip(plan.rows.ravel().tolist(), plan.uids, strict=True)).items():
            if not 0 <= row < len(self._uids) or self._uids[row] != uid:
                raise InputError(f"the plan means sample {uid} by row {row}, the index does not", fix="make a new plan")

    def key(self, row: int) -> str:
        return str(self._keys[row])

    def uid(self, row: int) -> str:
        return str(self._uids[row])

    def byte_range(self, row: int, member: str) -> tuple[int, int, int]:
        """Return the shard, offset and size of a sample's `image` or `json`."""
        at = self._at
        return int(at["shard"][row]), int(at[f"{member}_offset"][row]), int(at[f"{member}_bytes"][row])
