"""Options that several commands share: each is one field of a dataclass, and `expand_options` gives it to a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from data_manifests.manifest import Catalog
from flows.cli.settings import setting

if TYPE_CHECKING:
    from flows.execution.jobs import CurateJob

RefArg = Annotated[str, typer.Argument(metavar="NAME@VER")]
SplitOpt = Annotated[str | None, typer.Option("--split", help="only this split: train, dev or test")]
LimitOpt = Annotated[int | None, typer.Option("--limit", min=1, help="at most so many samples")]
SetOpt = Annotated[list[str] | None, typer.Option("--set", help="path=value, such as stages.swap_words.seed=1")]
JsonOpt = Annotated[bool, typer.Option("--json", help="print only JSON")]
PrefectOpt = Annotated[bool, setting("prefect", "run as a Prefect flow", names="--prefect/--no-prefect")]
WhetherPrefectOpt = Annotated[
    bool | None,
    setting(
        "prefect",
        "run as a Prefect flow, or without Prefect; default: as a flow where a server is configured; same bytes",
        names="--prefect/--no-prefect",
    ),
]
ShardOpt = Annotated[int, setting("shard_mb", "target size of a shard in MiB", min=1)]
BandsOpt = Annotated[
    int, setting("bands", "difficulty bands that sort the samples of a cluster; 0: by uid alone", min=0)
]


@dataclass(frozen=True, kw_only=True)
class CurationOptions:
    """Options of every command that curates; the fields are called as in `CurateJob`, so a new one is one line here."""

    model: Annotated[str | None, setting("model", "model spec: ARCH:PRETRAINED, config name, file or run folder")] = (
        None
    )
    graph: Annotated[
        str | None, setting("graph", "knowledge graph made by kg build, or a conceptnet-lite database; default seed")
    ] = None
    llm: Annotated[
        str | None, setting("llm", "what rewrites: rules, http://HOST:PORT/v1#MODEL or vllm:MODEL; default rules")
    ] = None
    masked_model: Annotated[
        str | None, setting("masked_model", "masked language model for fills: hub name or folder; default none")
    ] = None
    llm_slots: Annotated[int, setting("llm_slots", "concurrent requests of each worker", min=1)] = 16
    against: Annotated[
        list[str] | None,
        setting("against", "evaluation set whose images must not be in: KIND:PATH, KIND:PATH#test"),
    ] = None
    feedback: Annotated[
        str | None, typer.Option("--feedback", help="run folder whose feedback on negatives the recipe applies")
    ] = None
    vocabulary: Annotated[
        str | None, setting("vocabulary", "TOML file: words that exclude each other, synonyms, words to keep")
    ] = None
    language: Annotated[
        str, setting("language", "language of the captions: en de fr es it nl pt zh, or another of spaCy's")
    ] = "en"
    edits: Annotated[
        str | None,
        typer.Option("--edits", help="JSON Lines file of corrections: captions changed, added, removed; drops"),
    ] = None
    split: SplitOpt = None
    limit: LimitOpt = None
    workers: Annotated[int, setting("workers", "processes; 0 means one for each core", min=0)] = 0
    settings: SetOpt = None

    def curate_job(self, catalog: Catalog, **more: Any) -> CurateJob:
        """Return the job that these options describe; `more` are other fields of it."""
        from flows.execution.jobs import CurateJob

        given = {item.name: getattr(self, item.name) for item in fields(CurationOptions)}
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        given = {key: value for key, value in given.items() if value is not None}
        return CurateJob(workspace=str(catalog.workspace), manifests=str(catalog.manifests), **given, **more)


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one command-line option for each field of the options dataclass that it takes.

    Typer reads options from a function's signature: a parameter such as ``options: CurateOptions`` becomes its fields.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    expanded: list[tuple[str, Any, Any]] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind) and isinstance(kind, type):
            groups[parameter.name] = kind
            types = get_type_hints(kind, include_extras=True)
            expanded += [(item.name, types[item.name], item.default) for item in fields(kind)]
        else:
            expanded.append((parameter.name, kind, parameter.default))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{item.name: values.pop(item.name) for item in fields(kind)})
        command(**values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    empty = inspect.Parameter.empty
    parameters = [
        inspect.Parameter(name, keyword, default=empty if default is MISSING else default, annotation=kind)
        for name, kind, default in expanded
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
