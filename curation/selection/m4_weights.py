"""M4: keep-weights under which sensitive attributes are as frequent as wished and tell nothing of other labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Float64Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Constraints:
    """What the mean of q times a row must be near 0 for: K numbers for each of n samples.

    Attributes:
        values: s - pi for each sensitive attribute (representation), then its products with each label (association);
            0 where the attribute is unknown [n, K].
        slack: How far from 0 each mean may be [K].
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
        size, many = centred.shape
        products = (centred[:, :, None] * labels[:, None, :]).reshape(size, many * labels.shape[1])
        slack = np.full(many * (1 + labels.shape[1]), slack_association)
        slack[:many] = slack_representation
        return cls(np.concatenate([centred, products], axis=1), slack)

    def violations(self, weights: Float64Array) -> Float64Array:
        """Return |mean of q z| for each constraint, slack not taken off [K]."""
        found: Float64Array = np.abs(weights @ self.values) / max(1, len(weights))
        return found


@dataclass(frozen=True)
class M4Settings:
    """Numbers of the problem and of its solution.

    Attributes:
        keep: eta, the mean weight.
        most_weight: Q, the largest weight.
        price: V, what a unit of violation costs; the duals' bound.
        step: tau_0; step t of the descent has size tau_0 / sqrt(t).
        num_passes: How often every sample is seen.
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

    The weights returned are those of the duals' mean over the last pass, so equal samples weigh the same wherever they
    stood, and the last few draws do not show.

    Args:
        constraints: z and eps.
        utility: u, above 0 [n].
        settings: eta, Q, V, tau_0 and the number of passes.
        draws: Order of the samples in each pass.
    """
    size, number = constraints.values.shape
    both = np.concatenate([constraints.values, -constraints.values], axis=1) - np.tile(constraints.slack, 2)
    dual, mean_price, step = np.zeros(2 * number), 0.0, 0
    price, most, keep = settings.price, settings.most_weight, settings.keep
    given = utility.tolist()
    total, mean_total = np.zeros(2 * number), 0.0
    for last in [*[False] * (settings.num_passes - 1), True]:
        for place in draws.permutation(size).tolist():
            step += 1
            row, u = both[place], given[place]
            q = (u * keep - float(row @ dual) - mean_price) / (u * u)
            q = min(max(q, 0.0), most)
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
