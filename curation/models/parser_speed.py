"""A faster spaCy pipeline with the same results: one matrix kernel, and caches for words.

In the order of the processor time that each saves on captions (on a 2-core EPYC):

1. Matrix products use numpy's BLAS in blocks of equal shape, two to three times as fast as spaCy's own library. With
   equal blocks, a row's bits do not depend on the number of rows, so a parse does not depend on its batch.
2. Nearly all rules for a token's part of speech and lemma depend on that token alone, and a few on two tokens. Results
   are cached by (word, tag, arc label); a text in which a two-token rule may apply is left to spaCy.
3. The context-free vector of a word is cached.

In other pipelines than spaCy's English ones (rules over more tokens, another embedding), the parts that are not
supported here stay as they are: slower, with the same results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

_ROWS = 16
"""Rows of a block. With 48 or 64, the last bits of a row depended on its position in the block."""
_MAX_CACHED = 1 << 15
"""Entries at which a cache is cleared: bounds its memory (13 MiB of vectors)."""
_TOKEN_ATTRIBUTES = frozenset(
    {"TAG", "LOWER", "DEP", "ORTH", "IS_SPACE", "TEXT", "SHAPE", "IS_ALPHA", "IS_DIGIT", "IS_PUNCT"}
)
"""Attributes that supported rules test: all follow from the word as written, its tag and its arc label."""


class Annotation(NamedTuple):
    """The tag and arc label of a token, and the part of speech and lemma that rules give it."""

    pos: int
    pos_name: str
    lemma: str
    tag: str
    dep: str


def annotation_of(token: Token) -> Annotation:
    """Return the annotation that a complete pipeline has given a token."""
    return Annotation(token.pos, token.pos_, token.lemma_, token.tag_, token.dep_)


class WordRules:
    """spaCy's attribute ruler and lemmatizer, cached by (word, tag, arc label).

    Args:
        nlp: A pipeline that `supports` accepts.
    """

    def __init__(self, nlp: Language) -> None:
        from spacy.matcher import Matcher

        self.vocab = nlp.vocab
        self.ruler, self.lemmatizer = nlp.get_pipe("attribute_ruler"), nlp.get_pipe("lemmatizer")
        self.beginnings = Matcher(nlp.vocab)
        first = [[tokens[0]] for tokens in _patterns(self.ruler) if len(tokens) > 1]
        if first:
            self.beginnings.add("first token of a two-token rule", first)
        self.known: dict[tuple[int, int, int], Annotation | None] = {}

    @staticmethod
    def supports(nlp: Language) -> bool:
        """Return whether a pipeline ends in rules over at most two adjacent tokens."""
        from spacy.lang.en.lemmatizer import EnglishLemmatizer
        from spacy.pipeline import AttributeRuler

        if nlp.pipe_names[-2:] != ["attribute_ruler", "lemmatizer"]:
            return False
        ruler, lemmatizer = nlp.get_pipe("attribute_ruler"), nlp.get_pipe("lemmatizer")
        known = isinstance(lemmatizer, EnglishLemmatizer) and lemmatizer.mode == "rule" and not lemmatizer.overwrite
        return (
            known
            and isinstance(ruler, AttributeRuler)
            and all(
                1 <= len(tokens) <= 2 and all(_TOKEN_ATTRIBUTES.issuperset(token) for token in tokens)
                for tokens in _patterns(ruler)
            )
        )

    def annotate(self, docs: Sequence[Doc]) -> list[list[Annotation]]:
        """Set the parts of speech of tagged and parsed documents, and return the annotations of their tokens."""
        keys = [list(map(tuple, doc.to_array(["ORTH", "TAG", "DEP"]).tolist())) for doc in docs]
        if len(self.known) > _MAX_CACHED:
            self.known.clear()
        self._add(
            {key: token for doc, own in zip(docs, keys, strict=True) for key, token in zip(own, doc, strict=True)}
        )
        return [self._annotate_doc(doc, [self.known[key] for key in own]) for doc, own in zip(docs, keys, strict=True)]

    def _annotate_doc(self, doc: Doc, cached: list[Annotation | None]) -> list[Annotation]:
        annotations = [annotation for annotation in cached if annotation is not None]
        if len(annotations) < len(cached):  # a two-token rule may apply
            self.lemmatizer(self.ruler(doc))
            return [annotation_of(token) for token in doc]
        for token, annotation in zip(doc, annotations, strict=True):
            token.pos = annotation.pos
        return annotations

    def _add(self, tokens: Mapping[tuple[int, int, int], Token]) -> None:
        """Cache spaCy's annotations of new tokens, computed in one text with a comma after each token."""
        from spacy.tokens import Doc

        new = {key: token for key, token in tokens.items() if key not in self.known}
        if not new:
            return
        words = [word for token in new.values() for word in (token.text, ",")]
        doc = Doc(self.vocab, words=words, spaces=[False] * len(words))
        for index, (_, tag, dep) in enumerate(new):
            doc[2 * index].tag, doc[2 * index].dep = tag, dep
            doc[2 * index + 1].tag_ = ","
        begins = {start for _, start, _ in self.beginnings(doc, allow_missing=True)}
        self.lemmatizer(self.ruler(doc))
        for index, key in enumerate(new):
            self.known[key] = None if 2 * index in begins else annotation_of(doc[2 * index])


def _patterns(ruler: Any) -> Iterable[Sequence[dict[str, Any]]]:
    return (tokens for rule in ruler.patterns for tokens in rule["patterns"])


def speed_up(nlp: Language) -> None:
    """Make a pipeline's networks multiply in blocks of equal shape, and cache its words' vectors."""
    from thinc.api import Model, NumpyOps

    class BlockOps(NumpyOps):  # type: ignore[misc]
        """numpy's matrix product for weights, block by block."""

        def gemm(self, x: Any, y: Any, out: Any = None, trans1: bool = False, trans2: bool = False) -> Any:
            if trans1 or not trans2:  # only in training
                return super().gemm(x, y, out=out, trans1=trans1, trans2=trans2)
            product = in_blocks(x, y)
            if out is None:
                return product
            out[:] = product
            return out

    ops = BlockOps()
    for _, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        if not isinstance(model, Model) or not isinstance(model.ops, NumpyOps):
            continue
        for node in model.walk():
            node.ops = ops
        for node in list(model.walk()):
            if [layer.name.partition("(")[0] for layer in node.layers] == [
                "extract_features", "list2ragged", "with_array", "with_array", "ragged2list"
            ]:  # fmt: skip
                model.replace_node(node, _cached_embedding(node))


def in_blocks(x: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return x [rows, in] times weights [out, in] transposed; the bits of a row depend only on that row."""
    rows = len(x)
    blocks = -(-rows // _ROWS)
    if rows != blocks * _ROWS:
        padded = np.zeros((blocks * _ROWS, x.shape[1]), dtype=x.dtype)
        padded[:rows] = x
        x = padded
    # Weights first: x's rows then are lanes of one vector register, and all positions in a block are computed alike.
    product = np.matmul(weights, x.reshape(blocks, _ROWS, x.shape[1]).transpose(0, 2, 1))
    joined: np.ndarray[Any, Any] = np.ascontiguousarray(product.transpose(0, 2, 1))
    return joined.reshape(blocks * _ROWS, len(weights))[:rows]


def _cached_embedding(embedding: Any) -> Any:
    """Return an embedding with a cache of the vectors computed from a token's features."""
    from thinc.api import Model, Ragged

    hashes, mix = embedding.layers[2].layers[0], embedding.layers[3].layers[0]
    rows: dict[bytes, int] = {}
    table = np.zeros((1 << 10, mix.get_dim("nO")), dtype=np.float32)

    def vectors(features: np.ndarray[Any, Any]) -> Any:
        nonlocal table
        keys = np.ascontiguousarray(features).view(f"V{features.shape[1] * features.itemsize}").ravel().tolist()
        if len(rows) > _MAX_CACHED:
            rows.clear()
        new = {key: index for index, key in enumerate(keys) if key not in rows}
        if new:
            start = len(rows)
            while start + len(new) > len(table):
                table = np.concatenate([table, np.zeros_like(table)])
            table[start : start + len(new)] = mix.predict(hashes.predict(features[list(new.values())]))
            rows.update(zip(new, range(start, start + len(new)), strict=True))
        return table[[rows[key] for key in keys]]

    def forward(model: Any, docs: Sequence[Doc], is_train: bool) -> Any:
        if is_train:
            return model.layers[0](docs, is_train)
        extract, flatten, _, _, unflatten = model.layers[0].layers
        ragged = flatten.predict(extract.predict(docs))
        found = vectors(ragged.dataXd) if len(ragged.dataXd) else table[:0]
        return unflatten.predict(Ragged(cast("Any", found), ragged.lengths)), lambda gradient: gradient

    return Model("cached_embedding", forward, layers=[embedding], dims={"nO": table.shape[1]}, ops=embedding.ops)
