"""M4: keep-weights under which sensitive attributes have the target frequencies and do not predict other labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Float64Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Constraints:
    """K numbers for each of n samples; the mean of each number, weighted by q, must be near 0.

    Attributes:
        values: s - pi for each sensitive attribute (representation), then its products with each label (association);
            0 where the attribute is unknown [n, K].
        slack: How far from 0 each weighted mean may be [K].
    """

    values: Float64Array
    slack: Float64Array

    @classmethod
    def of(
        cls, centred: Float64Array, labels: Float64Array, slack_representation: float, slack_association: float
    ) -> Constraints:
        """Build the constraints.

        Args:
            centred: s_k - pi_k, or 0 where unknown [n, m].
            labels: y_r, 0 or 1 [n, c].
            slack_representation: eps_R.
            slack_association: eps_D.
        """
        size, num_sensitive = centred.shape
        products = (centred[:, :, None] * labels[:, None, :]).reshape(size, num_sensitive * labels.shape[1])
        slack = np.full(num_sensitive * (1 + labels.shape[1]), slack_association)
        slack[:num_sensitive] = slack_representation
        return cls(np.concatenate([centred, products], axis=1), slack)

    def violations(self, weights: Float64Array) -> Float64Array:
        """Return |mean of q z| for each constraint, without subtracting the slack [K]."""
        violations: Float64Array = np.abs(weights @ self.values) / max(1, len(weights))
        return violations


@dataclass(frozen=True)
class M4Settings:
    """Parameters of the problem and of its solver.

    Attributes:
        keep: eta, the mean weight.
        most_weight: Q, the largest weight.
        price: V, the cost of a unit of violation; the upper bound of the duals.
        step: tau_0; step t of the descent has size tau_0 / sqrt(t).
        num_passes: Passes over all samples.
    """

    keep: float
    most_weight: float = 1.0
    price: float = 5.0
    step: float = 0.5
    num_passes: int = 20


def keep_weights(
    constraints: Constraints, utility: Float64Array, settings: M4Settings, draws: np.random.Generator
) -> Float64Array:
    """Return the keep-weights q in [0, Q] [n].

    Minimises (1/2) E[(u q - eta)^2] + V sum_k max(0, |E[q z_k]| - eps_k) with E[q] = eta, by stochastic descent on
    the dual, one sample a step: with a = [z - eps; -z - eps],

        q = clip((u eta - a.v - mu) / u^2, 0, Q)
        v <- clip(v + tau_t q a, 0, V),  mu <- mu + tau_t (q - eta)

    The weights are computed from the mean duals of the last pass, so that equal samples have equal weights wherever they
    stood in the order, and the last few draws have no influence.

    Args:
        constraints: z and eps.
        utility: u, above 0 [n].
        settings: eta, Q, V, tau_0 and the number of passes.
        draws: Draws the order of the samples in each pass.
    """
    size, number = constraints.values.shape
    both = np.concatenate([constraints.values, -constraints.values], axis=1) - np.tile(constraints.slack, 2)
    dual, mean_price, step = np.zeros(2 * number), 0.0, 0
    price, most, keep = settings.price, settings.most_weight, settings.keep
    utilities = utility.tolist()
    total, mean_total = np.zeros(2 * number), 0.0
    for last in [*[False] * (settings.num_passes - 1), True]:
        for index in draws.permutation(size).tolist():
            step += 1
            row, u = both[index], utilities[index]
            q = min(max((u * keep - float(row @ dual) - mean_price) / (u * u), 0.0), most)
            size_of_step = settings.step / step**0.5
            dual += (size_of_step * q) * row
            np.minimum(np.maximum(dual, 0.0, out=dual), price, out=dual)
            mean_price += size_of_step * (q - keep)
            if last:
                total += dual
                mean_total += mean_price
    weights: Float64Array = np.clip(
        (utility * keep - both @ (total / size) - mean_total / size) / utility**2, 0.0, most
    )
    return weights
