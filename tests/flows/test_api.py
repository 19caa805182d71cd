"""`import clipcurate`: the same versions, models and numbers as by the command line, as Python objects."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
import typer
from torch.utils.data import DataLoader

import clipcurate
from data_manifests.image_decoder import decode_image
from flows.cli.app import app
from tests.flows.test_bad_input import Shell, shell
from training.evaluate.encoding_cache import ImageInput
from training.evaluate.features import encode_images, encode_texts

__all__ = ["shell"]

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny")

ROOT = Path(__file__).resolve().parents[2]
FACADE = ROOT / "flows" / "python"
SMALL = ("train.batch_size=8", "train.warmup_steps=1")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of a small version with negatives, made by the function."""
    root = tmp_path_factory.mktemp("api")
    where = {"workspace": root / "w", "manifests": root / "m"}
    made = clipcurate.curate("negclip", "scenes:16@5", "toy", model="tiny", workers=1, **where)
    assert made.created and made.ref == "toy@1.0.0"
    assert not clipcurate.curate("negclip", "scenes:16@5", "toy", model="tiny", workers=1, **where).created
    return where


@pytest.fixture
def version(folders: dict[str, Path]) -> clipcurate.OpenVersion:
    return clipcurate.open_version("toy@1", **folders)


def test_samples_are_those_of_the_shards(version: clipcurate.OpenVersion) -> None:
    rows = version.polars("samples").to_dicts()
    assert len(version) == len(version.samples) == len(rows) == 16
    for row, sample in zip(rows, version.samples, strict=True):
        assert (sample.uid, sample.key, sample.split) == (row["uid"], row["key"], row["split"])
        assert list(sample.captions) == row["captions"]
        assert [item.text for item in sample.negatives] == [item["text"] for item in row["negatives"]]
        assert sample.image == decode_image(sample.image_bytes, "picture") and sample.image.mode == "RGB"
    first, last = version.samples[0], version.samples[-1]
    assert version.samples[last.uid].uid == version.samples[len(rows) - 1].uid == last.uid != first.uid
    assert [item.uid for item in version.samples[4:10:2]] == [rows[at]["uid"] for at in (4, 6, 8)]
    assert version.samples[4:10][rows[5]["uid"]].uid == rows[5]["uid"]


def test_what_is_not_there_is_said(version: clipcurate.OpenVersion, folders: dict[str, Path]) -> None:
    with pytest.raises(IndexError, match="sample 16 of 16"):
        version.samples[16]
    with pytest.raises(clipcurate.InputError, match="no sample with uid 'x'"):
        version.samples["x"]
    with pytest.raises(clipcurate.InputError, match="no sample with uid"):
        version.samples[:2][version.samples[3].uid]
    with pytest.raises(clipcurate.InputError, match="no samples of split 'nowhere'"):
        version.samples.of_split("nowhere")
    with pytest.raises(clipcurate.InputError, match="no such negatives"):
        list(version.negatives(type="colours"))
    with pytest.raises(clipcurate.InputError, match="(?s)no column 'caption_txt'.*allowed.*caption_text"):
        version.polars("negatives", ["caption_txt"])
    with pytest.raises(clipcurate.InputError, match="allowed: samples, texts, negatives"):
        version.polars("pictures")  # type: ignore[arg-type]
    with pytest.raises(clipcurate.InputError, match="no such version"):
        clipcurate.open_version("toy@7", **folders)
    with pytest.raises(AttributeError, match="it has CheckFailedError"):
        clipcurate.nothing  # noqa: B018 - looking it up is the test


def test_texts_and_negatives(version: clipcurate.OpenVersion) -> None:
    texts = list(version.texts())
    counts = version.manifest.body["counts"]
    number = {role: sum(item.role == role for item in texts) for role in ("caption", "view", "negative")}
    assert number == {"caption": counts["captions"], "view": counts["views"], "negative": counts["negatives"]}
    assert number["negative"] > 16
    negatives = list(version.negatives())
    own = [item for item in texts if item.role == "negative"]
    assert [(item.uid, item.text, item.kind) for item in negatives] == [
        (item.uid, item.text, item.kind) for item in own
    ]
    assert all(
        item.caption_text in version.samples[item.uid].captions and item.text != item.caption_text for item in own
    )
    kinds = sorted({item.kind for item in own})
    of_kind = list(version.negatives(type=kinds[0]))
    assert [item.text for item in of_kind] == [item.text for item in own if item.kind == kinds[0]]
    hard = list(version.negatives(operation=["swap"], min_difficulty=0.5))
    assert all(item.record["operation"] == "swap" and item.record["difficulty"] >= 0.5 for item in hard)


def test_frames(version: clipcurate.OpenVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = version.polars("texts")
    assert texts.rows() == [(item.uid, item.role, item.caption, item.kind, item.text) for item in _by_role(version)]
    assert version.pandas("texts")["text"].tolist() == texts["text"].to_list()
    negatives = version.polars("negatives")
    assert negatives["text"].to_list() == [item.text for item in version.negatives()]
    assert negatives["caption_text"].to_list() == [item.caption_text for item in version.negatives()]
    assert version.polars("samples", ["key", "captions"]).columns == ["key", "captions"]
    assert version.pandas().shape == version.polars().shape
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(clipcurate.InputError, match="pandas is not installed"):
        version.pandas()


def _by_role(version: clipcurate.OpenVersion) -> list[clipcurate.SampleText]:
    """Return the texts of each shard by role, as its frame has them."""
    texts = list(version.texts())
    return [item for role in ("caption", "view", "negative") for item in texts if item.role == role]


def _negative_texts(sample: clipcurate.PublishedSample) -> list[str]:
    return [item.text for item in sample.negatives]


def _pixels(image: Any) -> torch.Tensor:
    return torch.tensor(image.getpixel((0, 0)))


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_for_a_loader(version: clipcurate.OpenVersion, workers: int) -> None:
    """Workers get a pickled or forked copy; they read the same."""
    pairs = version.pairs(_pixels)
    loader: Any = DataLoader(pairs, batch_size=5, num_workers=workers)
    batches = list(loader)
    assert [len(pixels) for pixels, _ in batches] == [5, 5, 5, 1]
    captions = [text for _, texts in batches for text in texts]
    assert captions == [sample.captions[0] for sample in version.samples]
    assert torch.equal(batches[0][0][1], _pixels(version.samples[1].image))


def test_pairs_and_samples_are_pickled_light(version: clipcurate.OpenVersion) -> None:
    pairs = version.pairs(text=_negative_texts)
    seen = pairs[3]  # opens the shard and the index
    data = pickle.dumps(pairs)
    assert len(data) < 100_000
    again = pickle.loads(data)
    assert len(again) == 16 and again[3][1] == seen[1] == _negative_texts(version.samples[3])
    assert again[3][0] == seen[0]
    assert pickle.loads(pickle.dumps(version.samples[2])).image == version.samples[2].image
    with pytest.raises(clipcurate.InputError, match="no samples of split"):
        version.pairs(split="nowhere")


def test_a_run_by_function_is_the_run_by_command(
    version: clipcurate.OpenVersion, folders: dict[str, Path], shell: Shell
) -> None:
    """Weights, numbers and embeddings are equal, bit by bit."""
    out = shell.root / "run"
    settings = dict(steps=2, settings=SMALL, **folders)
    run = clipcurate.train("toy@1", "negclip", "tiny", out, **settings)  # type: ignore[arg-type]
    assert (run.run, run.steps) == (out, 2)
    words = [word for text in SMALL for word in ("--set", text)]
    where = [word for name, path in folders.items() for word in (f"--{name}", str(path))]
    train = ("train", "toy@1", "--recipe", "negclip", "--model", "tiny", "--steps", "2", *words)
    code, printed, err = shell(*where, *train, "--out", str(shell.root / "again"), "--json")
    assert code == 0, err
    assert orjson.loads(printed)["weights_hash"] == run.weights_hash

    files = [shell.root / "by_function.json", shell.root / "by_command.json"]
    (found,) = clipcurate.evaluate(out, "retrieval:scenes:6@5", json=files[0], **folders)
    assert shell(*where, "evaluate", str(out), "--on", "retrieval:scenes:6@5", "--json", str(files[1]))[0] == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert 0 <= found.metrics["image_to_text_R@1"] <= 1

    model = clipcurate.load_model(out)
    sample = version.samples[0]
    with torch.inference_mode():
        image = model.encode_image(model.preprocess(sample.image)[None])[0]
        text = model.encode_text(model.tokenize(sample.captions[:1]))[0]
    inputs = [ImageInput(sample.uid, lambda: model.preprocess(sample.image))]
    towers = encode_images(model, inputs)[0], encode_texts(model, sample.captions[:1])[0]
    for ours, theirs in zip((image, text), towers, strict=True):
        assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-6)
    assert not model.module.training


def test_errors_are_raised_as_the_projects_own(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(clipcurate.InputError, match="unknown recipe"):
        clipcurate.curate("negclips", "scenes:4@1", "x", model="tiny", **folders)
    with pytest.raises(clipcurate.InputError, match="give the run's base"):
        clipcurate.evaluate("tiny", "scenes:4@1", share=0.5, **folders)
    with pytest.raises(clipcurate.InputError, match="leave the others out"):
        clipcurate.evaluate("tiny", "scenes:4@1", blend="tiny@1", blind=True, **folders)
    with pytest.raises(clipcurate.InputError, match="neither --name nor --source"):
        clipcurate.compare("clip", model="tiny", steps=1, on="scenes:4@1", **folders)
    with pytest.raises(clipcurate.InputError, match="--limit 3"):  # the newest version was made of all
        clipcurate.curate("negclip", "scenes:16@5", "toy", model="tiny", workers=1, limit=3, **folders)
    (tmp_path / "file").touch()
    with pytest.raises(clipcurate.InputError, match="workspace"):
        clipcurate.open_version("toy", workspace=tmp_path / "file", manifests=folders["manifests"])


def test_an_edit_shows_in_the_diff(folders: dict[str, Path], tmp_path: Path) -> None:
    where = {"workspace": tmp_path / "w", "manifests": tmp_path / "m"}
    made = clipcurate.curate("clip", "scenes:6@5", "small", workers=1, **where)
    uid = clipcurate.open_version(made.ref, **where).samples[0].uid
    edit = {"uid": uid, "add": "one more", "author": "me"}
    (tmp_path / "edits.jsonl").write_bytes(orjson.dumps(edit))
    clipcurate.curate("clip", "scenes:6@5", "small", workers=1, edits=tmp_path / "edits.jsonl", **where)
    found = clipcurate.diff("small@1", "small", **where)
    assert (found.num_edited, [item.uid for item in found.edited]) == (1, [uid])


def test_a_comparison(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = clipcurate.compare(
        "clip",
        name="toy@1",
        model="tiny",
        steps=1,
        seeds=0,
        on="scenes:6@1",
        settings=SMALL,
        out=tmp_path / "c",
        **folders,
    )
    assert found.complete and found.table == (tmp_path / "c" / "table.md").read_text()
    assert found.numbers["command"].startswith(
        "clipcurate.compare('clip', name='toy@1', model='tiny', steps=1, seeds=0, on="
    )
    assert "llm_slots" not in found.numbers["command"] and "| clip |" in found.table
    assert capsys.readouterr().out == ""


NOT_IN_PYTHON = {
    "config": "the file of a project is the command line's",
    "verbose": "says which settings a file or variable made",
    "version": "importlib.metadata.version('clipcurate')",
    "as_json": "functions return objects",
    "prefect": "flows are for that",
    "runner": "Dask runs the tasks of a flow",
    "plan": "a command of its own, which prints",
    "html": "`clipcurate report` makes pages",
}
"""Options that functions do not have, each with the reason."""

RENAMED = {"set": "settings"}


@pytest.mark.parametrize("name", ["curate", "train", "evaluate", "compare", "diff"])
def test_functions_have_the_words_and_defaults_of_the_command_line(name: str) -> None:
    root: Any = typer.main.get_command(app)
    options = {}
    for item in (*root.params, *root.commands[name].params):
        word = max(item.opts, key=len).lstrip("-").replace("-", "_")
        if item.name not in (*NOT_IN_PYTHON, "install_completion", "show_completion", "help"):
            options[RENAMED.get(word, word)] = None if item.required else item.default
    wanted = {word: _plain(value) for word, value in options.items()}
    parameters = inspect.signature(getattr(clipcurate, name)).parameters.values()
    assert {item.name: _plain(item.default) for item in parameters} == wanted


def _plain(value: Any) -> Any:
    """Return a default so that nothing at all, an empty list and None are equal, and paths are texts."""
    empty = value is inspect.Parameter.empty or value in (None, (), [])
    return None if empty else str(value) if isinstance(value, Path) else value


def test_the_import_is_light() -> None:
    """Nothing heavy comes until it is used; every name that is promised is there."""
    code = (
        "import sys, clipcurate; first = set(sys.modules); clipcurate.InputError; clipcurate.open_version;"
        "heavy = {'torch', 'polars', 'pyarrow', 'spacy', 'open_clip', 'pandas', 'typer', 'prefect'};"
        "print(sorted(first & {'flows', 'training', 'numpy'}), sorted(heavy & set(sys.modules)))"
    )
    path = os.pathsep.join((str(FACADE), str(ROOT)))
    ran = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)  # fmt: skip
    assert ran.stdout.strip() == "[] []"


def test_every_promised_name_is_there_and_has_words() -> None:
    assert dir(clipcurate) == sorted(clipcurate.__all__) == list(clipcurate.__all__)
    for name in clipcurate.__all__:
        promised: Callable[..., Any] = getattr(clipcurate, name)
        assert promised.__name__ == name and inspect.getdoc(promised)
