"""What a run writes down about negatives: counts, margins and losses as they were, resumed or not."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from data_manifests.run_files import FEEDBACK_FILE
from tests.training.conftest import MakeVersion
from tests.training.test_features import make_batch
from training.features import make_features
from training.feedback import FeedbackLog
from training.hard_negatives import AdaptiveNegatives, UniformNegatives
from training.model.clip_model import StepEncoder


def test_margins_and_losses_are_those_of_the_features(make_version: MakeVersion, tmp_path: Path) -> None:
    negatives = UniformNegatives(3)
    model, batch = make_batch(make_version, negatives)
    log = FeedbackLog()
    with torch.no_grad():
        features, choice = make_features(StepEncoder(model), batch, None, 0.0)
    assert choice is not None and features.negatives is not None
    hardness = log.record(batch, features, choice)
    resumed = FeedbackLog()
    resumed.load_state_dict(log.state_dict())
    assert resumed.record(batch, features, choice) == hardness, "what was seen before says nothing of a step"
    resumed.save(tmp_path, {"version": "shapes@1.0.0"})
    table = pq.read_table(tmp_path / FEEDBACK_FILE)
    assert table.schema.metadata[b"version"] == b"shapes@1.0.0"
    rows = {(row["uid"], row["caption"], row["text"]): row for row in table.to_pylist()}
    keys = list(zip(*(table.column(name).to_pylist() for name in ("uid", "caption", "text")), strict=True))
    assert keys == sorted(keys) and len(rows) == len(keys)
    seen = 0
    for at, uid in enumerate(batch.texts.uids):
        for slot in range(3):
            if not choice.mask[at, slot]:
                continue
            record = batch.texts.records[at][int(choice.index[at, slot])]
            row = rows[uid, record["caption"], record["text"]]
            margin = float(features.image[at] @ features.text[at] - features.image[at] @ features.negatives[at, slot])
            loss = float(torch.nn.functional.softplus(-features.logit_scale * margin))
            assert row["candidate"] == row["drawn"] == 2 and row["gated"] == 0
            assert row["first_margin"] == row["last_margin"] == pytest.approx(margin, abs=2e-6)
            assert row["mean_loss"] == row["last_loss"] == pytest.approx(loss, abs=2e-5)
            seen += 1
        others = [float(features.image[at] @ features.text[j]) for j in range(20) if j != at]
        margin = float(features.image[at] @ features.text[at]) - max(others)
        assert rows[uid, -1, ""]["mean_margin"] == pytest.approx(margin, abs=2e-6)
    assert seen == int(choice.mask.sum()) > 20 and len(rows) == seen + 20
    chosen = [row["first_margin"] for row in rows.values() if row["text"]]
    assert hardness["margin"] == pytest.approx(sum(chosen) / seen, abs=2e-6)
    assert (
        hardness["fooled"] == pytest.approx(sum(margin < 0 for margin in chosen) / seen) and 0 < hardness["fooled"] < 1
    )
    assert (hardness["gated_share"], hardness["weight"]) == (0.0, 1.0)
    rivals = [row["first_margin"] for row in rows.values() if not row["text"]]
    assert hardness["rival_margin"] == pytest.approx(sum(rivals) / 20, abs=2e-6)
    assert log.record(batch, features, None) == {"rival_margin": hardness["rival_margin"]}


def test_gated_candidates_are_counted_though_never_trained_on(make_version: MakeVersion, tmp_path: Path) -> None:
    negatives = AdaptiveNegatives(candidates=5, choose=2, gate_quantile=0.5)
    model, batch = make_batch(make_version, negatives)
    with torch.no_grad():
        features, choice = make_features(StepEncoder(model), batch, negatives.start(), 0.0)
    assert choice is not None and choice.gated is not None
    stats = choice.stats
    assert stats["gated"] == int(choice.gated.sum()) > 0
    log = FeedbackLog()
    hardness = log.record(batch, features, choice)
    assert hardness["gated_share"] == pytest.approx(stats["gated"] / sum(map(len, batch.texts.records)))
    log.save(tmp_path, {})
    every = pq.read_table(tmp_path / FEEDBACK_FILE).to_pylist()
    assert (
        sum(row["candidate"] for row in every)
        == sum(map(len, batch.texts.records))
        > stats["gated"] + sum(row["drawn"] for row in every if row["text"])
    ), "the batch has no candidate that was neither chosen nor left out: nothing was tested"
    assert all(row["candidate"] == 0 for row in every if not row["text"])
    rows = [row for row in every if row["gated"]]
    assert len(rows) == stats["gated"]
    assert all(row["drawn"] == 0 and row["mean_loss"] is None for row in rows)


def test_a_checkpoint_from_before_candidates_were_counted_can_be_continued(
    make_version: MakeVersion, tmp_path: Path
) -> None:
    model, batch = make_batch(make_version, UniformNegatives(3))
    log, resumed = FeedbackLog(), FeedbackLog()
    with torch.no_grad():
        features, choice = make_features(StepEncoder(model), batch, None, 0.0)
    log.record(batch, features, choice)
    state = log.state_dict()
    resumed.load_state_dict(state | {"numbers": state["numbers"][:, :-1]})
    resumed.record(batch, features, choice)
    resumed.save(tmp_path, {})
    rows = pq.read_table(tmp_path / FEEDBACK_FILE).to_pylist()
    assert {(row["candidate"], row["drawn"]) for row in rows if row["text"]} == {(2, 2)}
