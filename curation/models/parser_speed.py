"""A spaCy pipeline's own results in less time: one matrix kernel, words remembered, no Doc touched without need.

What is done, in the order of what it saves on captions (of the pipeline's processor time on a 2-core EPYC):

1. Matrix products go to numpy's BLAS in blocks of equal shape, two to three times as fast as the library that spaCy brings. With
   equal blocks a row's bits cannot depend on how many rows stand beside it, so a parse cannot depend on its batch.
2. The rules that give a token its part of speech and its lemma look at that token alone, but for a few that look at two.
   Their answer is remembered for (word, tag, arc label); a text in which a rule of two may begin is left to spaCy.
3. The vector of a word before its context is the same wherever it stands, and is remembered.

A pipeline of another build than spaCy's English ones (rules that look further, another embedding) keeps what is not
understood here: it is slower and no different.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

_ROWS = 16
"""Rows of a block. With 48 or 64, rows of one block differed in their last bits by where in it they stood."""
_MOST_WORDS = 1 << 15
"""Entries after which a memory is emptied and filled anew: bounds what a long run holds (13 MiB of vectors)."""
_ONE_TOKEN = frozenset({"TAG", "LOWER", "DEP", "ORTH", "IS_SPACE", "TEXT", "SHAPE", "IS_ALPHA", "IS_DIGIT", "IS_PUNCT"})
"""What rules may ask of a token here: all of it follows from the word as written, its tag and its arc label."""


class Annotation(NamedTuple):
    """What a token is called, and what rules say of it."""

    pos: int
    pos_name: str
    lemma: str
    tag: str
    dep: str


def annotation_of(token: Token) -> Annotation:
    """Return what a whole pipeline has said of a token."""
    return Annotation(token.pos, token.pos_, token.lemma_, token.tag_, token.dep_)


class WordRules:
    """spaCy's attribute ruler and lemmatizer, asked once for each (word, tag, arc label).

    Args:
        nlp: A pipeline for which `understood` holds.
    """

    def __init__(self, nlp: Language) -> None:
        from spacy.matcher import Matcher

        self.vocab = nlp.vocab
        self.ruler, self.lemmatizer = nlp.get_pipe("attribute_ruler"), nlp.get_pipe("lemmatizer")
        self.beginnings = Matcher(nlp.vocab)
        first = [[tokens[0]] for tokens in _patterns(self.ruler) if len(tokens) > 1]
        if first:
            self.beginnings.add("begins a rule of two tokens", first)
        self.known: dict[tuple[int, int, int], Annotation | None] = {}

    @staticmethod
    def understood(nlp: Language) -> bool:
        """Say whether a pipeline ends in rules that look at no more than a token and the one after it."""
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
                1 <= len(tokens) <= 2 and all(_ONE_TOKEN.issuperset(token) for token in tokens)
                for tokens in _patterns(ruler)
            )
        )

    def annotate(self, docs: Sequence[Doc]) -> list[list[Annotation]]:
        """Give the tokens of tagged and parsed documents their parts of speech; return these and the lemmas."""
        keys = [list(map(tuple, doc.to_array(["ORTH", "TAG", "DEP"]).tolist())) for doc in docs]
        if len(self.known) > _MOST_WORDS:
            self.known.clear()
        self._ask(
            {key: token for doc, own in zip(docs, keys, strict=True) for key, token in zip(own, doc, strict=True)}
        )
        return [self._one(doc, [self.known[key] for key in own]) for doc, own in zip(docs, keys, strict=True)]

    def _one(self, doc: Doc, found: list[Annotation | None]) -> list[Annotation]:
        told = [annotation for annotation in found if annotation is not None]
        if len(told) < len(found):  # a rule of two tokens may begin here
            self.lemmatizer(self.ruler(doc))
            return [annotation_of(token) for token in doc]
        for token, annotation in zip(doc, told, strict=True):
            token.pos = annotation.pos
        return told

    def _ask(self, tokens: Mapping[tuple[int, int, int], Token]) -> None:
        """Let spaCy say what it says of tokens not met before: as a text of these, a comma after each."""
        from spacy.tokens import Doc

        new = {key: token for key, token in tokens.items() if key not in self.known}
        if not new:
            return
        words = [word for token in new.values() for word in (token.text, ",")]
        doc = Doc(self.vocab, words=words, spaces=[False] * len(words))
        for place, (_, tag, dep) in enumerate(new):
            doc[2 * place].tag, doc[2 * place].dep = tag, dep
            doc[2 * place + 1].tag_ = ","
        begins = {start for _, start, _ in self.beginnings(doc, allow_missing=True)}
        self.lemmatizer(self.ruler(doc))
        for place, key in enumerate(new):
            token = doc[2 * place]
            self.known[key] = None if 2 * place in begins else annotation_of(token)


def _patterns(ruler: Any) -> Iterable[Sequence[dict[str, Any]]]:
    return (tokens for rule in ruler.patterns for tokens in rule["patterns"])


def speed_up(nlp: Language) -> None:
    """Let a pipeline's networks multiply in equal blocks, and remember its words' vectors."""
    from thinc.api import Model, NumpyOps

    class BlockOps(NumpyOps):  # type: ignore[misc]
        """numpy's matrix product for weights, block by block."""

        def gemm(self, x: Any, y: Any, out: Any = None, trans1: bool = False, trans2: bool = False) -> Any:
            if trans1 or not trans2:  # only training asks for it
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
                model.replace_node(node, _remembering(node))


def in_blocks(x: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return x [rows, in] times weights [out, in] transposed; each row's bits depend on that row alone."""
    rows = len(x)
    blocks = -(-rows // _ROWS)
    if rows != blocks * _ROWS:
        padded = np.zeros((blocks * _ROWS, x.shape[1]), dtype=x.dtype)
        padded[:rows] = x
        x = padded
    # Weights first: x's rows then lie side by side in one vector register, and their places in a block are all alike.
    product = np.matmul(weights, x.reshape(blocks, _ROWS, x.shape[1]).transpose(0, 2, 1))
    together: np.ndarray[Any, Any] = np.ascontiguousarray(product.transpose(0, 2, 1))
    return together.reshape(blocks * _ROWS, len(weights))[:rows]


def _remembering(embedding: Any) -> Any:
    """Return an embedding with a memory in front of the layers that turn a token's features into its vector."""
    from thinc.api import Model, Ragged

    hashes, mix = embedding.layers[2].layers[0], embedding.layers[3].layers[0]
    places: dict[bytes, int] = {}
    table = np.zeros((1 << 10, mix.get_dim("nO")), dtype=np.float32)

    def vectors(features: np.ndarray[Any, Any]) -> Any:
        nonlocal table
        keys = np.ascontiguousarray(features).view(f"V{features.shape[1] * features.itemsize}").ravel().tolist()
        if len(places) > _MOST_WORDS:
            places.clear()
        new = {key: at for at, key in enumerate(keys) if key not in places}
        if new:
            start = len(places)
            while start + len(new) > len(table):
                table = np.concatenate([table, np.zeros_like(table)])
            table[start : start + len(new)] = mix.predict(hashes.predict(features[list(new.values())]))
            places.update(zip(new, range(start, start + len(new)), strict=True))
        return table[[places[key] for key in keys]]

    def forward(model: Any, docs: Sequence[Doc], is_train: bool) -> Any:
        if is_train:
            return model.layers[0](docs, is_train)
        extract, flatten, _, _, unflatten = model.layers[0].layers
        ragged = flatten.predict(extract.predict(docs))
        found = vectors(ragged.dataXd) if len(ragged.dataXd) else table[:0]
        return unflatten.predict(Ragged(cast("Any", found), ragged.lengths)), lambda gradient: gradient

    return Model("remembering", forward, layers=[embedding], dims={"nO": table.shape[1]}, ops=embedding.ops)
