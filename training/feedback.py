"""Feedback of a run: how hard each negative and sample was, for the next version of the data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_manifests.atomic_files import write_table_atomically
from data_manifests.run_files import FEEDBACK_FILE

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.batch import Batch
    from training.features import Features
    from training.hard_negatives import NegativeChoice

NUMBERS = (
    "drawn", "gated", "first_margin", "last_margin", "sum_margin", "last_loss", "sum_loss", "sum_weight", "candidate",
)  # fmt: skip
_DECIMALS = 6
FeedbackKey = tuple[str, int, str]
"""uid, number of the caption, text of the negative; -1 and an empty text for the sample itself."""


class FeedbackLog:
    """Counts and margins of each negative and sample that was trained on, or was a candidate for it.

    A margin is the similarity of image and caption less that of image and negative (cosine); for a sample as a whole,
    less that of the image and the most similar caption of another sample of its batch. A loss is
    log(1 + exp(-scale * margin)). It is part of checkpoints, so that a resumed run ends with the same file.
    """

    def __init__(self) -> None:
        self._rows: dict[FeedbackKey, list[float]] = {}

    def record(self, batch: Batch, features: Features, choice: NegativeChoice | None) -> dict[str, float]:
        """Add one step and return how hard it was, for the log.

        Returns:
            ``rival_margin``: mean margin to the most similar caption of another sample; with negatives also ``margin``,
            their mean margin, ``fooled``, the share of them that is more similar to the image than its caption,
            ``gated_share``, the share of the candidates that was left out as likely true, and ``weight``, their mean.
        """
        import torch

        with torch.no_grad():
            scale = features.logit_scale
            logits = features.image @ features.text.T
            own = logits.diagonal()
            rival = logits.masked_fill(torch.eye(len(own), dtype=torch.bool, device=own.device), -2.0).amax(dim=1)
            margins = (own - rival).tolist()
            losses = torch.nn.functional.softplus(scale * (rival - own)).tolist()
            for uid, margin, loss in zip(batch.texts.uids, margins, losses, strict=True):
                self._add((uid, -1, ""), margin, loss, 1.0)
            found = {"rival_margin": _mean(margins)}
            if choice is None or features.negatives is None:
                return found
            for sample, records in enumerate(batch.texts.records):
                for slot in range(len(records)):
                    self._row(batch, sample, slot)[NUMBERS.index("candidate")] += 1
            gap = own[:, None] - torch.einsum("bd,bkd->bk", features.image, features.negatives)
            loss = torch.nn.functional.softplus(-scale * gap)
            self._add_chosen(batch, choice, gap, loss)
            if choice.gated is not None:
                for sample, slot in choice.gated.nonzero().tolist():
                    self._row(batch, sample, slot)[NUMBERS.index("gated")] += 1
            return found | _hardness(batch, choice, gap[choice.mask].tolist())

    def _add_chosen(self, batch: Batch, choice: NegativeChoice, gap: Tensor, loss: Tensor) -> None:
        filled = choice.mask.nonzero()
        numbers = [values[choice.mask].tolist() for values in (choice.index, gap, loss, choice.weight)]
        for (sample, _), slot, margin, cost, weight in zip(filled.tolist(), *numbers, strict=True):
            self._add(self._key(batch, sample, slot), margin, cost, weight)

    def _key(self, batch: Batch, sample: int, slot: int) -> FeedbackKey:
        record = batch.texts.records[sample][slot]
        return batch.texts.uids[sample], int(record["caption"]), str(record["text"])

    def _row(self, batch: Batch, sample: int, slot: int) -> list[float]:
        return self._rows.setdefault(self._key(batch, sample, slot), [0.0] * len(NUMBERS))

    def _add(self, key: FeedbackKey, margin: float, loss: float, weight: float) -> None:
        row = self._rows.setdefault(key, [0.0] * len(NUMBERS))
        drawn, gated, first, _, sum_margin, _, sum_loss, sum_weight, candidate = row
        first = margin if drawn == 0 else first
        sums = sum_margin + margin, loss, sum_loss + loss, sum_weight + weight
        row[:] = [drawn + 1, gated, first, margin, *sums, candidate]

    def state_dict(self) -> dict[str, Any]:
        """Return plain lists and one tensor."""
        import torch

        keys = list(self._rows)
        numbers = torch.tensor([self._rows[key] for key in keys], dtype=torch.float64).reshape(-1, len(NUMBERS))
        return {
            "uid": [key[0] for key in keys],
            "caption": [key[1] for key in keys],
            "text": [key[2] for key in keys],
            "numbers": numbers,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        keys, numbers = zip(state["uid"], state["caption"], state["text"], strict=True), state["numbers"].tolist()
        if len(state["numbers"].T) < len(NUMBERS):  # a checkpoint from before candidates were counted
            numbers = [[*row, row[0] + row[1]] for row in numbers]
        self._rows = dict(zip(keys, numbers, strict=True))

    def save(self, run: Path, origin: Mapping[str, str]) -> None:
        """Write feedback.parquet, sorted by uid, caption and text.

        Args:
            run: The run's folder.
            origin: What the numbers were made from, such as the manifest's fingerprint; kept in the file's metadata.
        """
        import pyarrow as pa

        keys = sorted(self._rows)
        columns: dict[str, Any] = {
            "uid": pa.array([key[0] for key in keys], pa.string()),
            "caption": pa.array([key[1] for key in keys], pa.int32()),
            "text": pa.array([key[2] for key in keys], pa.string()),
        }
        rows = [dict(zip(NUMBERS, self._rows[key], strict=True)) for key in keys]
        for name in ("candidate", "drawn", "gated"):
            columns[name] = pa.array([int(row[name]) for row in rows], pa.int32())
        for name in ("first_margin", "last_margin", "last_loss"):
            columns[name] = pa.array(
                [round(row[name], _DECIMALS) if row["drawn"] else None for row in rows], pa.float64()
            )
        for name in ("margin", "loss", "weight"):
            means = [round(row[f"sum_{name}"] / row["drawn"], _DECIMALS) if row["drawn"] else None for row in rows]
            columns[f"mean_{name}"] = pa.array(means, pa.float64())
        write_table_atomically(run / FEEDBACK_FILE, pa.table(columns, metadata=dict(origin)))


def _hardness(batch: Batch, choice: NegativeChoice, margins: list[float]) -> dict[str, float]:
    """Return what the log says of the chosen negatives; nothing of a step without any."""
    drawn = sum(map(len, batch.texts.records))
    if not margins or not drawn:
        return {}
    gated = 0 if choice.gated is None else int(choice.gated.sum())
    return {
        "margin": _mean(margins),
        "fooled": sum(margin < 0 for margin in margins) / len(margins),
        "gated_share": gated / drawn,
        "weight": _mean(choice.weight[choice.mask].tolist()),
    }


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
