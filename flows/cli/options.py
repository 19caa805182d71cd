"""Options that several commands share, and where things lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from data_manifests.manifest import Catalog


@dataclass
class Places:
    """The global options: where things lie."""

    workspace: Path = Path("workspace")
    manifests: Path = Path("data_manifests")

    @property
    def catalog(self) -> Catalog:
        """The versions there are."""
        return Catalog(self.manifests, self.workspace)


places = Places()

RecipeArg = Annotated[str, typer.Argument(help="a recipe; see clipcurate recipes")]
SourceOpt = Annotated[
    str, typer.Option("--source", help="KIND:PATH, KIND one of flickr coco folder parquet webdataset scenes")
]
NameOpt = Annotated[str, typer.Option("--name", help="data set's name")]
ModelOpt = Annotated[
    str | None, typer.Option("--model", help="model spec: ARCH:PRETRAINED, config name, file or run folder")
]
SplitOpt = Annotated[str | None, typer.Option("--split", help="only this split: train, dev or test")]
LimitOpt = Annotated[int | None, typer.Option("--limit", min=1, help="at most so many samples")]
SetOpt = Annotated[list[str] | None, typer.Option("--set", help="path=value, such as stages.swap_words.seed=1")]
FeedbackOpt = Annotated[
    str | None, typer.Option("--feedback", help="run folder whose feedback on negatives the recipe applies")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="print only JSON")]
WorkersOpt = Annotated[int, typer.Option("--workers", min=0, help="processes; 0 means one for each core")]
ShardOpt = Annotated[int, typer.Option("--shard-mb", min=1, help="wished size of a shard in MiB")]
BandsOpt = Annotated[
    int, typer.Option("--bands", min=0, help="bands of difficulty inside a cluster; 0: by difficulty itself")
]
GraphOpt = Annotated[
    str | None,
    typer.Option("--graph", help="knowledge graph made by kg build, or a conceptnet-lite database; default seed"),
]
LlmOpt = Annotated[
    str | None,
    typer.Option("--llm", help="who rewrites: rules, http://HOST:PORT/v1#MODEL or vllm:MODEL; default rules"),
]
MaskedOpt = Annotated[
    str | None,
    typer.Option("--masked-model", help="masked language model for fills: hub name or folder; default none"),
]
SlotsOpt = Annotated[int, typer.Option("--llm-slots", min=1, help="requests under way at once, in each worker")]
AgainstOpt = Annotated[
    list[str] | None,
    typer.Option("--against", help="an evaluation set whose pictures must not be in: KIND:PATH, KIND:PATH#test"),
]
