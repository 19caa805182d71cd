"""What the captions of a corpus say about pairs of words: can they stand in one place, and do they exclude each other?

Nothing here knows a language: all of it is counted on the captions, most of it on whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.blind.tokens import Float64s, Int64s, Mask
from curation.contrasts.caption_words import WordTable, is_exchangeable
from curation.text.wordlists import word_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MAX_WORDS = 8_000
_DIMS, _TOPIC_DIMS = 64, 48
_NEIGHBOURS = 25
_LEAST_COSINE = 0.25
_DECIMALS = 5
_FAR_WEIGHT = 0.5
_SMOOTHING = 0.75
_MAX_SHARE = 0.05
"""Largest share of captions that have a word which tells what its neighbour is about: "shirt" does, "the" does not."""
_MAX_DISTANCE = 8
_SAME_WORDING = 0.6
"""Two captions of an image with this share of common words are one person's: they say nothing about agreement."""
_CELLS_PER_CHUNK = 4_000_000

EXCLUSIVE_WORDS = word_rows("exclusive_words")
"""Words of which any two exclude each other, class by class."""

_COORDINATORS = frozenset(row[0] for row in word_rows("coordinators"))


@dataclass(frozen=True)
class Occurrences:
    """The frequent exchangeable words of a table, and each place where one stands.

    Attributes:
        table: The captions.
        units: Their word numbers.
        at: Places in the table.
        unit: Which unit is there.
    """

    table: WordTable
    units: Int64s
    at: Int64s
    unit: Int64s

    @classmethod
    def of(cls, table: WordTable, least: int) -> Occurrences:
        """Find the words that come at least a number of times; of more than 8,000 the most frequent."""
        counts = np.bincount(table.ids, minlength=len(table.words))
        usable = np.array([is_exchangeable(word) for word in table.words]) & (counts >= least)
        found = np.flatnonzero(usable)
        units = np.sort(found[np.lexsort((found, -counts[found]))][:_MAX_WORDS])
        place = np.full(len(table.words), -1)
        place[units] = np.arange(len(units))
        unit = place[table.ids]
        at = np.flatnonzero(unit >= 0)
        return cls(table, units, at, unit[at])

    @property
    def names(self) -> list[str]:
        """The words."""
        return [self.table.words[number] for number in self.units.tolist()]

    @cached_property
    def counts(self) -> Int64s:
        """How often each comes."""
        return np.bincount(self.unit, minlength=len(self.units))

    @cached_property
    def caption(self) -> Int64s:
        """The caption of each place."""
        return self.table.caption[self.at]

    def neighbour(self, step: int) -> Int64s:
        """Return the word number that stands `step` words after each place; "a" and "an" are one word."""
        ids = self.table.ids
        if "an" in self.table.words:
            an, a = (int(np.searchsorted(self.table.words, word)) for word in ("an", "a"))
            ids = np.where(ids == an, a, ids) if a < an and self.table.words[a] == "a" else ids
        return ids[self.at + step]

    @cached_property
    def captions_of(self) -> csr_array:
        """Which captions have each word [words, captions], ones."""
        return _ones(self.unit, self.caption, (len(self.units), self.table.num_captions))

    @cached_property
    def space(self) -> Float64s:
        """Unit vectors of words by what stands up to two words before and after them [words, dims].

        Positive pointwise mutual information and a truncated singular value decomposition, as in Levy and Goldberg
        2014 ("Neural word embedding as implicit matrix factorization"), from these captions alone.
        """
        size = len(self.table.words)
        steps = (-1, 1, -2, 2)
        columns = np.concatenate([self.neighbour(step) + number * size for number, step in enumerate(steps)])
        weights = np.repeat([1.0, 1.0, _FAR_WEIGHT, _FAR_WEIGHT], len(self.unit))
        counts = _sums(np.tile(self.unit, 4), columns, weights, (len(self.units), 4 * size))
        return _unit_rows(_factors(_mutual_information(counts), _DIMS))

    @cached_property
    def topics(self) -> tuple[Float64s, Float64s]:
        """Mean vectors of the other words of each word's captions [words, dims], and the squared lengths of their true means.

        The squared length of a mean of n vectors is too large by chance, the more so the fewer they are; products of
        different captions are not.
        """
        found = self.captions_of
        times = np.maximum(np.asarray(found.sum(axis=1)), 1.0)
        weighted = found.multiply(np.log(max(self.table.num_captions, 2) / times)[:, None]).tocsr()
        factors = _factors(weighted, _TOPIC_DIMS, scaled=False)
        of_caption = weighted.T @ factors
        own = np.log(max(self.table.num_captions, 2) / times)[:, None] * factors
        sums = found @ of_caption
        squares = found @ (of_caption**2).sum(axis=1) - 2 * (own * sums).sum(axis=1) + times * (own**2).sum(axis=1)
        others = sums - times[:, None] * own
        lengths = ((others**2).sum(axis=1) - squares) / np.maximum(times * (times - 1), 1)
        return others / times[:, None], np.maximum(lengths, 1e-12)

    def topic_similarity(self, one: Int64s, other: Int64s) -> Float64s:
        """Return the cosine of the true means of the topics of pairs of words; 1 where they are too short to be known."""
        means, lengths = self.topics
        known = (lengths[one] > 1e-9) & (lengths[other] > 1e-9)
        products = np.einsum("ij,ij->i", means[one], means[other])
        found = np.where(known, products / np.sqrt(lengths[one] * lengths[other]), 1.0)
        return np.asarray(np.clip(found, -1.0, 1.0))

    def candidates(self) -> Int64s:
        """Return pairs of words as numbers (first * words + second, sorted): each word's nearest in the space, those of minimal pairs, coordinated and listed ones."""
        size, keys = len(self.units), [np.zeros(0, np.int64)]
        for start in range(0, size, 512):
            near = self.space[start : start + 512] @ self.space.T
            rows = np.arange(len(near))
            near[rows, start + rows] = -1.0
            most = np.argsort(-near, axis=1, kind="stable")[:, :_NEIGHBOURS]
            one, other = np.repeat(start + rows, most.shape[1]), most.ravel()
            close = near[one - start, other] >= _LEAST_COSINE
            keys.append(pair_keys(one[close], other[close], size))
        minimal, times = np.unique(_minimal_pairs(self), return_counts=True)
        number = {name: place for place, name in enumerate(self.names)}
        for row in EXCLUSIVE_WORDS:
            known = np.array([number[word] for word in row if word in number], np.int64)
            one, other = np.triu_indices(len(known), 1)
            keys.append(pair_keys(known[one], known[other], size))
        return np.unique(np.concatenate([*keys, self.coordinated(), minimal[times > 1]]))

    def coordinated(self) -> Int64s:
        """Return the pair at each place where two words stand on the sides of a coordinator."""
        ids = self.table.ids
        between = np.array([word in _COORDINATORS for word in self.table.words])
        place = np.full(len(self.table.words), -1)
        place[self.units] = np.arange(len(self.units))
        one, other = place[ids[:-2]], place[ids[2:]]
        found = between[ids[1:-1]] & (one >= 0) & (other >= 0) & (one != other)
        return pair_keys(one[found], other[found], len(self.units))

    def informative_contexts(self) -> tuple[Int64s, Int64s, Int64s]:
        """Return the word before or after each place, where it tells something, with the unit and the caption there."""
        size = len(self.table.words)
        counts = np.bincount(self.table.ids, minlength=size)
        tells = (counts <= max(_MAX_SHARE * self.table.num_captions, 3)) & np.array(
            [any(map(str.isalnum, word)) for word in self.table.words]
        )
        sides = np.concatenate([self.neighbour(-1), self.neighbour(1) + size])
        kept = tells[sides % size]
        return sides[kept], np.tile(self.unit, 2)[kept], np.tile(self.caption, 2)[kept]


@dataclass(frozen=True)
class PairEvidence:
    """Figures of candidate pairs of words, one array each.

    Attributes:
        one: First word of each pair.
        other: Second word.
        cosine: Similarity of their positions in the space of contexts.
        frames: Different (word before, word after) that both have stood between.
        minimal: Captions of different images that are equal but for the two.
        kept_apart: Captions that name both side by side: "left and right", or before one word: "left lung ... right lung".
        together: Captions with both.
        expected: Captions that would have both, were they independent.
        topic: Similarity of the rest of their captions.
        agreement: Cohen's kappa of two captions of one image on which of the two words stands in one context; NaN where
            too few pairs of captions have such a context.
        mixed: How likely another caption of the image of one has the other word, against how likely a caption of an
            image of that other word repeats it; NaN without several captions. Near 1 for two words of one thing.
    """

    one: Int64s
    other: Int64s
    cosine: Float64s
    frames: Int64s
    minimal: Int64s
    kept_apart: Int64s
    together: Int64s
    expected: Float64s
    topic: Float64s
    agreement: Float64s
    mixed: Float64s

    @classmethod
    def of(cls, found: Occurrences, keys: Int64s) -> PairEvidence:
        """Count the evidence of pairs (see `Occurrences.candidates`)."""
        size = len(found.units)
        one, other = keys // size, keys % size
        frames = found.neighbour(-1) * len(found.table.words) + found.neighbour(1)
        distinct, place = np.unique(frames, return_inverse=True)
        in_frames = _ones(found.unit, place, (size, len(distinct)))
        captions = found.captions_of
        together = row_dots(captions, one, captions, other)
        share = np.asarray(captions.sum(axis=1))
        agreement, mixed = _agreement(found, keys, together)
        return cls(
            one,
            other,
            np.einsum("ij,ij->i", found.space[one], found.space[other]).round(_DECIMALS),
            row_dots(in_frames, one, in_frames, other).astype(np.int64),
            _times(_minimal_pairs(found), keys),
            (_times(found.coordinated(), keys) + _side_by_side(found, keys)).astype(np.int64),
            together.astype(np.int64),
            share[one] * share[other] / max(found.table.num_captions, 1),
            found.topic_similarity(one, other).round(_DECIMALS),
            agreement.round(_DECIMALS),
            mixed.round(_DECIMALS),
        )


def pair_keys(one: Any, other: Any, size: int) -> Int64s:
    """Return pairs of words as numbers, whatever their order."""
    return np.asarray(np.minimum(one, other) * size + np.maximum(one, other), np.int64)


def row_dots(left: csr_array, one: Int64s, right: csr_array, other: Int64s) -> Float64s:
    """Return the dot product of row `one` of a matrix and row `other` of another for each pair, in bounded memory."""
    if not len(one):
        return np.zeros(0)
    cells = np.cumsum(np.diff(left.indptr)[one] + np.diff(right.indptr)[other])
    bounds = np.searchsorted(cells, np.arange(0, max(int(cells[-1]), 1), _CELLS_PER_CHUNK))
    sums = [np.zeros(0)]
    for start, stop in zip(bounds, [*bounds[1:], len(one)], strict=True):
        part = slice(int(start), int(stop))
        sums.append(np.asarray(left[one[part]].multiply(right[other[part]]).sum(axis=1), np.float64).ravel())
    return np.concatenate(sums)


def _ones(rows: Int64s, columns: Int64s, shape: tuple[int, int]) -> csr_array:
    found = _sums(rows, columns, np.ones(len(rows)), shape)
    found.data[:] = 1.0
    return found


def _sums(rows: Int64s, columns: Int64s, weights: Float64s, shape: tuple[int, int]) -> csr_array:
    from scipy.sparse import csr_array

    found = csr_array((weights, (rows, columns)), shape=shape)
    found.sum_duplicates()
    return found


def _mutual_information(counts: csr_array) -> csr_array:
    """Return positive pointwise mutual information, with smoothed contexts (Levy, Goldberg and Dagan 2015)."""
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    contexts = np.asarray(counts.sum(axis=0)) ** _SMOOTHING
    words = np.asarray(counts.sum(axis=1))
    ratio = counts.data * contexts.sum() / np.maximum(words[rows] * contexts[counts.indices], 1e-12)
    return csr_array((np.maximum(np.log(np.maximum(ratio, 1e-12)), 0.0), counts.indices, counts.indptr), counts.shape)


def _factors(matrix: csr_array, dims: int, *, scaled: bool = True) -> Float64s:
    """Return left singular vectors [rows, dims], scaled by the roots of singular values; always the same for a matrix."""
    from scipy.sparse.linalg import svds
    from threadpoolctl import threadpool_limits

    least = min(matrix.shape)
    if least < 3:
        return np.zeros((matrix.shape[0], 1))
    with threadpool_limits(1):
        left, values, _ = svds(matrix, k=min(dims, least - 1), v0=np.full(least, 1.0 / least**0.5))
    return np.asarray(left * np.sqrt(values) if scaled else left)


def _unit_rows(vectors: Float64s) -> Float64s:
    return np.asarray((vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)).round(_DECIMALS))


def _times(found: Int64s, keys: Int64s) -> Int64s:
    """Return how often each of some sorted keys is among those found."""
    if not len(keys):
        return np.zeros(0, np.int64)
    place = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
    return np.bincount(place[keys[place] == found], minlength=len(keys))


def _pairs_within(group: Int64s) -> tuple[Int64s, Int64s]:
    """Return pairs of places that are in one group, at most 8 places of it apart."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for distance in range(1, min(_MAX_DISTANCE, len(group) - 1) + 1):
        same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
        if not len(same):
            break
        first.append(order[same])
        second.append(order[same + distance])
    return np.concatenate(first), np.concatenate(second)


def _side_by_side(found: Occurrences, keys: Int64s) -> Int64s:
    """Return how many captions have both words of a pair in one informative context: "left lung ... right lung"."""
    contexts, units, captions = found.informative_contexts()
    size = len(found.units)
    one, other = _pairs_within(captions * (2 * len(found.table.words)) + contexts)
    differ = units[one] != units[other]
    pairs = pair_keys(units[one][differ], units[other][differ], size)
    once = np.unique(np.stack([pairs, captions[one][differ]]), axis=1)[0]
    return _times(once, keys)


def _minimal_pairs(found: Occurrences) -> Int64s:
    """Return the pair of words in which two captions of different images differ, for each two captions that differ in one.

    Every caption is indexed once for each of its words, by a hash of the words before and of those after it.
    """
    before, after = _hashes(found.table)
    image, units = found.table.image[found.caption], found.unit
    one, other = _pairs_within(mixed(before[found.at] ^ mixed(after[found.at])).view(np.int64))
    differ = (units[one] != units[other]) & (image[one] != image[other])
    return pair_keys(units[one][differ], units[other][differ], len(found.units))


def _hashes(table: WordTable) -> tuple[Any, Any]:
    """Return the hashes of the words of the caption before each place, and of those after it."""
    numbers = mixed(table.ids.astype(np.uint64) + np.uint64(1))
    multiplier = np.uint64(0x9E3779B97F4A7C15)
    found = []
    for ids, words in ((table.ids, numbers), (table.ids[::-1], numbers[::-1])):
        starts = np.flatnonzero(ids == 0)
        offset = np.arange(len(ids)) - starts[np.searchsorted(starts, np.arange(len(ids)), side="right") - 1]
        hashes = np.zeros(len(ids), np.uint64)
        for step in range(1, int(offset.max(initial=0)) + 1):
            at = np.flatnonzero(offset == step)
            previous = words[at - 1] if step > 1 else np.zeros(len(at), np.uint64)
            hashes[at] = hashes[at - 1] * multiplier + previous
        found.append(hashes)
    return found[0], found[1][::-1]


def mixed(numbers: Any) -> Any:
    """Return well-mixed 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _agreement(found: Occurrences, keys: Int64s, together: Float64s) -> tuple[Float64s, Float64s]:
    """Return `PairEvidence.agreement` and `PairEvidence.mixed`."""
    image, size = found.table.image, len(found.units)
    unknown = np.full(len(keys), np.nan)
    if len(np.unique(image)) == found.table.num_captions:
        return unknown, unknown
    one, other = keys // size, keys % size
    differ, same_one, same_other = _same_context(found, keys)
    num = differ + same_one + same_other
    share = (2 * same_one + differ) / np.maximum(2 * num, 1)
    by_chance = 2 * share * (1 - share) * num
    kappa = np.where(by_chance >= 1.0, 1 - differ / np.maximum(by_chance, 1e-9), np.nan)
    captions = found.captions_of
    of_image = captions @ _ones(np.arange(len(image)), image, (len(image), int(image.max()) + 1))
    others = np.asarray(captions @ (np.bincount(image)[image] - 1.0))
    repeated = np.asarray(of_image.multiply(of_image).sum(axis=1)).ravel() - np.asarray(captions.sum(axis=1)).ravel()
    crossed = row_dots(of_image, one, of_image, other) - together
    again = np.maximum(repeated, 1e-9) / np.maximum(others, 1)
    mixed = np.maximum(
        crossed / np.maximum(others[one], 1) / again[other], crossed / np.maximum(others[other], 1) / again[one]
    )
    enough = np.minimum(others[one] * again[other], others[other] * again[one]) >= 5.0
    return np.where(by_chance >= 2.0, kappa, np.nan), np.where(enough, mixed, np.nan)


def _same_context(found: Occurrences, keys: Int64s) -> tuple[Float64s, Float64s, Float64s]:
    """Return how many pairs of captions of one image have different words of a pair in one context, and how many the same one.

    Of the same ones, only contexts count that the other word has somewhere too.
    """
    contexts, units, captions = found.informative_contexts()
    size, num_contexts = len(found.units), 2 * len(found.table.words)
    left, right = _pairs_within(found.table.image[captions] * num_contexts + contexts)
    unlike = captions[left] != captions[right]
    left, right = left[unlike], right[unlike]
    pairs, place = np.unique(captions[left] * found.table.num_captions + captions[right], return_inverse=True)
    kept = (_overlap(found, pairs) < _SAME_WORDING)[place]
    left, right = left[kept], right[kept]
    same: Mask = units[left] == units[right]
    differ = _times(pair_keys(units[left][~same], units[right][~same], size), keys).astype(np.float64)
    agreed = _sums(units[left][same], contexts[left][same], np.ones(int(same.sum())), (size, num_contexts))
    known = _ones(units, contexts, (size, num_contexts))
    one, other = keys // size, keys % size
    return differ, row_dots(agreed, one, known, other), row_dots(agreed, other, known, one)


def _overlap(found: Occurrences, pairs: Int64s) -> Float64s:
    """Return the share of common words of pairs of captions."""
    words = found.captions_of.T.tocsr()
    sizes = np.diff(words.indptr)
    one, other = pairs // found.table.num_captions, pairs % found.table.num_captions
    shared = row_dots(words, one, words, other)
    return np.asarray(shared / np.maximum(sizes[one] + sizes[other] - shared, 1))
