"""The papers' terms against slow loop transcriptions in float64; what they adapt; their edges and gradients."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from data_manifests.errors import InputError
from tests.training.conftest import MakeVersion
from tests.training.test_objectives import make_features, some_labels
from training.batches.basic import ShuffledPlan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.facts import Triplets
from training.features import NEGATIVE_TYPES, Features, TextSlots, TokenFeatures
from training.hard_negatives import UniformNegatives
from training.log import read_lines
from training.model.clip_model import ClipModel
from training.model.spec import ModelSpec
from training.objectives import all_objectives
from training.objectives.ce_clip import CrossModalRank, IntraModalContrast
from training.objectives.cutoff import CutoffContrast
from training.objectives.fairness import GroupAlignment, GroupParity
from training.objectives.further_texts import KnowledgeContrast, MultipleInstance, ParaphraseContrast, TextAnalogy
from training.objectives.info_nce import InfoNCE, MemoryContrast
from training.objectives.interface import Objective
from training.objectives.joined_contrast import JoinedContrast
from training.objectives.knowledge import (
    Distillation,
    EntityContrast,
    NeighbourContrast,
    RelationContrast,
    TripletContrast,
)
from training.objectives.local_contrast import LocalContrast, MultiScaleContrast
from training.objectives.negative_contrast import NegativeContrast
from training.objectives.sigmoid import Sigmoid
from training.objectives.unit_contrast import UnitContrast
from training.pairs import PairFeatures
from training.phrases import PhraseFoils
from training.train import train
from training.train_parts import TrainParts, check_model_needs

B, K, P, L, N, D = 5, 3, 2, 6, 4, 4


def unit(*shape: int, seed: int) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


FACTS = ((0, 0, 1), (1, 1, 2), (0, 0, 3), (2, 0, 1), (0, 2, 1))
"""Head, relation, tail: one question has two answers, one answer two questions, one pair two relations."""


def some_facts(seed: int, facts: tuple[tuple[int, int, int], ...] = FACTS) -> Triplets:
    head, relation, tail = (torch.tensor(column) for column in zip(*facts, strict=True))
    entities, relations = int(torch.cat([head, tail]).max()) + 1, int(relation.max()) + 1
    sizes = (len(facts), len(facts), entities, relations)
    query, pair, entity, relation_text = (unit(size, D, seed=seed + at) for at, size in enumerate(sizes))
    return Triplets(query, pair, entity, relation_text, head, tail, relation)


def some_phrases(seed: int) -> PhraseFoils:
    draws = torch.Generator().manual_seed(seed)
    mask, is_word = (torch.rand(B, P, generator=draws) > 0.4 for _ in range(2))
    return PhraseFoils(unit(B, P, D, seed=seed), unit(B, P, D, seed=seed + 1), mask, is_word & mask)


def some_pairs(seed: int, size: int = 3) -> PairFeatures:
    mask = torch.tensor([[True] * 4, [True, True, False, True], [True, True, False, False]])[:size]
    texts = unit(size, 4, D, seed=seed), unit(size, D, seed=seed + 1)
    return PairFeatures(
        unit(size, D, seed=seed + 2), texts[0], mask, texts[1], torch.tensor([True, False, True])[:size]
    )


def everything(seed: int = 0, **changes: Any) -> Features:
    """Return features that hold all there is, some slots and tokens empty."""
    draws = torch.Generator().manual_seed(seed + 100)
    mask = make_features(seed).negative_mask
    assert mask is not None
    stand = torch.rand(B, K, L, generator=draws) > 0.4
    tokens = TokenFeatures(
        unit(B, N, D, seed=seed + 1),
        unit(B, L, D, seed=seed + 2),
        torch.rand(B, L, generator=draws) > 0.3,
        unit(B, K, L, D, seed=seed + 3),
        stand & mask[..., None],
    )
    more = {
        "positives": TextSlots(unit(B, P, D, seed=seed + 4), torch.rand(B, P, generator=draws) > 0.3),
        "tokens": tokens,
        "teacher_image": unit(B, 3, seed=seed + 5),
        "teacher_text": unit(B, 3, seed=seed + 6),
        "cut_text": unit(B, D, seed=seed + 7),
        "groups": torch.tensor([[0, 1], [1, 1], [0, -1], [1, 0], [0, 0]]),
        "prompts": unit(3, D, seed=seed + 8),
        "triplets": some_facts(seed + 9),
        "phrases": some_phrases(seed + 13),
        "pairs": some_pairs(seed + 15),
        "negative_type": torch.randint(-1, len(NEGATIVE_TYPES), (B, K), generator=draws),
        "identity": torch.tensor([[100 * seed + i, 1000 + 100 * seed + i] for i in range(B)]),
    }
    return make_features(seed, **(more | changes))


def dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def lse(values: list[float]) -> float:
    return math.log(sum(math.exp(value) for value in values))


def further_label(f: Features, i: int, j: int, p: int) -> int:
    """Return whether text p of sample j is true of image i (1), false (-1), or neither (0)."""
    assert f.positives is not None
    label = (1 if i == j else -1) if f.labels is None else int(f.labels[i, j])
    if not f.positives.mask[j, p] or (
        label == -1 and f.positives.shared is not None and f.positives.shared[i, j * P + p]
    ):
        return 0
    return label


def with_shared(seed: int, labels: Tensor | None) -> Features:
    """Return features in which an image reads a further text of its own in another sample's, too."""
    features = everything(seed, labels=labels)
    assert features.positives is not None
    shared = torch.zeros(B, B * P, dtype=torch.bool)
    shared[0, 2 * P :: P] = shared[3, 1] = shared[4, 4 * P] = True
    return dataclasses.replace(features, positives=dataclasses.replace(features.positives, shared=shared))


LABELS = [None, some_labels(B, B), some_labels(B, B + B * K)]


def sigmoid_by_loops(f: Features, bias: float) -> float:
    assert f.negatives is not None and f.negative_mask is not None and f.positives is not None
    total = 0.0
    for i in range(B):
        terms = []
        for j in range(B):
            label = (1 if i == j else -1) if f.labels is None else int(f.labels[i, j])
            terms.append((label, dot(f.image[i], f.text[j]), 1.0))
            for k in range(K):
                label = -1 if f.labels is None or f.labels.shape[1] == B else int(f.labels[i, B + j * K + k])
                weight = 1.0 if f.negative_weight is None else float(f.negative_weight[j, k])
                if f.negative_mask[j, k]:
                    terms.append((label, dot(f.image[i], f.negatives[j, k]), weight))
            terms += [(further_label(f, i, j, p), dot(f.image[i], f.positives.features[j, p]), 1.0) for p in range(P)]
        scale = float(f.logit_scale)
        total += sum(w * math.log(1 + math.exp(-z * (scale * s + bias))) for z, s, w in terms if z)
    return total / B


@pytest.mark.parametrize("labels", LABELS)
def test_sigmoid_is_its_equation(labels: Tensor | None) -> None:
    weight = torch.rand(B, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    features = dataclasses.replace(with_shared(0, labels), negative_weight=weight)
    got = Sigmoid(further=True, bias=-3.0)(features).item()
    assert got == pytest.approx(sigmoid_by_loops(features, -3.0), rel=1e-12)


def test_the_bias_starts_where_untrue_pairs_are_as_likely_as_one_in_all_texts() -> None:
    features = make_features(negatives=None, negative_mask=None)
    term = Sigmoid().start()
    term(features)
    similarity = float(features.logit_scale) * features.image @ features.text.T
    mean = float(similarity[~torch.eye(B, dtype=torch.bool)].mean())
    (bias,) = term.parameters()
    assert bias.item() == pytest.approx(-mean - math.log(B - 1), rel=1e-6)
    other = Sigmoid().start()
    other.load_state_dict(term.state_dict())
    assert other(features).item() == term(features).item()
    (again,) = other.parameters()
    assert again.item() == bias.item(), "a resumed bias is not placed again"


def ce_gaps(f: Features) -> dict[int, list[float]]:
    assert f.negatives is not None and f.negative_mask is not None and f.negative_type is not None
    scale = float(f.logit_scale)
    gaps: dict[int, list[float]] = {}
    for i in range(B):
        for k in range(K):
            if f.negative_mask[i, k]:
                gap = scale * (dot(f.image[i], f.text[i]) - dot(f.image[i], f.negatives[i, k]))
                gaps.setdefault(int(f.negative_type[i, k]), []).append(gap)
    return gaps


def test_rank_margins_follow_the_mean_gap_of_their_type() -> None:
    first, second = everything(0), everything(1)
    term = CrossModalRank(most=4.0).start()
    expected = [max(0.0, -gap) for gaps in ce_gaps(first).values() for gap in gaps]
    assert float(term(first)) == pytest.approx(np.mean(expected), rel=1e-12)
    margins = {kind: min(max(float(np.mean(gaps)), 0.0), 4.0) for kind, gaps in ce_gaps(first).items()}
    assert any(0 < margin < 4 for margin in margins.values())
    resumed = CrossModalRank(most=4.0).start()
    resumed.load_state_dict(term.state_dict())
    expected = [max(0.0, margins.get(kind, 0.0) - gap) for kind, gaps in ce_gaps(second).items() for gap in gaps]
    assert float(resumed(second)) == pytest.approx(np.mean(expected), rel=1e-12)
    fixed = CrossModalRank(fixed=2.0).start()
    expected = [max(0.0, 2.0 - gap) for gaps in ce_gaps(second).values() for gap in gaps]
    assert float(fixed(second)) == pytest.approx(np.mean(expected), rel=1e-12)
    assert float(fixed(second)) == pytest.approx(np.mean(expected), rel=1e-12), "a fixed margin stays"


def intra_by_loops(f: Features) -> float:
    assert f.negatives is not None and f.negative_mask is not None
    scale, losses = float(f.logit_scale), []
    for i in range(B):
        positive = math.exp(scale * dot(f.image[i], f.text[i]))
        false = [math.exp(scale * dot(f.text[i], f.negatives[i, k])) for k in range(K) if f.negative_mask[i, k]]
        if false:
            losses.append(-math.log(positive / (positive + sum(false))))
    return float(np.mean(losses))


def analogy_by_loops(f: Features) -> float:
    assert f.positives is not None
    rows, scale = [i for i in range(B) if f.positives.mask[i, 0]], float(f.logit_scale)
    losses = []
    for source in (f.image, f.text):
        for i in rows:
            seen = [j for j in rows if j == i or further_label(f, i, j, 0) == -1]
            logits = [scale * dot(source[i], f.positives.features[j, 0]) for j in seen]
            losses.append(lse(logits) - logits[seen.index(i)])
    return float(np.mean(losses))


def paraphrase_by_loops(f: Features) -> float:
    assert f.positives is not None
    losses = []
    for i in range(B):
        if not f.positives.mask[i, 0]:
            continue
        seen = [j for j in range(B) if j == i or f.labels is None or f.labels[i, j] == -1]
        logits = [float(f.logit_scale) * dot(f.positives.features[i, 0], f.text[j]) for j in seen]
        losses.append(lse(logits) - logits[seen.index(i)])
    return float(np.mean(losses))


def paraphrase_among_negatives_by_loops(f: Features) -> float:
    assert f.positives is not None and f.negatives is not None and f.negative_mask is not None
    losses = []
    for i in range(B):
        if not f.positives.mask[i, 0]:
            continue
        texts = [f.text[i]]
        texts += [f.text[j] for j in range(B) if j != i and (f.labels is None or f.labels[i, j] == -1)]
        for j in range(B):
            for k in range(K):
                wide = f.labels is not None and f.labels.shape[1] > B
                false = not wide or (f.labels is not None and f.labels[i, B + j * K + k] == -1)
                if f.negative_mask[j, k] and false:
                    texts.append(f.negatives[j, k])
        logits = [float(f.logit_scale) * dot(f.positives.features[i, 0], text) for text in texts]
        losses.append(lse(logits) - logits[0])
    return float(np.mean(losses))


def bag(f: Features, image: int, of: int) -> list[float]:
    assert f.positives is not None
    false = of == image or f.labels is None or f.labels[image, of] == -1
    seen = [p for p in range(P) if further_label(f, image, of, p) == (1 if of == image else -1)]
    texts = [f.text[of]] * false + [f.positives.features[of, p] for p in seen]
    return [float(f.logit_scale) * dot(f.image[image], text) for text in texts]


def instances_by_loops(f: Features) -> float:
    assert f.negatives is not None and f.negative_mask is not None
    total = 0.0
    for i in range(B):
        own = lse(bag(f, i, i))
        false = [float(f.logit_scale) * dot(f.image[i], f.negatives[i, k]) for k in range(K) if f.negative_mask[i, k]]
        row = [value for j in range(B) for value in bag(f, i, j)]
        column = [value for j in range(B) if j != i for value in bag(f, j, i)]
        total += lse([*bag(f, i, i), *false]) - own + lse([*row, *column]) - own
    return total / B


def knowledge_by_loops(f: Features) -> float:
    assert f.positives is not None
    losses = []
    for i in range(B):
        row = [
            (j, float(f.logit_scale) * dot(f.image[i], f.positives.features[j, p]))
            for j in range(B)
            for p in range(P)
            if further_label(f, i, j, p) == (1 if i == j else -1)
        ]
        own = [value for j, value in row if j == i]
        if own:
            losses.append(lse([value for _, value in row]) - lse(own))
    return float(np.mean(losses))


def triplets_by_loops(f: Features) -> float:
    assert f.triplets is not None
    facts, losses = f.triplets, []

    def logit(i: int, j: int) -> float:
        return float(f.logit_scale) * dot(facts.query[i], facts.entity[FACTS[j][2]])

    for i, (head, relation, tail) in enumerate(FACTS):
        row = [logit(i, j) for j, other in enumerate(FACTS) if i == j or (head, relation, other[2]) not in FACTS]
        column = [logit(j, i) for j, other in enumerate(FACTS) if i == j or (*other[:2], tail) not in FACTS]
        losses += [lse(row) - logit(i, i), lse(column) - logit(i, i)]
    return float(np.mean(losses))


def relations_by_loops(f: Features) -> float:
    assert f.triplets is not None
    facts, losses = f.triplets, []
    for i, (head, relation, tail) in enumerate(FACTS):
        logits = {r: float(f.logit_scale) * dot(facts.pair[i], facts.relation_text[r]) for r in range(3)}
        others = [value for r, value in logits.items() if r == relation or (head, r, tail) not in FACTS]
        losses.append(lse(others) - logits[relation])
    return float(np.mean(losses))


def neighbours(entity: int) -> set[int]:
    return {t for h, _, t in FACTS if h == entity} | {h for h, _, t in FACTS if t == entity}


def entities_by_loops(f: Features) -> float:
    assert f.triplets is not None
    entity, losses = f.triplets.entity, []
    for e in range(4):
        logits = {other: float(f.logit_scale) * dot(entity[e], entity[other]) for other in range(4) if other != e}
        losses.append(np.mean([lse(list(logits.values())) - logits[other] for other in neighbours(e)]))
    return float(np.mean(losses))


def aggregates_by_loops(f: Features) -> float:
    assert f.triplets is not None
    entity, losses = f.triplets.entity, []
    for e in range(4):
        mean = sum((entity[other] for other in neighbours(e)), torch.zeros(D, dtype=torch.float64)) / len(neighbours(e))
        length = math.sqrt(dot(mean, mean))
        logits = {
            other: float(f.logit_scale) * dot(mean, entity[other]) / length
            for other in range(4)
            if other not in neighbours(e)
        }
        losses.append(lse(list(logits.values())) - logits[e])
    return float(np.mean(losses))


def distillation_by_loops(f: Features) -> float:
    assert f.teacher_image is not None and f.teacher_text is not None
    scale, total = float(f.logit_scale), 0.0
    for flipped in (False, True):
        for i in range(B):

            def logits(image: Tensor, text: Tensor, i: int = i, flipped: bool = flipped) -> list[float]:
                return [scale * (dot(image[j], text[i]) if flipped else dot(image[i], text[j])) for j in range(B)]

            student, teacher = logits(f.image, f.text), logits(f.teacher_image, f.teacher_text)
            total += sum(
                math.exp(t - lse(teacher)) * ((t - lse(teacher)) - (s - lse(student)))
                for s, t in zip(student, teacher, strict=True)
            )
    return total / (2 * B)


def score_by_loops(tokens: Tensor, inside: Tensor, patches: Tensor, scale: float) -> float:
    scores = []
    for token, stands in zip(tokens, inside, strict=True):
        if not stands:
            continue
        similarity = [dot(token, patch) for patch in patches]
        low, high = min(similarity), max(similarity)
        share = [(value - low) / (high - low) for value in similarity]
        seen = sum(w / sum(share) * patch for w, patch in zip(share, patches, strict=True))
        scores.append(scale * dot(token, seen) / math.sqrt(dot(seen, seen)))
    return lse(scores) - math.log(len(scores)) if scores else 0.0


def local_by_loops(f: Features, gamma: float = 2.0, smoothing: float = 0.02) -> float:
    t, losses = f.tokens, []
    assert t is not None and t.negatives is not None and t.negatives_mask is not None
    for i in range(B):
        slots = [k for k in range(K) if t.negatives_mask[i, k].any()]
        if not slots or not t.text_mask[i].any():
            continue
        scale = float(f.logit_scale)
        logits = [score_by_loops(t.text[i], t.text_mask[i], t.image[i], scale)]
        logits += [score_by_loops(t.negatives[i, k], t.negatives_mask[i, k], t.image[i], scale) for k in slots]
        p = [math.exp(value - lse(logits)) for value in logits]
        target = [smoothing / len(p) + (1 - smoothing) * (k == 0) for k in range(len(p))]
        losses.append(-sum(y * (1 - q) ** gamma * math.log(q) for y, q in zip(target, p, strict=True)))
    return float(np.mean(losses))


def scales_by_loops(f: Features, gamma: float = 2.0, smoothing: float = 0.02) -> float:
    assert f.tokens is not None and f.negatives is not None and f.negative_mask is not None and f.phrases is not None
    scale, parts, by_scale = float(f.logit_scale), f.phrases, dict[str, list[float]]()
    for i in range(B):
        rivals = [f.negatives[i, k] for k in range(K) if f.negative_mask[i, k]]
        asked = [("caption", f.text[i], rivals)] if rivals else []
        filled = [p for p in range(P) if parts.mask[i, p]]
        names = ["word" if parts.is_word[i, p] else "phrase" for p in filled]
        asked += [(name, parts.text[i, p], [parts.foil[i, p]]) for name, p in zip(names, filled, strict=True)]
        for name, text, foils in asked:
            logits = [
                score_by_loops(one[None], torch.tensor([True]), f.tokens.image[i], scale) for one in (text, *foils)
            ]
            p_each = [math.exp(value - lse(logits)) for value in logits]
            target = [smoothing / len(logits) + (1 - smoothing) * (k == 0) for k in range(len(logits))]
            loss = -sum(y * (1 - q) ** gamma * math.log(q) for y, q in zip(target, p_each, strict=True))
            by_scale.setdefault(name, []).append(loss)
    assert len(by_scale) == 3
    return float(np.mean([np.mean(losses) for losses in by_scale.values()]))


def units_by_loops(f: Features) -> float:
    assert f.phrases is not None
    text, foil, mask = f.phrases.text, f.phrases.foil, f.phrases.mask
    units = [(i, p) for i in range(B) for p in range(P) if mask[i, p]]
    scale, rows, columns = float(f.logit_scale), [], []

    def left_out(i: int, unit: tuple[int, int]) -> bool:
        alike = any(dot(text[unit], text[i, p]) > 1 - 1e-5 for j, p in units if j == i)
        return alike or (f.labels is not None and int(f.labels[i, unit[0]]) != -1) or unit[0] == i

    for i, p in units:
        own = scale * dot(f.image[i], text[i, p])
        others = [scale * dot(f.image[i], text[one]) for one in units if one != (i, p) and not left_out(i, one)]
        rows.append(lse([own, *others, scale * dot(f.image[i], foil[i, p])]) - own)
        rivals = [scale * dot(f.image[j], text[i, p]) for j in range(B) if j != i and not left_out(j, (i, p))]
        columns.append(lse([own, *rivals]) - own)
    return float((np.mean(rows) + np.mean(columns)) / 2)


@pytest.mark.parametrize("labels", LABELS[:2])
def test_units_that_two_images_have_are_no_negatives(labels: Tensor | None) -> None:
    features = everything(0, labels=labels)
    assert features.phrases is not None
    text, mask = features.phrases.text.clone(), torch.ones(B, P, dtype=torch.bool)
    text[1, 0] = text[0, 0]
    mask[4] = False
    parts = dataclasses.replace(features.phrases, text=text, mask=mask)
    shared = dataclasses.replace(features, phrases=parts)
    assert float(UnitContrast()(shared)) == pytest.approx(units_by_loops(shared), rel=1e-9)
    first = dataclasses.replace(parts, text=text[:, :1], mask=mask[:, :1], foil=parts.foil[:, :1])
    one = dataclasses.replace(shared, phrases=first)
    assert float(UnitContrast(per_caption=1)(shared)) == float(UnitContrast()(one)) != float(UnitContrast()(shared))


def joined_by_loops(f: Features) -> float:
    assert f.pairs is not None
    image, text, mask, scale = f.pairs.image, f.pairs.positives, f.pairs.mask, float(f.logit_scale)
    contrasts = []
    for k in range(4):
        rows, losses = [m for m in range(3) if mask[m, k]], list[float]()
        for m in rows:
            own = scale * dot(image[m], text[m, k])
            losses.append(lse([scale * dot(image[m], text[other, k]) for other in rows]) - own)
            losses.append(lse([scale * dot(image[other], text[m, k]) for other in rows]) - own)
        contrasts.append(np.mean(losses))
    exchanges = [
        math.log(1 + math.exp(scale * (dot(image[m], f.pairs.negative[m]) - dot(image[m], text[m, k]))))
        for m in range(3)
        for k in range(4)
        if mask[m, k] and f.pairs.negative_mask[m]
    ]
    apart = [sum((float(a) - float(b)) ** 2 for a, b in zip(text[m, 0], text[m, 1], strict=True)) for m in range(3)]
    return float(0.5 * np.mean(contrasts) + 0.5 * np.mean(exchanges) + np.mean(apart))


def cutoff_by_loops(f: Features) -> float:
    assert f.cut_text is not None
    texts = [*f.text, *f.cut_text]
    losses = []
    for i, text in enumerate(texts):
        logits = {j: dot(text, other) / 0.05 for j, other in enumerate(texts) if j != i}
        losses.append(lse(list(logits.values())) - logits[(i + B) % (2 * B)])
    return float(np.mean(losses))


def memory_by_loops(batches: list[Features], size: int) -> float:
    """Transcribe the loss of the last of some batches: each pair of batch and memory asks each other one."""
    last = batches[-1]
    pairs = [(f, i) for f in reversed(batches) for i in range(B)][: B + size]
    scale, total = float(last.logit_scale), 0.0
    assert all(f.identity is not None for f in batches)
    for flipped in (False, True):
        for a, (f, i) in enumerate(pairs):
            logits: dict[int, float] = {}
            positive = [a]
            for b, (g, j) in enumerate(pairs):
                alike = int((f.identity[i] == g.identity[j]).any())  # type: ignore[index]
                label = 1 if a == b else -1 + alike
                if f is last and g is last and last.labels is not None:
                    label = int(last.labels[j, i] if flipped else last.labels[i, j])
                    positive += [b] * (label == 1 and a != b)
                if label != 0:
                    image, text = (g.image[j], f.text[i]) if flipped else (f.image[i], g.text[j])
                    logits[b] = scale * dot(image, text)
            total += sum(lse(list(logits.values())) - logits[b] for b in positive) / len(positive)
    return total / (2 * B)


@pytest.mark.parametrize("labels", [None, some_labels(B, B)])
@pytest.mark.parametrize("size", [3, 7, 100])
def test_memory_contrast_is_its_equation_over_three_batches(size: int, labels: Tensor | None) -> None:
    term = MemoryContrast(size=size).start()
    batches = [everything(seed, labels=labels) for seed in range(3)]
    identity = batches[1].identity
    assert identity is not None
    again = identity.clone()
    again[0, 0], again[2, 1] = 1, 1003  # a photograph and a caption that the first batch had
    batches[1] = dataclasses.replace(batches[1], identity=again)
    for count, features in enumerate(batches, 1):
        state = term.state_dict()
        assert float(term(features)) == pytest.approx(memory_by_loops(batches[:count], size), rel=1e-9)
        resumed = MemoryContrast(size=size).start()
        resumed.load_state_dict(state)
        assert float(resumed(features)) == pytest.approx(memory_by_loops(batches[:count], size), rel=1e-9)
    assert all(len(value) == min(size, 3 * B) for value in term.state_dict().values())


def test_with_a_memory_a_pair_gets_the_gradient_of_a_large_batch() -> None:
    old, new = everything(0, logit_scale=torch.tensor(7.5, dtype=torch.float64)), everything(1)
    assert old.identity is not None and new.identity is not None
    text = new.text.clone().requires_grad_()
    term = MemoryContrast(size=B).start()
    term(old)
    (got,) = torch.autograd.grad(term(dataclasses.replace(new, text=text)), [text])
    whole = {name: torch.cat([getattr(new, name), getattr(old, name)]) for name in ("image", "text", "identity")}
    large = Features(image=whole["image"], text=whole["text"].requires_grad_(), logit_scale=new.logit_scale)
    (expected,) = torch.autograd.grad(InfoNCE()(large), [large.text])
    # a batch of 2B takes the mean over twice as many pairs
    torch.testing.assert_close(got, 2 * expected[:B], rtol=1e-9, atol=1e-12)


def parity_by_loops(f: Features) -> float:
    assert f.groups is not None and f.prompts is not None
    total = 0.0
    for attribute in range(2):
        means = []
        for number in (0, 1):
            rows = [i for i in range(B) if f.groups[i, attribute] == number]
            answers = []
            for i in rows:
                logits = [float(f.logit_scale) * dot(f.image[i], prompt) for prompt in f.prompts]
                answers.append([math.exp(value - lse(logits)) for value in logits])
            means.append(np.mean(answers, axis=0))
        total += sum(float(np.abs(mean - np.mean(means, axis=0)).sum()) for mean in means)
    return total


CASES: list[tuple[Objective, Callable[[Features], float]]] = [
    (IntraModalContrast(), intra_by_loops),
    (TextAnalogy(), analogy_by_loops),
    (MultipleInstance(), instances_by_loops),
    (ParaphraseContrast(), paraphrase_by_loops),
    (ParaphraseContrast(negatives=True), paraphrase_among_negatives_by_loops),
    (KnowledgeContrast(), knowledge_by_loops),
    (TripletContrast(), triplets_by_loops),
    (RelationContrast(), relations_by_loops),
    (EntityContrast(), entities_by_loops),
    (NeighbourContrast(), aggregates_by_loops),
    (Distillation(), distillation_by_loops),
    (LocalContrast(), local_by_loops),
    (MultiScaleContrast(), scales_by_loops),
    (UnitContrast(), units_by_loops),
    (JoinedContrast(), joined_by_loops),
    (CutoffContrast(), cutoff_by_loops),
    (GroupParity(smallest=2), parity_by_loops),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("objective", "by_loops"), CASES, ids=lambda item: getattr(item, "name", ""))
def test_each_is_its_equation(objective: Objective, by_loops: Callable[[Features], float], seed: int) -> None:
    features = everything(seed)
    assert float(objective(features)) == pytest.approx(by_loops(features), rel=1e-9)


@pytest.mark.parametrize("labels", LABELS[1:2])
@pytest.mark.parametrize(("objective", "by_loops"), CASES[1:6], ids=lambda item: getattr(item, "name", ""))
def test_further_texts_have_the_label_of_their_caption(
    objective: Objective, by_loops: Callable[[Features], float], labels: Tensor | None
) -> None:
    features = with_shared(0, labels)
    assert float(objective(features)) == pytest.approx(by_loops(features), rel=1e-9)
    plain = float(objective(everything(0)))
    assert float(objective(features)) != pytest.approx(plain, rel=1e-6), "what labels leave out is felt"


def defaults() -> list[Objective]:
    """Return one of every objective, groups small enough for these batches."""
    made: list[Any] = [kind() for kind in all_objectives().values()]
    return [dataclasses.replace(item, smallest=2) if hasattr(item, "smallest") else item for item in made]


VARIANTS: list[Objective] = [Sigmoid(further=True, bias=0.0), ParaphraseContrast(negatives=True)]


def test_objectives_are_found_by_their_files() -> None:
    found = all_objectives()
    assert {InfoNCE, MemoryContrast, GroupParity, TripletContrast} <= set(found.values())
    known = {field.name for field in dataclasses.fields(Features)}
    assert all(set(objective.needs) <= known for objective in defaults())


@pytest.mark.parametrize("objective", [*defaults(), *VARIANTS], ids=lambda item: item.name)
def test_gradients_are_right_and_reach_both_towers(objective: Objective) -> None:
    base = everything(3)
    assert base.negatives is not None and base.tokens is not None and base.positives is not None
    if isinstance(objective, Sigmoid) and objective.bias is None:
        objective = Sigmoid(bias=-1.0)

    def loss(image: Tensor, text: Tensor, negatives: Tensor, further: Tensor, tokens: Tensor) -> Tensor:
        assert base.positives is not None and base.tokens is not None
        return objective(
            dataclasses.replace(
                base,
                image=image,
                text=text,
                negatives=negatives,
                positives=TextSlots(further, base.positives.mask),
                tokens=dataclasses.replace(base.tokens, text=tokens),
            )
        )

    parts = (base.image, base.text, base.negatives, base.positives.features, base.tokens.text)
    inputs = tuple(value.clone().requires_grad_() for value in parts)
    if not isinstance(objective, LocalContrast | MultiScaleContrast):
        assert torch.autograd.gradcheck(loss, inputs)
    if not {"triplets", "pairs"} & {*objective.needs}:  # their features are none of these
        gradients = torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
        assert any(gradient is not None and float(gradient.abs().max()) > 0 for gradient in gradients)


@pytest.mark.parametrize("objective", [*defaults(), *VARIANTS], ids=lambda item: item.name)
def test_a_feature_that_is_missing_is_an_error_and_never_a_loss_of_zero(objective: Objective) -> None:
    for need in objective.needs:
        without = {"negatives": None, "negative_mask": None, "negative_type": None, "tokens": None}
        without = without if need == "negatives" else {need: None}
        with pytest.raises(ValueError, match="the objective needs features"):
            objective.start()(everything(**without))
    if not objective.needs:
        assert objective(make_features(negatives=None, negative_mask=None)).item() > 0.0
    assert math.isfinite(objective.start()(everything()).item())


EMPTY = TextSlots(unit(B, P, D, seed=1), torch.zeros(B, P, dtype=torch.bool))
NOTHING = {
    "negative_mask": torch.zeros(B, K, dtype=torch.bool),
    "positives": EMPTY,
    "groups": torch.full((B, 2), -1),
    "triplets": some_facts(9, ((0, 0, 1),)),
    "pairs": some_pairs(1, 0),
    "phrases": dataclasses.replace(some_phrases(1), mask=torch.zeros(B, P, dtype=torch.bool)),
}


@pytest.mark.parametrize("objective", defaults(), ids=lambda item: item.name)
def test_a_batch_that_happens_to_hold_none_contributes_zero_with_a_gradient(objective: Objective) -> None:
    zero = {
        "cross_modal_rank", "group_alignment", "group_parity", "intra_modal_contrast", "knowledge_contrast", "local_contrast",
        "negative_contrast", "text_analogy", "triplet_contrast", "paraphrase_contrast", "multi_scale_contrast", "unit_contrast", "joined_contrast", "relation_contrast", "entity_contrast", "neighbour_contrast",
    }  # fmt: skip
    features = everything(**NOTHING)
    features = dataclasses.replace(
        features, image=features.image.clone().requires_grad_(), text=features.text.clone().requires_grad_()
    )
    loss = objective.start()(features)
    assert loss.item() == 0.0 if objective.name in zero else math.isfinite(loss.item())
    assert loss.requires_grad


@pytest.mark.parametrize("objective", defaults(), ids=lambda item: item.name)
def test_each_names_its_source_and_refuses_a_weight_of_zero(objective: Objective) -> None:
    assert objective.source and "Source:" in (objective.__doc__ or "") and "Differs:" in (objective.__doc__ or "")
    with pytest.raises(InputError, match="weight"):
        dataclasses.replace(objective, weight=0.0)  # type: ignore[type-var]


FACT_TERMS = [TripletContrast(), RelationContrast(), EntityContrast(), NeighbourContrast()]


@pytest.mark.parametrize("objective", FACT_TERMS, ids=lambda item: item.name)
def test_terms_over_facts_teach_their_texts(objective: Objective) -> None:
    """Gradients of every text that a term reads are right, and steps along them make it smaller."""
    base = some_facts(3)
    names = ("query", "pair", "entity", "relation_text")

    def loss(*texts: Tensor) -> Tensor:
        return objective(everything(triplets=dataclasses.replace(base, **dict(zip(names, texts, strict=True)))))

    texts = tuple(getattr(base, name).clone().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(loss, texts)
    gradients = torch.autograd.grad(loss(*texts), texts, allow_unused=True)
    moved = [text if grad is None else text - 1e-3 * grad for text, grad in zip(texts, gradients, strict=True)]
    assert float(loss(*moved).detach()) < float(loss(*texts).detach())


def test_parity_remembers_groups_that_a_batch_lacks() -> None:
    term = GroupParity(smallest=1, decay=0.5).start()
    both = everything(groups=torch.tensor([[0], [0], [1], [1], [1]]))
    term(both)
    one = everything(1, groups=torch.zeros(B, 1, dtype=torch.int64))
    assert float(term(one)) > 0
    fresh = GroupParity(smallest=1, decay=0.5).start()
    assert float(fresh(one)) == 0.0
    fresh.load_state_dict(term.state_dict())
    assert float(fresh(both)) == pytest.approx(float(term(both)), rel=1e-12)


@pytest.mark.parametrize("sizes", [(4, 4), (3, 7)])
def test_alignment_is_the_wasserstein_distance(sizes: tuple[int, int]) -> None:
    from training.objectives.fairness import wasserstein

    left, right = (
        torch.randn(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64) for size in sizes
    )
    # many copies of each value make the two samples equally long
    pairs = zip(
        left.repeat_interleave(sizes[1]).sort().values, right.repeat_interleave(sizes[0]).sort().values, strict=True
    )
    expected = float(np.mean([float(a - b) ** 2 for a, b in pairs]))
    assert float(wasserstein(left, right)) == pytest.approx(expected, rel=1e-12)
    features = everything(groups=torch.tensor([[0]] * 2 + [[1]] * 3))
    own = (features.image * features.text).sum(dim=1)
    expected = float(np.mean([float(wasserstein(own[:2], own)), float(wasserstein(own[2:], own))]))
    assert float(GroupAlignment(smallest=2)(features)) == pytest.approx(expected, rel=1e-12)


@dataclasses.dataclass(frozen=True)
class Deep(InfoNCE):
    """Needs what nobody makes."""

    name: ClassVar[str] = "deep"
    needs: ClassVar[tuple[str, ...]] = ("depth",)


REFUSED: list[tuple[Objective, dict[str, Any], dict[str, list[Any]], str]] = [
    (TextAnalogy(), {}, {}, "text_analogy needs positives: the recipe draws no further texts(.|\n)*FurtherTexts"),
    (KnowledgeContrast(), {"positives": FurtherTexts(captions=False)}, {"num_views": [0] * 12}, "has a further text"),
    (NegativeContrast(), {}, {}, "negative_contrast needs negatives: the recipe chooses no negatives"),
    (CrossModalRank(), {"negatives": UniformNegatives()}, {"num_negatives": [0] * 12}, "no caption of the training"),
    (
        CutoffContrast(),
        {"negatives": UniformNegatives()},
        {"num_negatives": [0] * 12},
        "recipe x trains with negatives",
    ),
    (Deep(), {}, {}, "deep needs depth: training cannot make this feature yet(.|\n)*take the objective"),
]


@pytest.mark.filterwarnings("ignore:model 'tiny'")
@pytest.mark.parametrize(
    ("objective", "parts", "columns", "message"), REFUSED, ids=lambda item: getattr(item, "name", "")
)
def test_a_run_starts_only_with_what_its_objectives_need(
    make_version: MakeVersion,
    tmp_path: Path,
    objective: Objective,
    parts: dict[str, Any],
    columns: dict[str, list[Any]],
    message: str,
) -> None:
    recipe = TrainParts("x", ShuffledPlan(), (InfoNCE(), objective), **parts)
    version, config = make_version(12, columns=columns), TrainConfig(steps=1, batch_size=4)
    with pytest.raises(InputError, match=message):
        train(version, recipe, ModelSpec.parse("tiny"), config, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing is written before the check"


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_one_caption_an_image_is_enough_where_the_shown_text_stands_for_further_ones(
    make_version: MakeVersion, tmp_path: Path
) -> None:
    objectives = (InfoNCE(), ParaphraseContrast(negatives=True))
    version, config = make_version(12, columns={"num_captions": [1] * 12}), TrainConfig(steps=1, batch_size=4)
    for or_shown in (False, True):
        drawn = FurtherTexts(rewrites=False, or_shown=or_shown)
        recipe = TrainParts("x", ShuffledPlan(), objectives, negatives=UniformNegatives(), positives=drawn)
        if or_shown:
            assert train(version, recipe, ModelSpec.parse("tiny"), config, tmp_path / "run")
        else:
            with pytest.raises(InputError, match="has a further text"):
                train(version, recipe, ModelSpec.parse("tiny"), config, tmp_path / "run")


@pytest.mark.filterwarnings("ignore:model 'tiny'")
@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (GroupParity(), "no batch has 4 samples of two of them"),
        (EntityContrast(), "no batch has captions that state two of them"),
        (UnitContrast(), "no caption of this data set version has any"),
        (JoinedContrast(), "no two captions that are joined have words of one class"),
    ],
    ids=lambda item: getattr(item, "name", ""),
)
def test_a_run_ends_before_its_first_step_where_no_batch_has_what_an_objective_compares(
    make_version: MakeVersion, tmp_path: Path, objective: Objective, message: str
) -> None:
    recipe = TrainParts("x", ShuffledPlan(), (InfoNCE(), objective))
    with pytest.raises(InputError, match=message):
        train(make_version(12), recipe, ModelSpec.parse("tiny"), TrainConfig(steps=2, batch_size=4), tmp_path / "run")
    assert not read_lines(tmp_path / "run" / "log.jsonl")


def test_a_tower_without_tokens_is_refused_by_the_name_of_the_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="random"):
        model = ModelSpec.parse("tiny").load()
    parts = TrainParts("x", ShuffledPlan(), (InfoNCE(), CutoffContrast(), LocalContrast()))
    check_model_needs(parts, model)
    monkeypatch.setattr(ClipModel, "causal_end", lambda self, tokens: None)
    with pytest.raises(InputError, match=r"cutoff_contrast needs cut_text: .* gives no tokens"):
        check_model_needs(parts, model)
