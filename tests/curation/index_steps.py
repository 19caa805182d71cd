"""Indexed stages in steps: samples come, go and are edited, and the state must be the one of building at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from curation.engine.fits import Fit
from curation.engine.stage import Drop, IndexedStage, PreviousIndex
from data_manifests.sample import ImageRef, Sample
from tests.curation.listed_columns import ListedColumns

_STEPS = 5

Results = list[dict[str, Any] | Drop]


def sample_of(uid: str, fields: Mapping[str, Any]) -> Sample:
    """Return a sample without an image."""
    built_in = {name: fields[name] for name in ("captions", "split") if name in fields}
    own = {name: value for name, value in fields.items() if name not in built_in}
    return Sample(uid, uid, ImageRef("none.jpg"), **{"captions": ("a dog",), **built_in}, fields=own)


def previous(stage: IndexedStage, state: Fit, before: ListedColumns, now: ListedColumns) -> PreviousIndex:
    """Return the state of earlier samples, as the engine hands it to `update`."""
    place = {sample.uid: (row, encoded(stage, sample)) for row, sample in enumerate(now.samples)}
    found = [
        row if same == encoded(stage, sample) else -1
        for sample in before.samples
        for row, same in [place.get(sample.uid, (-1, None))]
    ]
    return PreviousIndex(state, before.uids, np.array(found, np.int64))


def encoded(stage: IndexedStage, sample: Sample) -> str:
    """Return what a stage reads of a sample."""
    values = [sample[name] for name in stage.required_fields()]
    return repr([value.tolist() if isinstance(value, np.ndarray) else value for value in values])


def check_steps(
    stage: IndexedStage,
    draw: Callable[[np.random.Generator], Mapping[str, Any]],
    *,
    seed: int,
    pool: Sequence[str] = (),
) -> list[Results]:
    """Change a data set step by step and compare each update with a rebuild, byte by byte.

    Args:
        stage: The stage.
        draw: Draws a sample's fields.
        seed: Seed of samples and steps.
        pool: Uids that new samples have; any if empty.

    Returns:
        The results after each step.
    """
    draws = np.random.default_rng(seed)
    samples = {uid: sample_of(uid, draw(draws)) for uid in drawn_uids(draws, 30, pool)}
    before = ListedColumns(list(samples.values()))
    state, found = stage.update(before, None), []
    for step in range(_STEPS):
        changes = int(draws.integers(0, (2, 12)[step % 2] + 1))
        for uid in draws.permutation(sorted(samples))[:changes].tolist():
            if draws.random() < 0.5:
                samples[uid] = sample_of(uid, draw(draws))
            else:
                del samples[uid]
        samples |= {uid: sample_of(uid, draw(draws)) for uid in drawn_uids(draws, changes, pool)}
        now = ListedColumns(list(samples.values()), batch=int(draws.integers(1, 50)))
        state = stage.update(now, previous(stage, state, before, now))
        assert state.to_bytes() == stage.update(now, None).to_bytes()
        found.append(list(stage.results(now, state)))
        before = now
    return found


def drawn_uids(draws: np.random.Generator, number: int, pool: Sequence[str] = ()) -> Sequence[str]:
    """Return random uids, of a pool if there is one."""
    if pool:
        return list(draws.permutation(pool)[: min(number, len(pool) // 2)].tolist())
    return [draws.bytes(16).hex() for _ in range(number)]
