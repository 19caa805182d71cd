"""The commands as functions: the words of the command line, its defaults, and its errors.

Each argument is the option of that name with ``_`` for ``-`` (``settings`` is ``--set``); a repeatable option takes one text or a
list. What a call leaves out may be set by `clipcurate.toml` or a variable, as on the command line. Nothing is printed, and
nothing runs in Prefect: flows and ``clipcurate ... --prefect`` are for that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from data_manifests.manifest import Catalog
from flows.api.settings import log, with_settings
from flows.execution.disk import check_folder

if TYPE_CHECKING:
    from data_manifests.diff import VersionDiff
    from flows.evaluation.results import Evaluation
    from flows.execution.jobs import CurationResult
    from training.checkpoint import RunResult
    from training.model.clip_model import ClipModel

Texts = str | Sequence[str]
"""One text, or several."""


@dataclass(frozen=True)
class ComparisonFiles:
    """What a comparison found.

    Attributes:
        folder: Its folder, with the cells.
        complete: Whether every cell could be run.
        numbers: ``comparison.json``: rows, seeds, intervals, gate.
        table: ``table.md``: the table as Markdown.
    """

    folder: Path
    complete: bool
    numbers: Mapping[str, Any]
    table: str


@with_settings
def curate(
    recipe: str,
    source: str,
    name: str,
    *,
    model: str | None = None,
    graph: str | None = None,
    llm: str | None = None,
    masked_model: str | None = None,
    llm_slots: int = 16,
    against: Texts = (),
    feedback: str | None = None,
    vocabulary: str | None = None,
    language: str = "en",
    edits: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    workers: int = 0,
    settings: Texts = (),
    shard_mb: int = 64,
    bands: int = 0,
    fits: str | None = None,
    refit: Texts = (),
    yes: bool = False,
    fresh: Texts = (),
    llm_batch: str | None = None,
    llm_answers: str | None = None,
    wait: float = 0.0,
    workspace: str | Path = "workspace",
    manifests: str | Path = "data_manifests",
) -> CurationResult:
    """Run a recipe's curation and publish a data set version, or find that nothing has changed.

    Worker processes import the calling script: a script must make the call under ``if __name__ == "__main__":``, or give
    ``workers=1``.

    Returns:
        The version: ``ref``, ``manifest``, ``created``, ``why``, ``warnings``, seconds and counts of each stage.

    Raises:
        InputError: something given cannot be used, or another run holds the name.
        OSError: the disk is full; finished batches are kept.
    """
    given = _options(locals(), "workspace", "manifests", "fresh", "llm_batch", "llm_answers", "wait")
    from flows.cli.curate import CurateOptions
    from flows.execution.jobs import JobEvents, run_job

    asked = {"llm_batch": llm_batch, "llm_answers": llm_answers, "fresh": tuple(_several(fresh))}
    job = CurateOptions(**given).job(_catalog(workspace, manifests), wait_s=wait, **asked)
    result = run_job(job, events=JobEvents(on_notes=_log_all))
    _log_all(result.warnings)
    return result


@with_settings
def train(
    ref: str,
    recipe: str,
    model: str,
    out: str | Path,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    tune: str | None = None,
    seed: int | None = None,
    settings: Texts = (),
    resume: bool = False,
    shards: str | None = None,
    replay: str | Path | None = None,
    log_to: str | None = None,
    workspace: str | Path = "workspace",
    manifests: str | Path = "data_manifests",
) -> RunResult:
    """Train a model on a version with a recipe's planner and objectives.

    Returns:
        The run: its folder ``run``, ``steps``, last ``loss``, ``weights_hash``.

    Raises:
        InputError: data, recipe, model or folder cannot be used, or the loss is no longer a number.
    """
    from flows.execution.jobs import JobEvents, TrainJob, run_job, train_settings

    catalog = _catalog(workspace, manifests)
    folders = str(catalog.workspace), str(catalog.manifests)
    numbers = {"steps": steps, "lr": lr, "batch_size": batch_size, "tune": tune, "seed": seed}
    sets = train_settings(_several(settings), epochs, **numbers)
    job = TrainJob(ref, recipe, model, str(out), *folders, sets, resume, shards, _text(replay), epochs, True, log_to)
    return run_job(job, events=JobEvents(on_notes=_log_all))


@with_settings
def evaluate(
    model: str | Path,
    on: Texts,
    *,
    split: str | None = None,
    limit: int | None = None,
    json: str | Path | None = None,
    items: str | Path | None = None,
    clip_benchmark: str | Path | None = None,
    blind: bool = False,
    blind_texts: str | None = None,
    blend: str | None = None,
    share: float | Sequence[float] = (),
    workspace: str | Path = "workspace",
    manifests: str | Path = "data_manifests",
) -> list[Evaluation]:
    """Evaluate a model or run on held-out data.

    Returns:
        For each of `on`: ``on``, ``metrics``, ``num_samples``; with `blend`, share by share.

    Raises:
        InputError: a kind, source, model or combination of options that cannot be used.
    """
    from flows.evaluation.run import EvaluateJob

    catalog = _catalog(workspace, manifests)
    job = EvaluateJob(
        model=str(model),
        on=tuple(_several(on)),
        split=split,
        limit=limit,
        json_file=_text(json),
        items=_text(items),
        clip_benchmark=_text(clip_benchmark),
        blind=blind,
        blind_texts=blind_texts,
        workspace=str(catalog.workspace),
        manifests=str(catalog.manifests),
    )
    shares = share if isinstance(share, Sequence) else (share,)
    job.check_sweep(blend, shares)
    return job.run() if blend is None else job.sweep(blend, shares)


@with_settings
def compare(
    *recipes: str,
    name: str | None = None,
    source: str | None = None,
    model: str | None = None,
    steps: int | None = None,
    seeds: str | int | Sequence[int] | None = None,
    on: Texts = (),
    variant: Texts = (),
    split_on: str | None = None,
    choose_on: Texts = (),
    choose_split: str | None = None,
    keep_within: float = 1.0,
    limit_on: int | None = None,
    out: str | Path = "comparison",
    gate_zero_shot: float = 2.0,
    gate_retrieval: float = 3.0,
    graph: str | None = None,
    llm: str | None = None,
    masked_model: str | None = None,
    llm_slots: int = 16,
    against: Texts = (),
    feedback: str | None = None,
    vocabulary: str | None = None,
    language: str = "en",
    edits: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    workers: int = 0,
    settings: Texts = (),
    smoke: bool = False,
    workspace: str | Path = "workspace",
    manifests: str | Path = "data_manifests",
) -> ComparisonFiles:
    """Train recipes under one budget with controls and evaluate them; a second call finds finished cells again.

    Returns:
        The numbers with intervals and gate, and the table.

    Raises:
        InputError: a recipe, setting, source, benchmark or model cannot be used.
    """
    words = locals()
    given = _options(words, "workspace", "manifests", "smoke", "out", "seeds", "variant")
    from flows.cli.compare import CompareOptions
    from flows.comparison.output import COMPARISON_FILE, TABLE_FILE
    from flows.comparison.run import run_compare

    if seeds is not None and not isinstance(seeds, str):
        seeds = ",".join(map(str, seeds if isinstance(seeds, Sequence) else (seeds,)))
    options = CompareOptions(**given, folder=Path(out), variants=_several(variant) or None, seeds=seeds)
    options = options.with_smoke_defaults() if smoke else options
    job = options.request(_catalog(workspace, manifests), _call(compare, words), smoke=smoke).job()
    complete = run_compare(job, as_json=False, silent=True)
    numbers = orjson.loads((job.out / COMPARISON_FILE).read_bytes())
    return ComparisonFiles(job.out, complete, numbers, (job.out / TABLE_FILE).read_text(encoding="utf-8"))


@with_settings
def diff(
    old: str, new: str, *, workspace: str | Path = "workspace", manifests: str | Path = "data_manifests"
) -> VersionDiff:
    """Return what differs between two versions: samples, captions and words, negatives, clusters, statistics.

    Raises:
        InputError: no such version, or its shards are not here.
    """
    from data_manifests.diff import diff_versions

    catalog = _catalog(workspace, manifests)
    return diff_versions(catalog.open(old), catalog.open(new))


def load_model(model: str | Path) -> ClipModel:
    """Load a run, or any other model spec that ``--model`` takes: the towers that `evaluate` computes with, in eval mode.

    Returns:
        The model: ``preprocess`` (a PIL image to pixels), ``tokenize`` (texts to token ids), ``encode_image`` and
        ``encode_text`` (unit-norm embeddings), ``logit_scale``, and ``module``, open_clip's own.

    Warns:
        UserWarning: some or all weights are random.

    Raises:
        InputError: no such model, or its weights are missing or damaged.
    """
    from training.model.spec import ModelSpec

    loaded = ModelSpec.parse(str(model)).load()
    loaded.eval()
    return loaded


def _catalog(workspace: str | Path, manifests: str | Path) -> Catalog:
    """Return the folders, which need not exist yet."""
    catalog = Catalog(Path(manifests), Path(workspace))
    check_folder("workspace", catalog.workspace)
    check_folder("manifests", catalog.manifests)
    return catalog


def _options(words: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """Return a call's arguments as the command line hands them over: lists, None without any, paths as text.

    Args:
        words: The arguments by name.
        others: Those that are left out.
    """
    shown: dict[str, Any] = {}
    for name, value in words.items():
        if name in others:
            continue
        if name in _REPEATABLE:
            shown[name] = _several(value) or None
        else:
            shown[name] = str(value) if isinstance(value, Path) else value
    return shown


_REPEATABLE = ("against", "choose_on", "on", "recipes", "refit", "settings")
"""Arguments that take one text or several."""


def _several(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _call(function: Callable[..., Any], words: Mapping[str, Any]) -> str:
    """Return a call as it may be typed again: the arguments that are not as by default."""
    defaults = {name: item.default for name, item in inspect.signature(function).parameters.items()}
    names = [repr(word) for word in words["recipes"]]
    rest = [f"{key}={value!r}" for key, value in words.items() if key != "recipes" and value != defaults[key]]
    return f"clipcurate.{function.__name__}({', '.join((*names, *rest))})"


def _log_all(lines: Sequence[str]) -> None:
    for line in lines:
        log.warning(line)
