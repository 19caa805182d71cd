"""The same photographs give the same samples, in whatever form they come."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.engine.caption_edits import edited, read_edits
from curation.engine.denylist import Denylist
from curation.engine.intake import Snapshot, read_source
from curation.sources import open_source
from tests.curation.source_inputs import coco, pack, put

COUNT = 200


def _photographs() -> list[tuple[bytes, tuple[str, str]]]:
    """Draw pictures with two captions each."""
    generator = np.random.default_rng(11)
    found = []
    for number in range(COUNT):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(file, "JPEG")
        found.append((file.getvalue(), (f"picture {number}, drawn at random", f"un bruit \u00e9color\u00e9 {number}")))
    return found


PHOTOGRAPHS = _photographs()
NAMED = [(f"{number:03d}.jpg", image, captions) for number, (image, captions) in enumerate(PHOTOGRAPHS)]
PAIRS = [(name, caption) for name, _, captions in NAMED for caption in captions]


def _images(root: Path) -> Path:
    for name, image, _ in NAMED:
        put(root / name, image)
    return root


def _table(root: Path, name: str, header: str, separator: str) -> Path:
    rows = [separator.join((file, f'"{caption}"')) for file, caption in PAIRS]
    return put(_images(root) / name, "\r\n".join([header.replace(",", separator), *rows]))


def _coco(root: Path) -> str:
    entries = [{"id": number, "file_name": name} for number, (name, _, _) in enumerate(NAMED)]
    notes = [(number, caption) for number, (_, _, captions) in enumerate(NAMED) for caption in captions]
    return f"coco:{put(root / 'labels.json', coco(entries, notes))}?images={_images(root / 'elsewhere')}"


def _text_files(root: Path) -> str:
    for name, _, captions in NAMED:
        put(root / name.replace(".jpg", ".txt"), "\n".join(captions))
    return f"folder:{_images(root)}"


def _parquet(root: Path) -> str:
    root.mkdir()
    images, captions = [image for _, image, _ in NAMED], [list(texts) for _, _, texts in NAMED]
    pq.write_table(pa.table({"jpg": images, "text": captions}), root / "a.parquet", row_group_size=64)
    return f"parquet:{root}?image=jpg&caption=text"


def _tars(root: Path) -> str:
    for part in range(2):
        members = []
        for name, image, captions in NAMED[part::2]:
            members += [(name, image), (name.replace("jpg", "json"), json.dumps({"captions": captions}).encode())]
        pack(root / f"{part}.tar", members)
    return f"webdataset:{root}"


def _saved(root: Path) -> str:
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    columns = {
        "image": [{"bytes": image, "path": name} for name, image, _ in NAMED],
        "captions": [list(texts) for _, _, texts in NAMED],
    }
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(root))
    return f"hf:{root}"


def _imagefolder(root: Path) -> str:
    lines = [json.dumps({"file_name": name, "captions": captions}) for name, _, captions in NAMED]
    put(_images(root) / "metadata.jsonl", "\n".join(lines))
    return f"hf:{root}"


FORMS: Mapping[str, Callable[[Path], str]] = {
    "open_clip's table": lambda root: f"csv:{_table(root, 'train.tsv', 'filepath,title', chr(9))}",
    "spreadsheet": lambda root: f"csv:{_table(root, 'x.csv', 'photo,words', ';')}?image=photo&caption=words",
    "folder": lambda root: f"folder:{_table(root, 'captions.csv', 'file_name,caption', ',').parent}",
    "text files": _text_files,
    "coco": _coco,
    "parquet": _parquet,
    "tars": _tars,
    "save_to_disk": _saved,
    "imagefolder": _imagefolder,
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, tuple[str, ...]]]:
    """Return uid and captions of each sample, read from one form."""
    return _samples(_read("folder", tmp_path_factory.mktemp("folder")))


def _read(form: str, root: Path) -> Snapshot:
    snapshot = read_source(open_source(FORMS[form](root / "set")), root / "intake", location="here")
    assert snapshot.rejected == ()
    return snapshot


def _samples(snapshot: Snapshot) -> list[tuple[str, tuple[str, ...]]]:
    return [(sample.uid, sample.captions) for sample in snapshot.samples()]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(
    form: str, expected: list[tuple[str, tuple[str, ...]]], tmp_path: Path
) -> None:
    assert sorted(captions for _, captions in expected) == sorted(captions for _, captions in PHOTOGRAPHS)
    snapshot = _read(form, tmp_path)
    assert _samples(snapshot) == expected
    uid, captions = expected[70]
    line = {"uid": uid, "change": captions[0], "to": "corrected"}
    changed = edited(
        snapshot, read_edits(put(tmp_path / "fix.jsonl", json.dumps(line))), tmp_path / "intake", Denylist()
    )
    assert [pair for pair in _samples(changed) if pair not in expected] == [(uid, ("corrected", captions[1]))]
