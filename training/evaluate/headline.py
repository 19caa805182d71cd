"""Whether a test of texts may be a headline: only if nothing but the image tells its answers, and it has enough cases."""

from __future__ import annotations

from training.evaluate.benchmark_result import BenchmarkResult
from training.evaluate.confidence import Bootstrap, parts_of

MAX_BLIND = 0.55
"""Highest accuracy of a judge without the image."""
MIN_CASES = 300
NUM_DRAWS = 2_000
_NAMES = {
    "blind_ngram": "a trigram model of captions",
    "blind_length": "taking the shorter text",
    "blind_text_tower": "the model's text tower",
}
"""What stands in the reason for each judge."""


def mark_headline(result: BenchmarkResult) -> BenchmarkResult:
    """Return the result of a test with blind judges with their intervals and whether it may be a headline; others as they are.

    Metrics `judges` (by judge: `accuracy`, and `low` and `high` of its 95 % interval over images), `headline`,
    and, where that is false, `no_headline`: the reason, for people. Where guessing reaches one half, the judge that says
    the opposite counts as well.
    """
    judges = [name for name in _NAMES if isinstance(result.metrics.get(name), float)]
    if not judges:
        return result
    two_way = result.metrics.get("chance", 0.5) >= 0.5
    intervals: dict[str, dict[str, float]] = {}
    reasons: list[str] = []
    num_cases = _num_cases(result, judges[0])
    if num_cases < MIN_CASES:
        reasons.append(f"it has {num_cases} cases, fewer than {MIN_CASES}")
    for name in judges:
        found = Bootstrap([[parts_of(result, name)]], NUM_DRAWS).interval(0)
        intervals[name.removeprefix("blind_")] = {"accuracy": found.value, "low": found.low, "high": found.high}
        reached, opposite = found.value, 1 - found.value if two_way else 0.0
        if max(reached, opposite) > MAX_BLIND:
            low, high = (found.low, found.high) if reached >= opposite else (1 - found.high, 1 - found.low)
            how = _NAMES[name] if reached >= opposite else f"the opposite of {_NAMES[name]}"
            reasons.append(
                f"without the image, {how} reaches {100 * max(reached, opposite):.1f} % ({100 * low:.1f}-{100 * high:.1f}), "
                f"more than {100 * MAX_BLIND:.0f} %"
            )
    added = {"judges": intervals, "headline": not reasons} | ({"no_headline": "; ".join(reasons)} if reasons else {})
    return BenchmarkResult({**result.metrics, **added}, result.cases, result.means)


def _num_cases(result: BenchmarkResult, judge: str) -> int:
    """Return how many cases a judge has judged, those of rare categories too."""
    if judge in result.cases:
        return len(result.cases[judge].ids)
    return sum(len(values.ids) for name, values in result.cases.items() if name.endswith(f".{judge}"))
