"""Replace words of a caption by words that the corpus itself uses in their place and keeps apart from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, ClassVar

from curation.blind.image_sample import ImageSample
from curation.contrasts import general_classes
from curation.contrasts.caption_words import is_plural, split
from curation.contrasts.decisions import with_decisions
from curation.contrasts.evidence import EXCLUSIVE_WORDS
from curation.contrasts.learn import Learner, LearningImage
from curation.contrasts.substitutes import Substitute, Substitutes, all_forms
from curation.contrasts.vocabulary import ContrastVocabulary, VocabularyFile
from curation.engine.fits import Fit, FitKey
from curation.engine.stage import Columns, Drop, Field, FittedStage
from curation.entailment.word_meanings import WordRelations, contradicts, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.models.parser import CaptionParse
from curation.text.articles import article_for
from curation.text.edits import Edit, apply_edits, normalise, token_edits
from curation.text.languages import ENGLISH, CaptionLanguage
from curation.text.lexicon import PEOPLE, noun_lemma
from curation.text.word_families import is_human
from data_manifests.sample import Sample

_MAX_CAPTIONS = 100_000
_LEAST_COUNT = 3


@dataclass(frozen=True)
class MineContrasts(FittedStage):
    """Make up to `per_caption` negatives per caption by exchanging a word for one that excludes it, learned from the captions.

    What may stand in place of what is learned from the captions; classes from general knowledge help where these are few.

    Fitted, on the images with the smallest hashes (at most 100,000 captions): classes of words of which any two exclude
    each other. Words are candidates when they stand in the same places: a space of contexts learned from the captions,
    captions of different images that differ in this word alone, shared pairs of neighbours. Words that mostly come
    together are one word ("magnetic resonance imaging"). A pair becomes a contrast only with evidence that its words
    exclude each other: where images have several captions, these agree on which of the two it is (Cohen's kappa), or
    captions of an image of one seldom say the other; captions put them side by side ("left and right"); they come
    together less than by chance, in captions that otherwise differ; our lists say so. Pairs on which the captions of an
    image disagree, spellings and inflections of one word, and what lists or the graph call synonyms or kinds of each
    other are refused. A few hundred captions are too few for that: general classes (colours, sides, organs, garments, sites,
    see the word list ``general_classes``) are used with those of their words that the captions have, unless captions of an
    image call a thing by both. Names that fill one place of captions, such as brands before "men", are a class when two of
    them hardly ever come in one caption. Numbers before a unit ("5 mm") are exchanged for others of that unit, or for such
    that look alike; codes, other numbers and function words are left alone.

    Applied: each word of a class is exchanged for each other word of it with a probability such that exchanges go as
    often in one direction as in the other between the same neighbours; see `curation.contrasts.substitutes`. In English
    each word that can be exchanged gives one negative at least, and a caption `at_least` where it can, although the draw is
    against them: the balance chooses among them. No new word is one that a caption of the image has; what a negation denies, words
    fixed to a neighbour ("soft tissue") and, where a parser says what a word is, words of another kind are left alone. A
    draw depends on uid and caption alone, so that an edited caption changes its own negatives only.

    Provides ``mined_negatives``, a list of negative records; ``span_class`` is the type, and ``rule`` names the class,
    the two words and the evidence. Not every word that a class excludes is seen to be false by text alone:
    `find_false_negatives` judges the records like all others.

    Attributes:
        seed: Seed of the draws.
        per_caption: Most negatives per caption, 1 or more.
        at_least: So many exchanges of an English caption are made, where there are as many, although the draw is against some; 0
            makes one of each word.
        graph: Synonyms and kinds beyond our own lists; None uses the lists only.
        vocabulary: Classes, synonyms and words to keep that people have decided; stronger than all evidence. Another one is
            brought into an earlier fit, and nothing is learned anew: words that it does not name are exchanged as before.
        language: The captions' language: its function words are never exchanged, nothing behind its negations is. The
            classes from general knowledge and our lists of synonyms are English, and used for English only. In languages that inflect, a new word is one that the
            corpus has behind words with these endings.

    Raises:
        InputError: `per_caption` is below 1, or `at_least` below 0.

    Source: Harris 1954, "Distributional structure": words that stand in the same places; Levy and Goldberg 2014 for the
        space; Metropolis et al. 1953 for exchanges that leave a distribution as it is.
    Differs: distributional similarity does not tell antonyms from synonyms; agreement between captions of one image does.
        The rule of Metropolis is applied once to each pair of words, not as a chain.
    """

    name: ClassVar[str] = "mine_contrasts"
    version: ClassVar[int] = 7
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (Field("mined_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Harris 1954, distributional structure; Metropolis et al. 1953"
    decisions: ClassVar[tuple[str, ...]] = ("vocabulary",)

    seed: int = field(default=0, kw_only=True)
    per_caption: int = field(default=12, kw_only=True)
    at_least: int = field(default=8, kw_only=True)
    graph: KnowledgeGraph | None = None
    vocabulary: VocabularyFile | None = None
    language: CaptionLanguage = ENGLISH

    def __post_init__(self) -> None:
        self.check_least(per_caption=1, at_least=0)

    def fit(self, columns: Columns) -> Fit:
        """Learn classes of words and their contexts from a sample of the captions; then bring the vocabulary in."""
        images = self._images(columns)
        relations = self._relations(images)
        same, exclude = partial(_may_be_same, relations), _exclude
        if not self.language.is_english:
            same, exclude = partial(_graph_says_same, relations), self.language.lists_say_exclude
        learned = Fit(*Learner(images, same, exclude, self.language).learn())
        return with_decisions(learned, self._decided(), images, self.language)

    def amend(self, fit: Fit, columns: Columns) -> Fit:
        """Return a fit with this vocabulary in place of the one it was made with; classes that it does not name stay."""
        decided = self._decided()
        return with_decisions(fit, decided, self._images(columns) if decided.classes else [], self.language)

    def _decided(self) -> ContrastVocabulary:
        return self.vocabulary.read() if self.vocabulary is not None else ContrastVocabulary()

    def _images(self, columns: Columns) -> list[LearningImage]:
        """Return a sample of the captions."""
        sample: ImageSample[LearningImage] = ImageSample(self.name, _MAX_CAPTIONS)
        for batch in columns.batches():
            for one in batch:
                if sample.wants(one.uid):
                    sample.add(one.uid, _read(one), len(one.captions))
        return sample.items()

    def _relations(self, images: Sequence[LearningImage]) -> WordRelations:
        """Return the graph's relations of the words that come often enough to be exchanged."""
        if self.graph is None:
            return WordRelations()
        counts = Counter(word.lower() for image in images for caption in image.captions for word in caption)
        return word_relations(self.graph, sorted(word for word, number in counts.items() if number >= _LEAST_COUNT))

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Return the negatives of each sample."""
        found = _substitutes(FitKey(fit))
        return [{"mined_negatives": self._of_sample(sample, found)} for sample in samples]

    def _of_sample(self, sample: Sample, found: Substitutes) -> list[dict[str, Any]]:
        words_of = [found.words(caption) for caption in sample.captions]
        words = [word.text for of_caption in words_of for word in of_caption]
        named = all_forms([*words, *(part for word in words for part in word.split(" "))])
        taken = {normalise(caption) for caption in sample.captions}
        records: list[dict[str, Any]] = []
        for number, (caption, parse) in enumerate(zip(sample.captions, sample["parses"], strict=True)):
            least = len(records)
            tags = dict(zip(parse["starts"], parse["pos"], strict=True))
            drawn = found.of_caption(caption, words_of[number], named, tags, self.seed, self.name, sample.uid)
            for one in _chosen(drawn, self.at_least, fill=self.language.is_english):
                record = self._record(number, caption, parse, one)
                if (text := normalise(record["text"])) in taken:
                    continue
                taken.add(text)
                records.append(record)
                if len(records) - least == self.per_caption:
                    break
        return records

    def _record(self, number: int, caption: str, parse: CaptionParse, one: Substitute) -> dict[str, Any]:
        old = caption[one.word.start : one.word.end]
        pieces = [
            Edit(one.word.start, one.word.end, one.new),
            *(_article(caption, one) if self.language.is_english else ()),
        ]
        text, edits = apply_edits(caption, pieces)
        return {
            "text": text, "caption": number, "operation": "contrast", "span_class": one.type, "type": one.type,
            "edits": edits, "tokens": token_edits(parse, pieces),
            "rule": f"{one.kind}: {old} -> {one.new}; {one.evidence}", "source": self.name,
        }  # fmt: skip


@lru_cache(maxsize=2)
def _substitutes(key: FitKey) -> Substitutes:
    return Substitutes(key.fit)


def _may_be_same(relations: WordRelations, one: str, other: str) -> bool:
    """Return whether lists or the graph say that two English words may be true of one thing, or may not stand in one place."""
    if _is_one_person(one, other):
        return True
    if general_classes.mean_the_same(one, other) or (is_plural(one) != is_plural(other) and not _exclude(one, other)):
        return True  # what stands in one place in singular and plural is mostly no contrast, and no good English
    kinds = relations.covers(one, other) or relations.covers(other, one)
    return kinds or relations.synonymous(f"do:{one}", f"do:{other}")


def _is_one_person(one: str, other: str) -> bool:
    """Return whether a word says what a person does and the other who it is, so that both may be true: "skier", "woman"."""
    first, second = noun_lemma(one), noun_lemma(other)
    roles = [is_human(lemma) and lemma not in PEOPLE for lemma in (first, second)]
    return (roles[0] and second in PEOPLE) or (roles[1] and first in PEOPLE)


def _graph_says_same(relations: WordRelations, one: str, other: str) -> bool:
    """Return whether the graph alone says that two words, of any language, may be true of one thing."""
    return any(
        first in known.get(second, ())
        for known in (relations.synonyms, relations.hypernyms)
        for first, second in ((one, other), (other, one))
    )


def _exclude(one: str, other: str) -> bool:
    """Return whether our lists say that two words exclude each other."""
    listed = general_classes.exclude(one, other) or any(one in row and other in row for row in EXCLUSIVE_WORDS)
    return listed or contradicts(one, {other}) or contradicts(f"do:{one}", {f"do:{other}"})


def _read(sample: Sample) -> LearningImage:
    texts = dict.fromkeys(sample.captions)
    captions = [[caption[word.start : word.end] for word in split(caption)] for caption in texts]
    pos = {
        word.lower(): tag for parse in sample["parses"] for word, tag in zip(parse["words"], parse["pos"], strict=True)
    }
    return LearningImage(captions, pos)


def _article(caption: str, one: Substitute) -> list[Edit]:
    """Return the edit of "a" or "an" before a word; empty where it stays."""
    before = caption[: one.word.start].rstrip()
    start = before.rfind(" ") + 1
    word = before[start:]
    if word.lower() not in ("a", "an") or not one.new[:1].isalpha() or one.word.start - len(before) != 1:
        return []
    needed = article_for(one.new)
    return (
        []
        if word.lower() == needed
        else [Edit(start, len(before), needed.capitalize() if word[0].isupper() else needed)]
    )


def _chosen(possible: Sequence[Substitute], at_least: int, *, fill: bool) -> list[Substitute]:
    """Return the exchanges that were drawn, so that every place of the caption comes once before any comes twice.

    Args:
        possible: All exchanges of a caption, by their draws.
        at_least: How many to have, if there are as many.
        fill: Add the first of every place without one although the draw was against it, and others if there are still few.
    """
    counts: Counter[int] = Counter()
    ranked: list[tuple[int, Substitute]] = []
    others: list[tuple[int, Substitute]] = []
    for one in possible:
        chosen = ranked if one.order < 1 or (fill and not counts[one.word.start]) else others
        chosen.append((counts[one.word.start], one))
        counts[one.word.start] += 1
    if fill:
        ranked += others[: max(at_least - len(ranked), 0)]
    return [one for _, one in sorted(ranked, key=lambda item: item[0])]
