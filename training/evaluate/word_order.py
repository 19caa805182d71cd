"""Tests of word order and of generated foils: does the true caption score above a false text?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from data_manifests.seeds import generator
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.evaluate.blind import Case, case_values, rows_by_category
from training.evaluate.features import EmbedTexts, EvalFeatures
from training.evaluate.kept_tests import load_test, save_test

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_manifests.sample import Sample

Tag = Callable[[Sequence[str]], list[list[tuple[str, str]]]]
"""Splits each text into (word, Penn Treebank tag)."""

FORMAT = "clipcurate/order-test/1"
MAX_WORDS = 30
MAX_DRAWS = 8
NOUNS = {"NN", "NNS", "NNP", "NNPS"}
ADJECTIVES = {"JJ", "JJR", "JJS"}
PERTURBATIONS = ("nouns_and_adjectives", "all_but_nouns_and_adjectives", "within_trigrams", "trigrams")


@dataclass(frozen=True)
class OrderCase:
    """One caption and up to four wrong orders of its words.

    Attributes:
        uid: The image.
        caption: Number of the caption.
        text: The cleaned caption, its words joined by spaces.
        wrong: Wrong orders by name of the perturbation; one that changes nothing is absent.
    """

    uid: str
    caption: int
    text: str
    wrong: Mapping[str, str]


@dataclass(frozen=True)
class OrderTest:
    """A five-way test of word order, drawn once and kept.

    Attributes:
        seed: Seed of the draws.
        cases: The cases, in the samples' order; each has at least one wrong text.
        num_same: Captions that a perturbation cannot change (one noun, three equal words), by perturbation.
        num_left_out: Captions that no perturbation can change.
    """

    seed: int
    cases: tuple[OrderCase, ...]
    num_same: Mapping[str, int]
    num_left_out: int


def make_order_test(samples: Iterable[Sample], tag: Tag, seed: int = 0) -> OrderTest:
    """Draw four wrong orders of each caption.

    They shuffle: nouns among themselves and adjectives among themselves; all other words; words inside each trigram;
    the trigrams. Every draw has its own generator, by (seed, uid, caption, perturbation).

    Source: Yuksekgonul et al. 2023, section 2.3 (ARO: COCO-Order, Flickr30k-Order; arXiv:2210.01936).
    Differs: seeded and kept, where the original draws anew each time; a draw that changes nothing is repeated up to 8
        times and then left out and counted; the true caption is joined from the same tokens as the wrong
        ones, so that spaces before commas do not give it away; one tokenizer for all four instead of two.

    Args:
        samples: Samples with captions; images are not read.
        tag: The tagger.
        seed: Seed of the draws.
    """
    captions = [(sample.uid, number, clean(text)) for sample in samples for number, text in enumerate(sample.captions)]
    tagged = tag([text for _, _, text in captions])
    cases: list[OrderCase] = []
    num_same = dict.fromkeys(PERTURBATIONS, 0)
    for (uid, number, _), pairs in zip(captions, tagged, strict=True):
        words = [word for word, _ in pairs if word.strip()]
        tags = [name for word, name in pairs if word.strip()]
        wrong: dict[str, str] = {}
        for name in PERTURBATIONS:
            rng = generator(seed, "order_test", uid, number, name)
            draws = (" ".join(perturb(name, words, tags, rng)) for _ in range(MAX_DRAWS))
            changed = next((text for text in draws if text != " ".join(words)), None)
            if changed is None:
                num_same[name] += 1
            else:
                wrong[name] = changed
        if wrong:
            cases.append(OrderCase(uid, number, " ".join(words), wrong))
    return OrderTest(seed, tuple(cases), num_same, len(captions) - len(cases))


def clean(text: str) -> str:
    """Return a caption as ARO has it: lower case, without punctuation, at most 30 words."""
    return " ".join(re.sub(r"[.!\"()*#:;~]", " ", text.lower()).split()[:MAX_WORDS])


def perturb(name: str, words: Sequence[str], tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return the words in one wrong order; see `make_order_test` for the four names."""
    order = np.arange(len(words))
    nouns = np.array([tag in NOUNS for tag in tags], dtype=bool)
    adjectives = np.array([tag in ADJECTIVES for tag in tags], dtype=bool)
    if name in ("trigrams", "within_trigrams"):
        runs = [order[start : start + 3] for start in range(0, len(order), 3)]
        if name == "trigrams":
            runs = [runs[int(number)] for number in rng.permutation(len(runs))]
        else:
            runs = [rng.permutation(run) for run in runs]
        order = np.concatenate(runs) if runs else order
    else:
        groups = (nouns, adjectives) if name == "nouns_and_adjectives" else (~(nouns | adjectives),)
        for group in groups:
            order[group] = rng.permutation(order[group])
    return [words[int(number)] for number in order]


def save_order_test(path: Path, test: OrderTest) -> None:
    """Write a test as JSON."""
    save_test(path, FORMAT, asdict(test))


def load_order_test(path: Path) -> OrderTest:
    """Read a test that `save_order_test` wrote.

    Raises:
        InputError: missing, damaged or of another format.
    """
    return load_test(path, FORMAT, "an order test", _order_test)


def _order_test(record: Any) -> OrderTest:
    cases = tuple(
        OrderCase(str(c["uid"]), int(c["caption"]), str(c["text"]), {n: str(t) for n, t in c["wrong"].items()})
        for c in record["cases"]
    )
    return OrderTest(int(record["seed"]), cases, dict(record["num_same"]), int(record["num_left_out"]))


def order_accuracy(features: EvalFeatures, test: OrderTest, embed: EmbedTexts) -> BenchmarkResult:
    """Return how often the true order scores above *every* wrong one; a tie counts as wrong.

    Returns:
        Metrics `order_accuracy` (0 to 1), `chance` (accuracy of guessing), `num_cases`, `num_ties` (the best wrong text
        has the same score as the true one), `num_left_out`, and `by_perturbation`: accuracy of the true text against that
        one alone, with `num_cases`, `num_ties` and `num_same`.

    Raises:
        InputError: the test is for other images, or has no case.
    """
    row = {uid: number for number, uid in enumerate(features.uids)}
    unknown = [case.uid for case in test.cases if case.uid not in row]
    if unknown or not test.cases:
        raise InputError(
            f"order test: image {unknown[0]} is not evaluated" if unknown else "order test: no case",
            fix="draw the test from the samples that are evaluated",
        )
    texts = [text for case in test.cases for text in (case.text, *case.wrong.values())]
    images = [row[case.uid] for case in test.cases for _ in range(1 + len(case.wrong))]
    scores = iter(_scores(features.image[images], embed(texts)).tolist())
    gaps: dict[str, dict[str, float]] = {name: {} for name in PERTURBATIONS}
    smallest: dict[str, float] = {}
    for case in test.cases:
        true, name_of_case = next(scores), f"{case.uid}/{case.caption}"
        of_case = {name: true - next(scores) for name in case.wrong}
        smallest[name_of_case] = min(of_case.values())
        for name, gap in of_case.items():
            gaps.setdefault(name, {})[name_of_case] = gap
    overall = _summary(list(smallest.values()))
    by_name = {
        name: {**_summary(list(gap.values())), "num_same": test.num_same.get(name, 0)}
        for name, gap in gaps.items()
        if gap
    }
    items = {f"by_perturbation.{name}.accuracy": _case_values(gap) for name, gap in gaps.items() if gap}
    metrics = {
        "order_accuracy": overall["accuracy"],
        "chance": float(np.mean([1 / (1 + len(case.wrong)) for case in test.cases])),
        "num_cases": overall["num_cases"],
        "num_ties": overall["num_ties"],
        "num_left_out": test.num_left_out,
        "by_perturbation": by_name,
    }
    return BenchmarkResult(metrics, {"order_accuracy": _case_values(smallest), **items})


def scenes_foils(samples: Sequence[Sample], features: EvalFeatures, embed: EmbedTexts) -> BenchmarkResult:
    """Return how often a caption scores above a text known to be false of its image; a tie counts as wrong.

    Args:
        samples: With `attributes["foils"]`: records of `kind`, `caption` (its number) and `text`.
        features: Embeddings of the same samples by `encode_samples`.
        embed: The model's text encoder.

    Returns:
        Metrics `foil_accuracy` (mean over the kinds; guessing reaches 0.5) and `foils`: by kind accuracy, `num_cases`,
        `num_ties`.

    Raises:
        InputError: no sample has a foil, or a foil names a caption that is not there.
    """
    row = {uid: number for number, uid in enumerate(features.uids)}
    first = np.searchsorted(features.text_owner, np.arange(len(features.uids)))
    foils = foil_cases(samples)
    captions = [
        int(first[row[sample.uid]]) + foil["caption"]
        for sample in samples
        for foil in sample.attributes.get("foils", ())
    ]
    if not foils:
        raise InputError("foils: no sample has any", allowed="samples of the 'scenes' source")
    image = features.image[[row[foil.image] for foil in foils]]
    gaps = _scores(image, features.text[captions]) - _scores(image, embed([foil.wrong[0] for foil in foils]))
    rows = rows_by_category(foils)
    by_kind = {kind: _summary(gaps[of_kind]) for kind, of_kind in rows.items()}
    cases = {
        f"foils.{kind}.accuracy": case_values([foils[row] for row in of_kind], (gaps[of_kind] > 0).astype(np.float64))
        for kind, of_kind in rows.items()
    }
    mean = float(np.mean([entry["accuracy"] for entry in by_kind.values()]))
    return BenchmarkResult({"foil_accuracy": mean, "foils": by_kind}, cases, {"foil_accuracy": tuple(cases)})


def order_cases(test: OrderTest) -> tuple[list[Case], list[Case]]:
    """Return the cases for blind judges: the true order against all wrong orders, and against each by itself."""
    named = [(f"{case.uid}/{case.caption}", case) for case in test.cases]
    overall = [Case(name, case.uid, "order", (case.text,), tuple(case.wrong.values())) for name, case in named]
    single = [
        Case(name, case.uid, kind, (case.text,), (text,)) for name, case in named for kind, text in case.wrong.items()
    ]
    return overall, single


def foil_cases(samples: Iterable[Sample]) -> list[Case]:
    """Return the foils of scenes as cases; those of a scene and its twin are one group, named by the scene (``twin_of``).

    Raises:
        InputError: a foil names a caption that is not there.
    """
    cases = []
    for sample in samples:
        for number, foil in enumerate(sample.attributes.get("foils", ())):
            if not 0 <= foil["caption"] < len(sample.captions):
                raise InputError(f"sample {sample.uid}: a foil of caption {foil['caption']}",
                                 allowed=f"0 to {len(sample.captions) - 1}")  # fmt: skip
            right, wrong = (sample.captions[foil["caption"]],), (foil["text"],)
            group = str(sample.attributes.get("twin_of", ""))
            cases.append(Case(f"{sample.uid}/{number}", sample.uid, foil["kind"], right, wrong, group))
    return cases


def _scores(image: NDArray[np.float32], text: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the dot products of paired rows [n]; equal pairs have exactly equal scores."""
    scores: NDArray[np.float64] = (image.astype(np.float64) * text.astype(np.float64)).sum(axis=1)
    return scores


def _case_values(gaps: Mapping[str, float]) -> CaseValues:
    """Return the values of cases that are named ``uid/number``."""
    images = tuple(name.split("/")[0] for name in gaps)
    return CaseValues(tuple(gaps), images, np.array([gap > 0 for gap in gaps.values()], dtype=np.float64))


def _summary(gaps: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
    gap = np.asarray(gaps)
    return {"accuracy": float((gap > 0).mean()), "num_cases": len(gap), "num_ties": int((gap == 0).sum())}
