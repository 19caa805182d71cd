"""The export of embeddings, read back the way clip-retrieval's index builder reads it; and texts by length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from curation.engine.engine import run_stages
from curation.engine.intake import read_source
from curation.models.encoder import TEXT_ROWS, Encoder, open_encoder
from curation.sources.scenes import ScenesSource
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_neighbours import FindNeighbours
from curation.stages.hygiene.check_images import CheckImages
from curation.vectors.export import export_embeddings
from curation.versions.numbering import VersionRequest, publish_version
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from training.model.spec import ModelSpec

MODEL = ModelSpec.parse("tiny")

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    root = tmp_path_factory.mktemp("export")
    snapshot = read_source(ScenesSource("24"), root / "intake", location="here")
    stages = (CheckImages(), EmbedSamples(MODEL), FindNeighbours(num_neighbours=2))
    done, _ = run_stages(stages, snapshot, root / "store")
    catalog = Catalog(root / "manifests", root)
    request = VersionRequest("made", {"name": "none", "paper": "none"}, {"kind": "scenes"}, 40_000)  # several shards
    publish_version(catalog, request, done, snapshot, root / "store")
    return catalog.open("made@1")


def expected(version: DatasetVersion) -> list[tuple[str, str, list[float], list[float]]]:
    rows = []
    for shard in range(len(version.manifest.body["shards"])):
        for row in version.sidecar(shard).to_pylist():
            pairs = zip(row["captions"], row["text_embeddings"], strict=True)
            rows += [(row["key"], text, row["image_embedding"], vector) for text, vector in pairs]
    return rows


@pytest.mark.parametrize("which", ["first", "all"])
def test_rows_of_the_three_files_belong_together(version: DatasetVersion, tmp_path: Path, which: str) -> None:
    assert len(version.manifest.body["shards"]) > 1
    out = tmp_path / "made"
    count = export_embeddings(version, out, which)  # type: ignore[arg-type]
    images = np.load(out / "img_emb" / "img_emb_0.npy", mmap_mode="r")
    texts = np.load(out / "text_emb" / "text_emb_0.npy", mmap_mode="r")
    table = pq.read_table(out / "metadata" / "metadata_0.parquet")
    assert table.column_names[:2] == ["image_path", "caption"]
    rows = expected(version)
    if which == "first":
        rows = list({key: row for row in reversed(rows) for key in [row[0]]}.values())[::-1]
    assert images.dtype == texts.dtype == np.float16
    assert count == len(images) == len(texts) == table.num_rows == len(rows)
    assert [*zip(table["image_path"].to_pylist(), table["caption"].to_pylist(), strict=True)] == [
        row[:2] for row in rows
    ]
    assert np.array_equal(images, np.array([row[2] for row in rows], np.float16))
    assert np.array_equal(texts, np.array([row[3] for row in rows], np.float16))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_a_folder_that_is_there_stays_as_it_is(version: DatasetVersion, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        export_embeddings(version, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_fails_leaves_nothing(version: DatasetVersion, tmp_path: Path) -> None:
    broken = DatasetVersion(version.manifest, tmp_path / "nowhere")
    with pytest.raises(InputError, match="missing"):
        export_embeddings(broken, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_neighbours_are_published_and_recall_is_told(version: DatasetVersion) -> None:
    rows = version.sidecar(0, ["uid", "image_neighbours"]).to_pylist()
    assert all([set(item) for item in row["image_neighbours"]] == [{"uid", "similarity"}] * 2 for row in rows)
    used = version.manifest.body["statistics"]["usage"]["find_neighbours"]
    assert used == {"image_recall_per_10000": 10_000, "text_recall_per_10000": 10_000}


def test_texts_come_in_batches_of_one_shape_for_each_length() -> None:
    model: Any = open_encoder(MODEL)._model
    shapes: list[tuple[int, ...]] = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(model, name)

        def encode_text(self, tokens: Any) -> Any:
            shapes.append(tuple(tokens.shape))
            return model.encode_text(tokens)

    texts = [" ".join(["red"] * count) for count in range(1, 34)]
    with torch.inference_mode():
        made, cut = Encoder(Watched())._texts([*texts, texts[3]], model.embed_dim)
        alone = [Encoder(model)._texts([texts[number]], model.embed_dim)[0][0] for number in (0, 7, 28)]
    assert {rows for rows, _ in shapes} == {TEXT_ROWS}
    assert len({length for _, length in shapes}) > 1
    assert np.array_equal(made[3], made[-1])
    assert np.flatnonzero(cut).tolist() == [30, 31, 32], "32 tokens: start, 30 words, end"
    for number, vector in zip((0, 7, 28), alone, strict=True):  # alone, the bits are the same
        assert np.array_equal(vector, made[number])
