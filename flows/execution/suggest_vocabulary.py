"""What a vocabulary file may propose: classes learned from a version or straight from a source, and a language model's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from curation.contrasts.caption_words import as_written, is_exchangeable, split
from curation.contrasts.decisions import shown_classes
from curation.engine.engine import run_stages
from curation.engine.fits import Fit, fit_path, load_fit
from curation.engine.store import ALL_SAMPLES, Store
from curation.llm.interface import CompletionRequest, Failure, LanguageModel
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.text.languages import CaptionLanguage
from curation.versions.numbering import kept_fits
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from flows.execution.executors import local_executor
from flows.execution.jobs import CurateJob, JobEvents, prepare

_MAX_ASKED, _LEAST_COUNT = 300, 3
_MAX_TOKENS = 2000
_LIST = re.compile(r"\[[^\[\]]*\]")
_QUESTION = """\
These are the frequent words of the captions of some pictures (language: {language}), most frequent first:
{words}

Which of them exclude each other, so that a picture of which one is true is never one of which the other is true at the same
place, like left and right, or red and blue? No synonyms, no kinds of each other. Use only words of the list.
Answer with a JSON list of classes of two to twelve words and nothing else, such as [["left", "right"], ["red", "blue"]]."""


@dataclass(frozen=True)
class Suggestion:
    """What a vocabulary file may say.

    Attributes:
        origin: Where it comes from: a version or a source.
        classes: The learned classes, as the fit has them.
        words: Frequent words, the most frequent first.
        language: Of the captions.
    """

    origin: str
    classes: Sequence[Mapping[str, Any]]
    words: Sequence[str]
    language: CaptionLanguage


def suggest_from_version(catalog: Catalog, version: DatasetVersion) -> Suggestion:
    """Return what a version learned.

    Raises:
        InputError: the version has no stage `mine_contrasts`.
    """
    kept = kept_fits(catalog, version.manifest).get(MineContrasts.name)
    if kept is None:
        raise InputError(
            f"{version.ref} was made without {MineContrasts.name}",
            allowed="versions of recipes with this stage: contrasts, ahnm",
            fix="clipcurate vocabulary suggest --source KIND:PATH learns from a source",
        )
    values = Fit.load(kept.path).values
    captions = (
        text
        for shard in range(len(version.manifest.body["shards"]))
        for row in version.sidecar(shard, ["captions"])["captions"].to_pylist()
        for text in row
    )
    language = CaptionLanguage(values["language"])
    return Suggestion(version.ref, shown_classes(values), _frequent(captions, language), language)


def suggest_from_source(job: CurateJob, events: JobEvents) -> Suggestion:
    """Return what the captions of a source teach; nothing is published, but what is computed stays in the store.

    Args:
        job: Of the recipe `contrasts`.
        events: Callbacks for progress.

    Raises:
        InputError: the source or a setting is unusable.
    """
    prepared = prepare(job, events)
    wanted = (ParseCaptions, MineContrasts)
    stages = [stage for stage in prepared.recipe.stages if isinstance(stage, wanted)]
    with local_executor(job.num_workers) as runner:
        finished, _ = run_stages(stages, prepared.snapshot, job.store, runner, events.stages)
    values = load_fit(fit_path(Store(job.store).folder(finished[-1].stage), finished[-1].key)).values
    batches = prepared.snapshot.batches(ALL_SAMPLES)
    captions = (text for batch in batches for row in batch["captions"].to_pylist() for text in row)
    language = prepared.recipe.language
    return Suggestion(job.source, shown_classes(values), _frequent(captions, language), language)


def _frequent(captions: Iterable[str], language: CaptionLanguage) -> list[str]:
    counts = Counter(word.text for caption in captions for word in split(caption))
    return [
        word
        for word, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if number >= _LEAST_COUNT and is_exchangeable(word) and word not in language.kept_words
    ][:_MAX_ASKED]


def proposed_classes(model: LanguageModel, found: Suggestion) -> list[list[str]]:
    """Return classes that a language model proposes, of words that the captions have, without those that are known.

    It is asked about single words, never shown a caption.

    Raises:
        InputError: the model gives no usable answer.
    """
    text = _QUESTION.format(language=found.language.name, words=", ".join(found.words))
    body = {
        "model": model.model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": _MAX_TOKENS,
    }
    with model.open() as client:
        client.submit(CompletionRequest("chat/completions", body))
        ((_, outcome),) = client.outcomes()
    if isinstance(outcome, Failure):
        raise InputError(
            f"--llm: {model.describe()} gave no answer: {outcome.reason} {outcome.detail}".rstrip(),
            fix="try again, or leave --llm out",
        )
    known = [{word for word, _, _ in one["members"]} for one in found.classes]
    words, proposed = set(found.words), list[list[str]]()
    for listed in _lists(outcome.text):
        members = [word for word in dict.fromkeys(listed) if word in words]
        if len(members) > 1 and not any(one.issuperset(members) for one in known) and members not in proposed:
            proposed.append(members)
    return proposed


def _lists(text: str) -> list[list[str]]:
    """Return the innermost lists of words in a text."""
    found = []
    for match in _LIST.findall(text):
        try:
            listed = orjson.loads(match)
        except orjson.JSONDecodeError:  # prose in brackets
            continue
        if listed and all(isinstance(word, str) for word in listed):
            found.append([" ".join(part.text for part in split(word)) for word in listed])
    return found


def vocabulary_text(found: Suggestion, proposed: Sequence[Sequence[str]], proposer: str) -> str:
    """Return a vocabulary file: learned classes with their evidence, each word once, and proposed ones as comments.

    General classes are not written: they have words of one meaning, and are used besides.

    Args:
        found: What was learned.
        proposed: Classes that nobody has seen; they have no effect as long as they are comments.
        proposer: Who proposes them.
    """
    lines = [_HEAD.format(origin=found.origin), "classes = ["]
    written: set[str] = set()
    for one in found.classes:
        words = [word for word, _, _ in one["members"] if word not in written]
        if one["form"] or len(words) < 2:
            continue
        written.update(words)
        for a, b, evidence, _ in one["contrasts"][:1]:
            lines.append(f"  # {as_written(a)} / {as_written(b)}: {evidence}")
        lines.append(f"  {_row(words)},")
    if proposed:
        lines.append(
            f"  # Proposed by {proposer}, not learned and used by nobody until you remove the '# ' before a line:"
        )
        lines += [f"  # {_row(words)}," for words in proposed]
    return "\n".join([*lines, "]", "synonyms = []", "keep = []", ""])


_HEAD = """\
# Which words of {origin} exclude one another, as mine_contrasts learned them; edit, and give the file by --vocabulary.
# classes: any two words of one exclude each other. A line that you remove is learned again; to forbid it, name its words
# under synonyms (these pairs are not exchanged) or under keep (these words never are)."""


def _row(words: Sequence[str]) -> str:
    return f"[{', '.join(orjson.dumps(as_written(word)).decode() for word in words)}]"  # a JSON string is a TOML string
