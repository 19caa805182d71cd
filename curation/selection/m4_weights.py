"""M4: keep-weights under which sensitive attributes have the target frequencies and do not predict other labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Float64Array = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]


@dataclass(frozen=True)
class Constraints:
    """K numbers for each of n samples; the mean of each number, weighted by q, must be near 0.

    Samples with the same numbers share a row, so that there are as many rows as kinds of samples.

    Attributes:
        values: s - pi for each sensitive attribute (representation), then its products with each label (association);
            0 where the attribute is unknown [r, K].
        slack: How far from 0 each weighted mean may be [K].
        rows: The row of each sample [n].
    """

    values: Float64Array
    slack: Float64Array
    rows: IntArray

    @classmethod
    def of(
        cls,
        centred: Float64Array,
        labels: Float64Array,
        rows: IntArray,
        slack_representation: float,
        slack_association: float,
    ) -> Constraints:
        """Build the constraints.

        Args:
            centred: s_k - pi_k, or 0 where unknown [r, m].
            labels: y_r, 0 or 1 [r, c].
            rows: The row of each sample [n].
            slack_representation: eps_R.
            slack_association: eps_D.
        """
        num_sensitive = centred.shape[1]
        slack = np.full(num_sensitive * (1 + labels.shape[1]), slack_association)
        slack[:num_sensitive] = slack_representation
        return cls(constraint_values(centred, labels), slack, rows)

    def violations(self, weights: Float64Array) -> Float64Array:
        """Return |mean of q z| for each constraint, without subtracting the slack [K].

        Args:
            weights: q of each sample [n].
        """
        violations: Float64Array = np.abs(self.row_sums(weights) @ self.values) / max(1, len(weights))
        return violations

    def row_sums(self, weights: Float64Array) -> Float64Array:
        """Return the sum of the weights of the samples of each row [r]."""
        sums: Float64Array = np.bincount(self.rows, weights, minlength=len(self.values)).astype(np.float64)
        return sums


def constraint_values(centred: Float64Array, labels: Float64Array) -> Float64Array:
    """Return s - pi for each sensitive attribute, then its products with each label [r, m + m * c]."""
    size, num_sensitive = centred.shape
    products = (centred[:, :, None] * labels[:, None, :]).reshape(size, num_sensitive * labels.shape[1])
    return np.concatenate([centred, products], axis=1)


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


@dataclass(frozen=True)
class Duals:
    """The solution of the dual problem, from which each sample's weight follows.

    Attributes:
        constraints: v+ - v- [K], what a unit of each constraint's number costs.
        constant: sum of eps (v+ + v-), and mu, the price of the mean weight, subtracted: the same for all samples.
    """

    constraints: Float64Array
    constant: float


def solve(constraints: Constraints, settings: M4Settings, draws: np.random.Generator) -> Duals:
    """Return the mean duals of the last pass.

    Minimises (1/2) E[(q - eta)^2] + V sum_k max(0, |E[q z_k]| - eps_k) with E[q] = eta, by stochastic descent on the dual,
    one sample a step: with a = [z - eps; -z - eps],

        q = clip(eta - a.v - mu, 0, Q)
        v <- clip(v + tau_t q a, 0, V),  mu <- mu + tau_t (q - eta)

    The mean over the last pass leaves the last few draws no influence, and gives equal samples equal weights wherever they
    stood in the order.

    Args:
        constraints: z and eps.
        settings: eta, Q, V, tau_0 and the number of passes.
        draws: Draws the order of the samples in each pass.
    """
    number, size = constraints.values.shape[1], len(constraints.rows)
    both = np.concatenate([constraints.values, -constraints.values], axis=1) - np.tile(constraints.slack, 2)
    dual, mean_price, step = np.zeros(2 * number), 0.0, 0
    price, most, keep = settings.price, settings.most_weight, settings.keep
    total, mean_total = np.zeros(2 * number), 0.0
    for last in [*[False] * (settings.num_passes - 1), True]:
        for index in constraints.rows[draws.permutation(size)].tolist():
            step += 1
            row = both[index]
            q = min(max(keep - float(row @ dual) - mean_price, 0.0), most)
            size_of_step = settings.step / step**0.5
            dual += (size_of_step * q) * row
            np.minimum(np.maximum(dual, 0.0, out=dual), price, out=dual)
            mean_price += size_of_step * (q - keep)
            if last:
                total += dual
                mean_total += mean_price
    mean = total / size
    upper, lower = mean[:number], mean[number:]
    return Duals(upper - lower, float(constraints.slack @ (upper + lower)) - mean_total / size)


def keep_weight(values: Float64Array, duals: Duals, settings: M4Settings) -> float:
    """Return q of a sample, in [0, Q]; the sum is exact, so that it does not depend on a library.

    Args:
        values: z [K].
        duals: The solution.
        settings: eta and Q.
    """
    cost = math.fsum((values * duals.constraints).tolist())
    return min(max(settings.keep - cost + duals.constant, 0.0), settings.most_weight)
