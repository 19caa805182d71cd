"""M4: the solver against its equations, on a planted bias, and the stage around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.engine.stage import Drop
from curation.selection.m4_weights import Constraints, M4Settings, keep_weight, solve
from curation.stages.selection.balance_attributes import BalanceAttributes
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from tests.curation.few_samples import uids_of
from tests.curation.fitted_stages import (
    check_that_each_sample_is_by_itself,
    fit_and_apply,
    holds,
    kept_fields,
    samples_of,
)
from tests.curation.listed_columns import ListedColumns

Array = np.ndarray[Any, Any]


def literal_m4(
    s: list[list[float]], pi: list[float], y: list[list[float]], eta: float, orders: list[list[int]]
) -> list[float]:
    """The dual descent, term by term, with Q = 1, V = 5, eps_R = 0.01, eps_D = 0.02, tau_0 = 0.5."""
    rows = []
    for own, labels in zip(s, y, strict=True):
        z = [own[k] - pi[k] for k in range(len(pi))]
        z += [(own[k] - pi[k]) * label for k in range(len(pi)) for label in labels]
        eps = [0.01] * len(pi) + [0.02] * (len(pi) * len(labels))
        plus = [value - slack for value, slack in zip(z, eps, strict=True)]
        rows.append(plus + [-value - slack for value, slack in zip(z, eps, strict=True)])
    v, mu, t = [0.0] * len(rows[0]), 0.0, 0
    history: list[tuple[list[float], float]] = []
    for order in orders:
        history = []
        for i in order:
            t += 1
            q = min(max(eta - sum(a * b for a, b in zip(rows[i], v, strict=True)) - mu, 0.0), 1.0)
            tau = 0.5 / t**0.5
            v = [min(max(b + tau * q * a, 0.0), 5.0) for a, b in zip(rows[i], v, strict=True)]
            mu += tau * (q - eta)
            history.append((v, mu))
    v = [sum(past[k] for past, _ in history) / len(history) for k in range(len(v))]
    mean_mu = sum(past for _, past in history) / len(history)
    costs = [sum(one * b for one, b in zip(a, v, strict=True)) for a in rows]
    return [min(max(eta - cost - mean_mu, 0.0), 1.0) for cost in costs]


def weights_of(constraints: Constraints, settings: M4Settings, seed: int) -> Array:
    duals = solve(constraints, settings, np.random.default_rng(seed))
    return np.array([keep_weight(row, duals, settings) for row in constraints.values])[constraints.rows]


@given(seed=st.integers(0, 2**32), size=st.integers(2, 40), many=st.integers(1, 3), labels=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_the_solver_is_the_algorithm(seed: int, size: int, many: int, labels: int) -> None:
    draws = np.random.default_rng(seed)
    s, y = (draws.integers(0, 2, (size, width)).astype(float) for width in (many, labels))
    pi = draws.uniform(0.2, 0.8, many)
    kinds, rows = np.unique(np.concatenate([s, y], axis=1), axis=0, return_inverse=True)
    constraints = Constraints.of(kinds[:, :many] - pi, kinds[:, many:], rows, 0.01, 0.02)
    got = weights_of(constraints, M4Settings(0.6, num_passes=3), 1)
    again = np.random.default_rng(1)
    orders = [again.permutation(size).tolist() for _ in range(3)]
    np.testing.assert_allclose(got, literal_m4(s.tolist(), pi.tolist(), y.tolist(), 0.6, orders), atol=1e-9)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_violations_are_the_means_of_the_products(seed: int, size: int) -> None:
    draws = np.random.default_rng(seed)
    s, y, q = draws.integers(0, 2, (size, 2)), draws.integers(0, 2, (size, 3)), draws.uniform(0, 1, size)
    got = Constraints.of(s - np.array([0.5, 0.3]), y.astype(float), np.arange(size), 0, 0).violations(q)
    each = [sum(q[i] * (s[i, k] - pi) for i in range(size)) / size for k, pi in enumerate((0.5, 0.3))]
    each += [
        sum(q[i] * (s[i, k] - pi) * y[i, r] for i in range(size)) / size
        for k, pi in enumerate((0.5, 0.3))
        for r in range(3)
    ]
    np.testing.assert_allclose(got, np.abs(each), atol=1e-12)


def planted(size: int, seed: int) -> tuple[Array, Array]:
    """Return two sensitive attributes (the first held by 70 %) and three labels, two of which go with one each."""
    draws = np.random.default_rng(seed)
    s = draws.random((size, 2)) < (0.7, 0.55)
    rates = np.stack([np.where(s[:, 0], 0.45, 0.25), np.where(s[:, 1], 0.3, 0.2), np.full(size, 0.4)], axis=1)
    return s.astype(float), (draws.random((size, 3)) < rates).astype(float)


def test_a_planted_bias_goes_and_a_random_subsample_keeps_it() -> None:
    s, y = planted(20_000, 0)
    constraints = Constraints.of(s - 0.5, y, np.arange(len(s)), 0.005, 0.005)
    q = weights_of(constraints, M4Settings(0.6), 0)

    def measured(weights: Array) -> tuple[float, float, float]:
        sides = [weights * (s[:, 0] == side) for side in (1, 0)]
        rates = [float(side @ y[:, 0] / side.sum()) for side in sides]
        return float(constraints.violations(weights).max()), float(sides[0].sum() / weights.sum()), rates[0] - rates[1]

    before, after = measured(np.full(len(s), 0.6)), measured(q)
    control = measured((np.random.default_rng(1).random(len(s)) < 0.6).astype(float))
    assert before[0] == pytest.approx(0.119, abs=0.002)
    assert after[0] < 0.005
    assert control[0] > 0.11
    assert (before[1], after[1], control[1]) == pytest.approx((0.70, 0.504, 0.70), abs=0.006)
    assert before[2] > 0.19 and control[2] > 0.19
    assert abs(after[2]) < 0.02
    assert q.mean() == pytest.approx(0.6, abs=0.002)
    assert q.min() >= 0 and q.max() <= 1


def tagged(size: int = 3000, seed: int = 0) -> list[Sample]:
    s, y = planted(size, seed)
    draws = np.random.default_rng(seed + 1)
    known = draws.random(size) < 0.9
    texts = [
        " ".join(
            ([f"gender:{'female' if who[0] else 'male'}"] if tells else [])
            + [f"activity:{name}" for name, has in zip(("run", "swim", "cook"), labels, strict=True) if has]
        )
        for who, labels, tells in zip(s, y, known, strict=True)
    ]
    return samples_of(uids_of(size), attribute_tags=texts)


def test_the_stage_weighs_and_reports() -> None:
    found = kept_fields(fit_and_apply(BalanceAttributes(), tagged()))
    report = found[0]["balance"]
    assert len(found) == 3000
    assert all(one["balance"] == report for one in found)
    assert report["max_violation"]["before"] > 0.1
    assert report["max_violation"]["after"] < 0.01
    assert report["max_violation"]["control"] > 0.09
    assert report["share"]["gender:female"]["before"] == pytest.approx(0.7, abs=0.03)
    assert report["share"]["gender:female"]["after"] == pytest.approx(0.5, abs=0.01)
    assert report["worst_associations"]["gender:female and activity:run"]["gap"]["before"] > 0.15
    assert abs(report["worst_associations"]["gender:female and activity:run"]["gap"]["after"]) < 0.03


def test_dropping_and_its_control_are_of_one_size() -> None:
    samples = tagged()
    dropped, control = (fit_and_apply(BalanceAttributes(choose=choose), samples) for choose in ("drop", "random"))
    stays = [[not isinstance(one, Drop) for one in found] for found in (dropped, control)]
    assert sum(stays[0]) == sum(stays[1]) == pytest.approx(1800, abs=90)
    female, male = (["gender:" + who in one["attribute_tags"].split() for one in samples] for who in ("female", "male"))
    shares = [np.array(one)[female].sum() / np.array(one)[np.array(female) | male].sum() for one in stays]
    assert shares[0] == pytest.approx(0.5, abs=0.03)
    assert shares[1] == pytest.approx(0.7, abs=0.03)
    assert {one.reason for one in dropped if isinstance(one, Drop)} == {"out_of_balance"}
    assert {one.reason for one in control if isinstance(one, Drop)} == {"not_drawn"}


def test_who_has_both_or_none_of_a_pair_takes_no_part() -> None:
    texts = ["gender:female", "gender:male", "gender:female gender:male", ""] * 50
    samples = samples_of(uids_of(200), attribute_tags=texts)
    weights = [one["keep_weight"] for one in kept_fields(fit_and_apply(BalanceAttributes(), samples))]
    assert weights[2] == weights[3]
    kinds = [frozenset(text.split()) for text in texts[:4]]
    assert BalanceAttributes()._deviations(kinds).tolist() == [[0.5], [-0.5], [0], [0]]


@pytest.mark.parametrize("choose", ["weights", "drop", "random"])
def test_duals_hold_for_samples_of_their_kind_and_not_for_others(choose: str, tmp_path: Path) -> None:
    samples = tagged(3030)
    stage = BalanceAttributes(choose=choose, num_passes=5)
    check_that_each_sample_is_by_itself(stage, samples[:3000], samples[3000:], tmp_path)
    fit = stage.fit(ListedColumns(samples[:3000]))
    assert holds(stage, fit, samples)
    others = [
        text.replace("female", "male") if place % 3 == 0 else text
        for place, text in enumerate(one["attribute_tags"] for one in samples)
    ]
    assert holds(stage, fit, samples_of(uids_of(3030), attribute_tags=others)) == (choose == "random")
    runners = [
        f"{text} activity:run" if "gender:male" in text and place % 3 == 0 else text
        for place, text in enumerate(one["attribute_tags"] for one in samples)
    ]
    assert holds(stage, fit, samples_of(uids_of(3030), attribute_tags=runners)) == (choose == "random")


@pytest.mark.parametrize(
    "bad",
    [
        {"choose": "all"}, {"sensitive": ()}, {"targets": (0.5, 0.5)}, {"targets": (1.0,)}, {"keep": 1.0}, {"keep": 0.0},
        {"price": 0.0}, {"num_passes": 0}, {"slack_association": -0.1},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="allowed:"):
        BalanceAttributes(**bad)


def test_an_attribute_that_nobody_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no sample has 'gender:femal' without(.|\n)*gender:female"):
        BalanceAttributes(sensitive=("gender:femal|gender:male",)).fit(ListedColumns(tagged(100)))
