"""What every fitted stage promises, and a data set in memory to try it on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curation.engine.fits import Evidence, Fit
from curation.engine.stage import Drop, FittedStage
from data_manifests.sample import ImageRef, Sample
from tests.curation.listed_columns import ListedColumns


def samples_of(uids: Sequence[str], **fields: Any) -> list[Sample]:
    """Return samples with these fields, a value of each per sample."""
    rows = zip(*fields.values(), strict=True)
    return [
        Sample(uid, uid, ImageRef("none"), ("a caption",), fields=dict(zip(fields, row, strict=True)))
        for uid, row in zip(uids, rows, strict=True)
    ]


def fit_and_apply(stage: FittedStage, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
    """Return the results for samples that are sorted by uid, with the fit to them."""
    return stage.apply(samples, stage.fit(ListedColumns(samples)))


def kept_fields(results: Sequence[dict[str, Any] | Drop]) -> list[dict[str, Any]]:
    return [one for one in results if isinstance(one, dict)]


def _encoded(stage: FittedStage, results: Sequence[dict[str, Any] | Drop]) -> list[Any]:
    for one in results:
        assert isinstance(one, Drop) or set(one) == {field.name for field in stage.provides}
    return [
        one if isinstance(one, Drop) else [field.encode(one[field.name]) for field in stage.provides] for one in results
    ]


def check_that_each_sample_is_by_itself(
    stage: FittedStage, learned: Sequence[Sample], more: Sequence[Sample], folder: Path
) -> None:
    """Check that a version grown in five steps with a fit equals one built at once, and that order and batches do not matter."""
    fit = stage.fit(ListedColumns(learned))
    assert stage.fit(ListedColumns(learned, batch=50)).to_bytes() == fit.to_bytes()
    (folder / "fit").write_bytes(fit.to_bytes())
    loaded = Fit.load(folder / "fit")
    everyone = sorted([*learned, *more], key=lambda sample: sample.uid)
    at_once = dict(zip([one.uid for one in everyone], _encoded(stage, stage.apply(everyone, loaded)), strict=True))
    draws = np.random.default_rng(0)
    grown: dict[str, Any] = {}
    for step in np.array_split(draws.permutation(len(everyone)), 5):
        batch = [everyone[place] for place in step.tolist()]
        grown |= dict(zip([one.uid for one in batch], _encoded(stage, stage.apply(batch, fit)), strict=True))
    assert grown == at_once
    for place in draws.permutation(len(everyone))[:5].tolist():
        (alone,) = _encoded(stage, stage.apply([everyone[place]], loaded))
        assert alone == at_once[everyone[place].uid]
    assert stage.apply([], loaded) == []


def holds(stage: FittedStage, fit: Fit, samples: Sequence[Sample]) -> bool:
    """Return whether every check of a kept fit holds on these samples."""
    evidence = Evidence()
    (field,) = [field.name for field in stage.provides if field.role == "evidence"] or [""]
    for one in stage.apply(samples, fit):
        dropped = isinstance(one, Drop)
        evidence += Evidence(1, int(dropped), {} if isinstance(one, Drop) else one.get(field, {}))
    checks = stage.check(fit, evidence)
    assert checks
    return all(check.holds for check in checks)
