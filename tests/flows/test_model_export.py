"""``export model``: the folder with its card appears whole or not at all, and can be pushed to a hub."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_manifests.manifest import Catalog
from data_manifests.seeds import canonical
from flows.cli.hub import upload
from tests.flows.test_bad_input import Shell, shell
from tests.training.small_models import load
from training.model import lora
from training.model.run_folder import save_run_model

__all__ = ["shell"]

pytestmark = pytest.mark.filterwarnings("ignore:model 'tiny'")

Command = Callable[..., tuple[int, str]]


URL = "https://huggingface.co/me/toy"


class Hub(BaseHTTPRequestHandler):
    """Takes whatever is pushed."""

    status, pushed = 200, dict[str, bytes]()

    def answer(self, **value: Any) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps({"url": URL, "commitUrl": f"{URL}/commit/1", **value}).encode())

    do_GET = answer  # noqa: N815

    def do_POST(self) -> None:
        self.pushed[self.path] = body = self.rfile.read(int(self.headers["Content-Length"]))
        files = json.loads(body)["files"] if "preupload" in self.path else []
        self.answer(commitOid="1", files=[item | {"uploadMode": "regular", "shouldIgnore": False} for item in files])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """Serve a hub of our own, and let the library talk to it."""
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr(Hub, "pushed", {})
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def command(shell: Shell) -> Command:
    return shell.said


@pytest.fixture
def run_folder(command: Command, tmp_path: Path) -> Path:
    """Make a run as the trainer leaves it, on a version that is in the catalog, with results next to it."""
    command("curate", "clip", "--source", "scenes:6", "--name", "toy", "--no-prefect", "--workers", "1")
    manifest = Catalog(tmp_path / "m", tmp_path / "w").open("toy").manifest
    model = load("tiny")
    lora.apply_tuning(model, "lora")
    save_run_model(tmp_path / "runs" / "first", model, "tiny (random weights, seed 0)", "0" * 32, "lora")
    known = {"name": "toy", "version": manifest.body["version"], "fingerprint": manifest.fingerprint}
    about = {"recipe": {"recipe": "clip", "objectives": [{"name": "info_nce", "weight": 1.0}]}, "manifest": known}
    config = {"config": {"steps": 3, "batch_size": 8, "lr": 0.1, "seed": 5, "tune": "lora"}, "versions": {"torch": "2"}}
    identity = {**about, **config, "model": {"spec": "tiny", "hash": "0" * 32}, "plan": {}}
    results = [
        {"on": "retrieval:flickr:/private/x", "metrics": {"R@1": {"value": 0.5, "low": 0.41, "high": 0.61}, "n": 0.25}}
    ]
    for name, value in (
        ("first/run.json", identity),
        ("first/done.json", {"steps": 3, "loss": 1.0, "weights_hash": "abc"}),
        ("first-results.json", {"hash": "1" * 32, "results": results}),
    ):
        (tmp_path / "runs" / name).write_bytes(canonical(value))
    (tmp_path / "runs" / "first" / "log.jsonl").touch()
    return tmp_path / "runs" / "first"


def test_the_card_says_what_it_is_made_from_and_how_well_it_does(
    command: Command, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, printed = command("export", "model", str(run_folder), "--out", str(out))
    assert code == 0, printed
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    assert {oct(path.stat().st_mode & 0o777) for path in out.iterdir()} == {"0o644"}
    card = (out / "README.md").read_text()
    for text in (
        "library_name: open_clip",
        "tuned (`lora`) with the recipe `clip` on the data set `toy@1.0.0`",
        "| photographs and captions (`scenes` `scenes`) | CC0-1.0 |",
        "### retrieval x",
        "| R@1 | 0.5000 (0.4100 to 0.6100) |",
        "- Numbers without brackets have no interval.",
        "- It started from random weights",
        "- Data: Near-duplicates were not looked for.",
        "| hash of the trained weights | `abc` |",
    ):
        assert text in card, card
    assert str(tmp_path) not in card and "/private" not in card
    code, printed = command("export", "model", str(run_folder), "--out", str(tmp_path / "again"))
    assert code == 0 and (tmp_path / "again" / "README.md").read_text() == card
    assert str(out) in (tmp_path / "w" / "outputs.jsonl").read_text()


@pytest.mark.slow
def test_the_trainer_of_open_clip_starts_from_the_export_and_reads_our_shards(
    command: Command, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command("export", "model", str(run_folder), "--out", str(out))[0] == 0
    shard = Catalog(tmp_path / "m", tmp_path / "w").open("toy").folder / "00000.tar"
    code = (
        "import sys; from data_manifests.torchvision_cpu import declare_operators; declare_operators();"
        "from open_clip_train.main import main; main(sys.argv[1:])"
    )
    options = {
        "model": f"local-dir:{out}", "train-data": shard, "dataset-type": "webdataset", "train-num-samples": 8,
        "batch-size": 4, "epochs": 1, "workers": 0, "device": "cpu", "precision": "fp32", "warmup": 0, "lr": 0, "wd": 0,
        "logs": tmp_path / "logs", "name": "theirs",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Train Epoch: 0 [8/8 (100%)]" in ran.stderr + ran.stdout
    saved = torch.load(tmp_path / "logs" / "theirs" / "checkpoints" / "epoch_1.pt", weights_only=True)["state_dict"]
    exported = load_file(str(out / "open_clip_model.safetensors"))
    assert saved.keys() == exported.keys()
    # with a learning rate of 0 they are what training began with
    assert all(torch.equal(saved[name], exported[name]) for name in exported)


def test_nothing_is_overwritten_and_nothing_is_left_half(
    command: Command, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exports" / "out"
    out.mkdir(parents=True)
    code, printed = command("export", "model", str(run_folder), "--out", str(out))
    assert code == 2 and "exists already" in printed
    out.rmdir()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    assert command("export", "model", str(run_folder), "--out", str(out))[0] != 0
    assert list((tmp_path / "exports").iterdir()) == []
    code, printed = command("export", "model", str(tmp_path / "m"), "--out", str(out))
    assert code == 2 and "holds no run.json" in printed


def test_a_push_sends_all_files_in_one_commit(hub: type[Hub], tmp_path: Path) -> None:
    for name in ("README.md", "open_clip_config.json"):
        (tmp_path / name).write_text(f"this is {name}")
    assert "me/toy" in upload(tmp_path, "me/toy", "model")
    made = json.loads(hub.pushed["/api/repos/create"])
    assert made.get("visibility") == "private" or made.get("private") is True
    commits = [body.decode() for path, body in hub.pushed.items() if "/commit/" in path]
    assert len(commits) == 1
    assert all(f'"path": "{name}"' in commits[0] for name in ("README.md", "open_clip_config.json"))


def test_a_hub_that_refuses_or_is_away_is_said_before_anything_is_written(
    command: Command, hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", "model", str(tmp_path), "--out", str(tmp_path / "out"), "--push")
    monkeypatch.setattr(hub, "status", 401)
    code, printed = command(*words, "me/toy")
    assert code == 2 and "does not know you (status 401)" in printed and "hf auth login" in printed
    assert "OWNER/NAME" in command(*words, "a b/c")[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    code, printed = command(*words, "me/toy")
    assert code == 2 and "cannot be reached" in printed and "hf upload REPO DIR" in printed
    assert time.monotonic() - start < 10
    assert not (tmp_path / "out").exists()
