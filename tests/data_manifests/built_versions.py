"""Dataset versions of a few drawn pictures, built by the real intake, engine and publisher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import orjson
from PIL import Image, ImageDraw

from curation.engine.engine import run_stages
from curation.engine.intake import read_source
from curation.engine.stage import Drop, Field, MapStage, Stage
from curation.sources.folder import FolderSource
from curation.stages.hygiene.check_images import CheckImages
from curation.versions.numbering import VersionRequest, publish_version
from curation.versions.write_shards import ProcessMap
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.sample import Sample, image_uid

COLOURS = ("red", "green", "blue", "orange", "purple", "teal", "brown", "grey")


@dataclass(frozen=True)
class Given(MapStage):
    """Adds what the sample's attributes say, so that a test decides every field."""

    name: ClassVar[str] = "given"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("attributes",)
    provides: ClassVar[tuple[Field, ...]] = (
        Field("given_negatives", publish="sample", role="negatives"),
        Field("cluster_id", publish="index"),
        Field("difficulty", publish="index"),
        Field("rewrites", publish="sample"),
    )
    source: ClassVar[str] = "the test"
    strength: float = 1.0

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        return [{item.name: sample.attributes["given"][item.name] for item in self.provides} for sample in samples]


def negative(caption: int, text: str, start: int, end: int, word: str, **more: Any) -> dict[str, Any]:
    """Return a record that replaces characters [start, end) of a caption by `word`."""
    return {
        "text": text[:start] + word + text[end:],
        "caption": caption,
        "operation": "replace",
        "span_class": "adjective",
        "type": "attribute",
        "edits": [[start, end, start, start + len(word)]],
        "rule": "test",
        **more,
    }


@dataclass(frozen=True)
class Picture:
    """One sample as a test wants it; `number` decides the pixels and so the uid."""

    number: int
    captions: tuple[str, ...]
    negatives: tuple[Mapping[str, Any], ...] = ()
    cluster_id: int = 0
    difficulty: float = 0.0
    split: str | None = "train"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, path: Path) -> str:
        """Write the PNG and return its uid."""
        image = Image.new("RGB", (220, 160), (self.number % 256, self.number // 256, 90))
        ImageDraw.Draw(image).ellipse((60, 30, 160, 130), fill=COLOURS[self.number % len(COLOURS)])
        image.save(path)
        return image_uid(path.read_bytes())


def picture(number: int, *captions: str, **fields: Any) -> Picture:
    """Return a picture with two captions and a negative, or with the given ones."""
    texts = captions or (f"A {COLOURS[number % 8]} ball, number {number} .", "One ball on a plain ground")
    word = texts[0].split()[1] if len(texts[0].split()) > 1 else texts[0]
    at = texts[0].index(word)
    made = (negative(0, texts[0], at, at + len(word), "striped"),)
    return Picture(number, texts, **{"negatives": made, "cluster_id": number % 3, "difficulty": number / 64, **fields})


def build(
    root: Path,
    name: str,
    pictures: Sequence[Picture],
    stages: Sequence[Stage] | None = None,
    shard_bytes: int = 16_384,
    source: Mapping[str, Any] | None = None,
    processes: ProcessMap = map,
) -> DatasetVersion:
    """Publish the next version of `name` under `root`; stages are an image check and `Given` unless told."""
    photos = root / f"photos-{len(list(root.glob('photos-*')))}"
    photos.mkdir(parents=True)
    lines = []
    for item in pictures:
        item.draw(photos / f"{item.number}.png")
        given = {
            "given_negatives": item.negatives,
            "cluster_id": item.cluster_id,
            "difficulty": item.difficulty,
            "rewrites": [text.lower() for text in item.captions],
        }
        row = {"file_name": f"{item.number}.png", "captions": item.captions, "split": item.split, "given": given}
        lines.append(orjson.dumps({**row, **item.extra}))
    (photos / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    snapshot = read_source(FolderSource(str(photos)), root / "intake", location=photos.name)
    ran, _ = run_stages(list(stages or (CheckImages(), Given())), snapshot, root / "store")
    catalog = Catalog(root / "manifests", root)
    about = source or {"kind": "folder", "name": "drawn", "licence": "CC0-1.0", "split": None}
    published = publish_version(
        catalog,
        VersionRequest(name, {"name": "test", "paper": "none"}, about, shard_bytes),
        ran,
        snapshot,
        root / "store",
        processes=processes,
    )
    return catalog.open(f"{name}@{published.manifest.version}")
