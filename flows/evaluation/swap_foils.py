"""A two-way test of composition from any source's captions, made by the stages that also make hard negatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from blake3 import blake3

from curation.blind.judges import positive_of
from curation.engine.intake import Snapshot
from curation.engine.stage import Stage
from curation.knowledge.open_graph import SeedGraph
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.bind_attributes import BindAttributes
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.swap_roles import SwapRoles
from curation.stages.negatives.swap_words import SwapWords
from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import canonical, draw_seed
from flows.evaluation.sample_benchmark import samples_with_fields
from training.evaluate.blind import Case
from training.evaluate.small_files import read_json

FORMAT = "clipcurate/swaps-test/1"
SEED = 0
KIND_OF_OPERATION = {"bind": "attributes", "role": "roles"}
"""Negatives of other operations are swaps of words; their kind is the span class."""


def swap_stages() -> tuple[Stage, ...]:
    """Return the stages that make the foils: rebound attributes, exchanged roles and words, without those that are true."""
    graph = SeedGraph()
    fields = ("bind_negatives", "role_negatives", "swap_negatives")
    judge = FindFalseNegatives(fields, graph, "exactly", like_swaps=True)
    return (ParseCaptions(), BindAttributes(), SwapRoles(), SwapWords(), judge)


def swaps_test(snapshot: Snapshot, samples: Sequence[Sample], workspace: Path) -> list[Case]:
    """Return the test of these samples' captions, drawn once and kept, so that every run sees the same texts.

    At most one foil of each kind for each caption: ``attributes`` (those of two objects exchanged), ``roles`` (agent and
    patient exchanged), and exchanged words by their class (``noun``, ``noun_chunk``, ``plural_noun``,
    ``verb_phrase``, ``adjective``, ``adverb``). A foil that the captions support, or do not contradict, is left out.

    Source: the two-way design of Hsieh et al. 2023 (SugarCrepe, arXiv 2306.14610); the kinds of Yuksekgonul et al. 2023
        (ARO, arXiv 2210.01936).
    Differs: made by rules from any captions, so that data that no model was trained on can be a test; the foils were not
        checked by people, so some are true of their image; blind judges measure what text alone gives away.

    Args:
        snapshot: The source as it was read.
        samples: Its usable samples.
        workspace: Folder of the store and, under ``benchmarks``, of the test.

    Raises:
        InputError: the captions have nothing to exchange, or the kept file is damaged.
    """
    stages = swap_stages()
    made_by = [stage.fingerprint() for stage in stages]
    identity = canonical([made_by, SEED, [[sample.uid, list(sample.captions)] for sample in samples]])
    path = workspace / "benchmarks" / f"swaps-{blake3(identity).hexdigest(length=8)}.json"
    if not path.is_file():
        usable = {sample.uid for sample in samples}
        found = samples_with_fields(stages, snapshot, workspace, ("captions", "true_negatives"))
        _save(path, draw_cases(sample for sample in found if sample.uid in usable))
    cases = _load(path)
    if not cases:
        raise InputError("swaps: the captions have nothing to exchange", fix="take more captions, or longer ones")
    return cases


def draw_cases(samples: Iterable[Sample], seed: int = SEED) -> list[Case]:
    """Return one case for each caption and kind, drawn by (seed, uid, caption, kind)."""
    cases = []
    for sample in samples:
        choices: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for record in sample["true_negatives"]:
            kind = KIND_OF_OPERATION.get(record["operation"], record["span_class"])
            choices.setdefault((record["caption"], kind), []).append(record)
        for (caption, kind), records in sorted(choices.items()):
            ordered = sorted(records, key=lambda record: str(record["text"]))
            chosen = ordered[draw_seed(seed, "swaps_test", sample.uid, caption, kind) % len(ordered)]
            right = positive_of(chosen, sample.captions)
            cases.append(Case(f"{sample.uid}/{caption}", sample.uid, kind, (right,), (str(chosen["text"]),)))
    return cases


def _save(path: Path, cases: Sequence[Case]) -> None:
    """Write a test as JSON; equal tests give equal bytes."""
    listed = [
        {"id": case.id, "image": case.image, "kind": case.category, "right": case.right[0], "wrong": case.wrong[0]}
        for case in cases
    ]
    record = {"format": FORMAT, "seed": SEED, "cases": listed}
    write_atomically(path, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


def _load(path: Path) -> list[Case]:
    try:
        record = read_json(path)
        if record["format"] != FORMAT:
            raise InputError(f"{path}: format {record['format']!r}", allowed=FORMAT, fix="delete it; it is drawn again")
        return [
            Case(str(case["id"]), str(case["image"]), str(case["kind"]), (str(case["right"]),), (str(case["wrong"]),))
            for case in record["cases"]
        ]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a swaps test ({error})", fix="delete it; it is drawn again") from error
