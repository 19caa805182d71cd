"""Stock readers read what we write, unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from curation.engine.engine import run_stages
from curation.engine.intake import read_source
from curation.knowledge.open_graph import SeedGraph
from curation.sources.scenes import ScenesSource
from curation.stages.captions.expand_knowledge import ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.captions.rewrite_captions import RewriteCaptions
from curation.stages.hygiene.check_images import CheckImages
from curation.stages.negatives.swap_words import SwapWords
from curation.versions.numbering import VersionRequest, publish_version
from data_manifests.manifest import Catalog, DatasetVersion

NUM_SCENES = 50
SHARD_BYTES = 100_000  # several shards


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    root = tmp_path_factory.mktemp("readers")
    source = ScenesSource(str(NUM_SCENES))
    snapshot = read_source(source, root / "intake", location="here")
    graph = SeedGraph()
    views = (LinkConcepts(graph), ExpandKnowledge(graph), RewriteCaptions())
    done, _ = run_stages((CheckImages(), ParseCaptions(), *views, SwapWords()), snapshot, root / "store")
    request = VersionRequest("scenes", {"name": "swaps", "paper": ""}, source.describe(), SHARD_BYTES)
    publish_version(Catalog(root / "m", root), request, done, snapshot, root / "store")
    made = Catalog(root / "m", root).open("scenes")
    assert len(made.manifest.body["shards"]) > 2
    return made


def expected(version: DatasetVersion) -> dict[str, str]:
    shards = range(len(version.manifest.body["shards"]))
    rows = [row for shard in shards for row in version.sidecar(shard, ["key", "caption"]).to_pylist()]
    return {row["key"]: row["caption"] for row in rows}


def urls(version: DatasetVersion) -> str:
    last = len(version.manifest.body["shards"]) - 1
    return f"{version.folder}/{{00000..{last:05d}}}.tar"


_READ = """
import io, json, sys, warnings
warnings.simplefilter("ignore")
import webdataset
from PIL import Image
rows = {}
for sample in webdataset.WebDataset(sys.argv[1], shardshuffle=False):
    assert Image.open(io.BytesIO(sample["jpg"])).size == (96, 96)
    assert json.loads(sample["json"])["key"] == sample["__key__"]
    rows[sample["__key__"]] = sample["txt"].decode()
print(json.dumps({"version": webdataset.__version__, "rows": rows}))
"""


@pytest.mark.parametrize(("major", "path"), [("0", ""), ("1", "webdataset-1")])
def test_webdataset(version: DatasetVersion, major: str, path: str) -> None:
    """Both lines: open_clip wants 0.2, 1.x is current, and they cannot be installed side by side."""
    folder = Path(sys.prefix) / path
    if path and not folder.is_dir():
        pytest.skip(f"webdataset 1.x is not at {folder}; make setup puts it there")
    environment = {**os.environ, "PYTHONPATH": str(folder) if path else ""}
    command = [sys.executable, "-c", _READ, urls(version)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(ran.stdout)
    assert found["version"].startswith(f"{major}.")
    assert found["rows"] == expected(version)


def test_hugging_face_datasets(version: DatasetVersion, tmp_path: Path) -> None:
    import datasets

    files = sorted(str(path) for path in version.folder.glob("*.tar"))
    loaded = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path))
    found = {row["__key__"]: row["txt"] for row in loaded}
    assert found == expected(version)
    first = loaded[0]
    assert first["jpg"].size == (96, 96)
    assert first["json"]["caption_1"] == first["json"]["captions"][1]
    assert {"text", "rule", "edits", "source", "against"} <= set(first["json"]["negatives"][0])
    assert {"text", "caption", "kind", "family", "rule", "source"} == set(first["json"]["views"][0])


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("keys", ["rewrite;knowledge;caption", "knowledge;rewrite;caption", "caption"])
def test_caption_keys_of_the_json(version: DatasetVersion, keys: str) -> None:
    """What open_clip's --json-text-key reads: the first of the named keys whose value is a text that is not blank.

    The option is in open_clip's main branch (JsonCaptionExtractor) and is used from there as soon as a release has
    it; 3.3.0 has none, so its rule stands here in one line.
    """
    import open_clip_train.data
    import webdataset

    stock = getattr(open_clip_train.data, "JsonCaptionExtractor", None)
    seen = dict.fromkeys(keys.split(";"), 0)
    for sample in webdataset.WebDataset(urls(version), shardshuffle=False).decode():
        told = sample["json"]
        key = next(name for name in keys.split(";") if isinstance(told.get(name), str) and told[name].strip())
        seen[key] += 1
        if stock is not None:
            assert stock(keys)({"json": told})["text"] == told[key].strip()
        made = [view["text"] for view in told["views"] if view["kind"] == key]
        assert told[key] == (made[0] if key != "caption" else told["captions"][0])
        for kind in ("rewrite", "knowledge"):
            assert bool(told[kind]) == any(view["kind"] == kind for view in told["views"])
    assert sum(seen.values()) == NUM_SCENES
    assert seen[keys.split(";", maxsplit=1)[0]] > 0


def test_licences_of_a_graph_are_told(version: DatasetVersion) -> None:
    told = json.loads((version.folder / "croissant.json").read_bytes())["license"]
    assert told == ["CC0-1.0", *SeedGraph().licences()]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
)
def test_open_clip_data_pipeline(version: DatasetVersion) -> None:
    import torch
    from open_clip_train.data import get_dataset_size, get_wds_dataset

    def tokenizer(text: str) -> Any:
        return torch.tensor([[len(text)]])

    def preprocess(image: Image.Image) -> Any:
        return torch.tensor(image.size)

    args = SimpleNamespace(
        train_data=urls(version),
        train_num_samples=None,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        workers=0,
        world_size=1,
        batch_size=10,
    )
    assert get_dataset_size(args.train_data) == (NUM_SCENES, len(version.manifest.body["shards"]))
    loader = get_wds_dataset(args, preprocess, is_train=True, tokenizer=tokenizer).dataloader
    lengths = []
    for images, texts in loader:
        assert images.tolist() == [[96, 96]] * 10
        lengths += texts[:, 0].tolist()
    assert sorted(lengths) == sorted(len(text) for text in expected(version).values())
