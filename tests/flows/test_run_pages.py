"""Pages of runs and comparisons: what their files say is there, what strangers wrote is text, and they fit a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from PIL import Image

from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from data_manifests.sample import image_uid
from flows.comparison.output import FORMAT
from flows.pages.build import report_html
from flows.pages.run import Run, evaluations_next_to, read_results
from flows.pages.sections.cases import case_changes
from flows.pages.sections.results import benchmark_name, results_section
from tests.data_manifests.built_versions import build, picture
from tests.flows.browser import Browser, in_a_browser
from tests.flows.pages import assert_self_contained, catalog_of
from training.evaluate.benchmark_result import CaseValues

HOSTILE = "<script>alert(1)</script> & <img src=x>"
STEPS = 30


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    return build(tmp_path_factory.mktemp("runs"), "drawn", [picture(number) for number in range(8)])


def evaluation(r1: float) -> dict[str, Any]:
    metrics = {"image_to_text_R@1": {"value": r1, "low": r1 - 0.1, "high": r1 + 0.1}, "medR": 1.0, "num_images": 5}
    return {"on": f"retrieval:folder:/secret/{HOSTILE}/photos", "num_samples": 5, "num_refused": 2, "metrics": metrics}


def write_run(folder: Path, version: DatasetVersion, *, done: bool = True) -> Path:
    folder.mkdir(parents=True)
    told = {"name": "drawn", "version": "1.0.0", "fingerprint": version.manifest.fingerprint}
    identity = {
        "manifest": told,
        "model": {"spec": f"tiny {HOSTILE}", "hash": "ab" * 16},
        "recipe": {
            "recipe": "negclip",
            "objectives": [{"name": "info_nce"}],
            "planner": {"name": "shuffled"},
            "gate": None,
        },
        "config": {"steps": STEPS, "batch_size": 4, "lr": 0.001, "tune": "lora"},
        "plan": {"fingerprint": "cd" * 16},
        "versions": {"torch": "1"},
    }
    (folder / "run.json").write_bytes(orjson.dumps(identity))
    log = [
        {"step": step, "loss": 3.0 - step / 30, "objective": {"info_nce": 2.0}, "lr": 0.001, "logit_scale": 14.0}
        | {"hardness": {"margin": step / 50, "fooled": 0.25, "gated_share": 0.1, "weight": 1.0, "rival_margin": 0.2}}
        for step in range(STEPS)
    ]
    (folder / "log.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in log))
    if done:
        (folder / "done.json").write_bytes(orjson.dumps({"steps": STEPS, "loss": 2.0, "weights_hash": "ef" * 16}))
    uids = version.index(["uid"])["uid"].to_pylist()
    rows = [
        {"uid": uid, "caption": 0, "text": f"A striped ball, number {HOSTILE}", "drawn": 2, "gated": place % 2}
        | {"first_margin": margin, "last_margin": margin, "last_loss": 1 - margin, "mean_margin": margin}
        | {"mean_loss": 1 - margin, "mean_weight": 1.0}
        for place, (uid, margin) in enumerate(zip(uids, (0.9, 0.5, 0.1, -0.3, 0.2, 0.3, 0.4, 0.6), strict=True))
    ]
    pl.DataFrame(rows).write_parquet(folder / "feedback.parquet")
    return folder


def test_a_runs_page_tells_what_its_files_say(version: DatasetVersion, tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", version)
    (run / "evaluation.json").write_bytes(orjson.dumps({"model": "m", "hash": "h", "results": [evaluation(0.5)]}))
    given = [{**evaluation(0.3), "label": "base"}]
    page = report_html(catalog_of(version), str(run), evaluations=given)
    read = assert_self_contained(page)
    sections = [item["id"] for item in read.of("section")]
    assert sections == ["training", "results", "negatives", "lineage", "words", "record"]
    for expected in (
        "Run mine", "Recipe negclip on drawn@1.0.0", "30 of 30", "5 samples scored, 2 refused", "+0.2000",
        "0.5000 (0.4000 to 0.6000)", "50.0 (40.0 to 60.0)", "info nce ends at 2", "gated share ends at 0.1",
        "beat their caption", "margin -0.300", "objectives.0.name", "efefef", HOSTILE, "run mine",
    ):  # fmt: skip
        assert expected in read.text
    assert "/secret" not in page and "medR, in %" not in read.text
    assert len(read.of("img")) == 8 + 1 + 4, "learned, likely true, left out"
    assert "<ins>striped</ins>" in page


def test_a_run_without_its_version_or_its_end(version: DatasetVersion, tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", version, done=False)
    identity = orjson.loads((run / "run.json").read_bytes())
    identity["manifest"]["fingerprint"] = "00" * 16
    (run / "run.json").write_bytes(orjson.dumps(identity))
    read = assert_self_contained(report_html(catalog_of(version), str(run)))
    assert "Not finished" in read.text and "The version is not here" in read.text and not read.of("img")


def test_results_are_evaluations_next_to_a_run(version: DatasetVersion, tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", version)
    several = orjson.dumps({"results": [evaluation(0.5), {"on": "x"}]})
    base = {"hash": "ab" * 16, "base": "x", "results": [evaluation(0.1), {**evaluation(0.1), "on": "order:elsewhere"}]}
    for name, data in (
        ("mine/after.json", several), ("mine-dev.json", orjson.dumps(evaluation(0.4))), ("other.json", several),
        ("mine/list.json", b"[1]"), ("mine/broken.json", b"{"), ("start.json", orjson.dumps(base)),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    found = evaluations_next_to(Run.read(run))
    assert [item["label"] for item in found] == ["start", "after", "mine-dev"], (
        "the base first, on what the run has too"
    )
    with pytest.raises(InputError, match=r"broken\.json:1: not JSON"):
        read_results(run / "broken.json")
    with pytest.raises(InputError, match="array|list"):
        read_results(run / "list.json")


def write_photos(folder: Path) -> list[str]:
    """Write four photographs with captions; return their uids in order."""
    folder.mkdir()
    uids, lines = [], []
    for number in range(4):
        path = folder / f"{number}.png"
        Image.new("RGB", (40, 30), (60 * number, 80, 90)).save(path)
        uids.append(image_uid(path.read_bytes()))
        lines.append(orjson.dumps({"file_name": path.name, "captions": [f"photo {number} {HOSTILE}"]}))
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines))
    return sorted(uids)


def write_evaluation(
    path: Path, model_hash: str, on: str, uids: list[str], values: list[float], **metrics: Any
) -> None:
    """Write what ``evaluate --json --items`` writes, of one number over images."""
    name = "image_to_text_R@1"
    result = {"on": on, "model": "m", "num_samples": 4, "num_refused": 0, "metrics": {name: sum(values) / 4, **metrics}}
    document = {"model": "m", "hash": model_hash, "split": None, "limit": None, "results": [result]}
    path.write_bytes(orjson.dumps(document))
    rows = [{"on": on, "model": "m", "metric": name, "id": uid, "image": uid} for uid in uids]
    pl.DataFrame(rows).with_columns(value=pl.Series(values)).write_parquet(path.with_suffix(".parquet"))


def test_a_run_tells_in_one_line_and_in_pictures_what_it_changed(version: DatasetVersion, tmp_path: Path) -> None:
    run, uids = write_run(tmp_path / "mine", version), write_photos(tmp_path / "photos")
    on = f"retrieval:folder:{tmp_path / 'photos'}"
    write_evaluation(tmp_path / "start.json", "ab" * 16, on, uids, [1.0, 1.0, 0.0, 0.0])
    write_evaluation(tmp_path / "mine.json", "cd" * 16, on, uids, [1.0, 0.0, 1.0, 1.0])
    page = report_html(catalog_of(version), str(run))
    assert page == report_html(catalog_of(version), str(run)), "the same files, the same bytes"
    read = assert_self_contained(page)
    assert "retrieval photos, R@1 image→text: 50.0 % → 75.0 % (+25.0 ± " in read.text
    start, end = page.index('<section id="cases"'), page.index('<section id="results"')
    cases = page[start:end]
    numbers = re.findall("<dd>([^<]*)</dd><dt>([^<]*)</dt>", cases)
    assert numbers[:2] == [
        ("2", "right with this run, wrong with the base"),
        ("1", "wrong with this run, right with the base"),
    ]
    assert cases.count("<img") == 3 and cases.count("&lt;script&gt;alert") == 6, (
        "texts of strangers, also as description"
    )
    assert str(tmp_path) not in page, "where data lie is private"

    (tmp_path / "photos" / "captions.jsonl").unlink()
    assert "Pictures are not shown: retrieval photos" in report_html(catalog_of(version), str(run))
    (tmp_path / "start.parquet").unlink()
    bare = report_html(catalog_of(version), str(run))
    assert "50.0 % → 75.0 % (+25.0 points)" in bare and 'id="cases"' not in bare
    (tmp_path / "start.json").unlink()
    assert "The base was not evaluated" in report_html(catalog_of(version), str(run))
    write_evaluation(
        tmp_path / "mine.json", "cd" * 16, "order:x", uids, [1.0] * 4, headline=False, no_headline="it is blind"
    )
    flagged = assert_self_contained(report_html(catalog_of(version), str(run)))
    assert "No headline yet" in flagged.text and "No headline: it is blind" in flagged.text


def test_cases_differ_where_more_than_half_of_the_seeds_do() -> None:
    def run(*values: float) -> dict[str, CaseValues]:
        return {"top1": CaseValues(("a", "b", "c"), ("i", "i", "j"), np.array(values))}

    changes = case_changes([run(0, 1, 1)], [run(1, 0, 1), run(1, 0, 0), run(0, 1, 1)], ["top1", "absent"])
    assert ([name.id for name in changes.now_right], [name.id for name in changes.now_wrong]) == (["a"], ["b"])
    assert changes.num == 3
    other = {"top1": CaseValues(("a", "b", "x"), ("i", "i", "j"), np.ones(3))}
    with pytest.raises(InputError, match="different cases"):
        case_changes([run(0, 0, 0)], [other], ["top1"])


def test_benchmarks_are_named_without_private_paths() -> None:
    for on, name in (
        ("retrieval:flickr:/home/me/f8k/", "retrieval f8k"), ("scenes:60@1?level=1", "scenes 60@1, level 1"),
        ("zero_shot:/data/flowers", "zero-shot flowers"), ("sugarcrepe:/a/sc?images=/home/me/coco&x=2", "sugarcrepe sc, x 2"),
    ):  # fmt: skip
        assert benchmark_name(on) == name


def test_categories_of_few_cases_are_one_in_the_charts() -> None:
    entries = {"big": (0.5, 40), "small": (0.2, 5), "tiny": (1.0, 15)}
    metrics = {"categories": {name: {"accuracy": value, "num_cases": num} for name, (value, num) in entries.items()}}
    shown = results_section([{"label": "m", "on": "foils:x", "metrics": metrics}])
    charts = shown[: shown.index("<details")]
    assert "other (2 categories) accuracy, in %" in charts and "<b>80.0</b> (58.4 to 91.9)" in charts
    assert "small" not in charts and "small accuracy" in shown


def test_results_have_intervals_where_their_cases_are_kept(tmp_path: Path) -> None:
    result = {
        "on": "order:x",
        "metrics": {"accuracy": 0.5, "deep": {"one": 0.25, "count": 4}, "macro": 0.375, "medR": 2.0},
    }
    values = {"accuracy": [1.0, 0.0] * 50, "deep.one": [1.0, 0.0, 0.0, 0.0] * 25}
    rows = [
        {"on": on, "metric": metric, "id": f"c{at}", "image": f"i{at}", "value": value if on == "order:x" else 1.0}
        for on in ("order:x", "order:other")
        for metric, listed in values.items()
        for at, value in enumerate(listed)
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "dev.parquet")
    means = {"macro": ["accuracy", "deep.one"], "lost": ["gone"]}
    (tmp_path / "dev.json").write_bytes(orjson.dumps({"results": [{**result, "means": means}]}))
    (told,) = read_results(tmp_path / "dev.json")
    metrics = told["metrics"]
    for found, value in ((metrics["accuracy"], 0.5), (metrics["deep"]["one"], 0.25), (metrics["macro"], 0.375)):
        wide = 1.96 * (value * (1 - value) / 100) ** 0.5
        assert (
            found["value"] == value and value - 1.3 * wide < found["low"] < value < found["high"] < value + 1.3 * wide
        )
    assert (metrics["medR"], metrics["deep"]["count"]) == (2.0, 4)
    (tmp_path / "dev.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not the cases"):
        read_results(tmp_path / "dev.json")


def number(value: float, change: float | None, *, apart: bool = False) -> dict[str, Any]:
    told = {"value": change, "low": (change or 0) - 0.01, "high": (change or 0) + 0.01, "told_apart": apart}
    found: dict[str, Any] = {"on": "retrieval:flickr:/data/f8k", "metric": "image_to_text_R@1"}
    found |= {"value": value, "low": value - 0.05, "high": value + 0.05}
    return found | ({} if change is None else {"to_control": told})


def curve(share: float | None, top: float) -> list[dict[str, Any]]:
    """Return a row's curve in two metrics: foils rise to `top`, R@1 falls."""
    points = []
    for number in range(11):
        values = {RECALL_ON: ("image_to_text_R@1", 0.5 - number / 100), FOILS_ON: ("accuracy", 0.5 + top * number / 10)}
        numbers = [
            {"on": on, "metric": metric, "value": value, "low": value - 0.02, "high": value + 0.02}
            for on, (metric, value) in values.items()
        ]
        points.append({"share": number / 10, "lost": 0.0, "kept": number / 10 <= (share or 0), "numbers": numbers})
    return points


RECALL_ON, FOILS_ON = "retrieval:flickr:/data/f8k", "foils:flickr:/data/f8k"


def write_comparison(folder: Path, version: DatasetVersion) -> Path:
    write_run(folder / "cells" / "clip-0-aa" / "run", version)
    row: dict[str, Any] = {"seeds": [0, 1], "failed": False, "lost": [], "faults": {}, "settings": [], "num_samples": 8}
    row |= {"manifest": {"ref": "drawn@1.0.0", "fingerprint": "ab" * 16}, "share": 0.7, "curve": curve(0.7, 0.1)}
    lost = [{"on": RECALL_ON, "metric": "image_to_text_R@1", "points": -7.5}]
    start = {"seeds": [], "failed": False, "lost": [], "faults": {}, "share": None, "curve": []}
    rows = [
        {**start, "name": "pretrained", "numbers": [number(0.5, 0.02)]},
        row | {"name": "clip", "recipe": "clip", "numbers": [number(0.48, None)]},
        row | {"name": "negclip", "recipe": "negclip", "numbers": [number(0.425, -0.055, apart=True)], "lost": lost, "failed": True},
        row | {"name": HOSTILE, "recipe": "gone", "numbers": [], "share": None, "curve": [], "faults": {"x seed 0": f"error {HOSTILE}\nmore"}},
    ]  # fmt: skip
    cell = {"row": "clip", "seed": 0, "folder": "cells/clip-0-aa", "train_s": 5.0, "evaluate_s": 1.0, "fault": ""}
    away = {**cell, "row": "x", "folder": "../../elsewhere", "fault": f"it {HOSTILE}"}
    foils = {"on": FOILS_ON, "metric": "accuracy", "role": "composition", "reason": "", "headline": True}
    recall = {"on": RECALL_ON, "metric": "image_to_text_R@1", "role": "retrieval", "reason": "", "headline": True}
    document = {
        "format": FORMAT, "command": "clipcurate compare", "title": "tiny", "model": {}, "seeds": [0, 1], "settings": [],
        "benchmarks": {"on": [RECALL_ON], "split": None, "limit": None}, "versions": {},
        "gate": {"zero_shot": 2.0, "retrieval": 3.0, "against": "pretrained"}, "rows": rows,
        "rule": {"points": 1.0, "shares": [], "choose_on": [], "sentence": "The rule, in a sentence."},
        "metrics": [recall, foils, {**foils, "metric": "tot", "headline": False, "reason": f"blind {HOSTILE}"}],
        "dominance": [{"row": "negclip", "over": "clip", "higher": [{"on": FOILS_ON, "metric": "accuracy"}]}],
        "blind": [{"on": RECALL_ON, "metric": "image_to_text_R@1", "judge": "ngram", "value": 0.31}],
        "cells": [{**cell, "results": {"a": {"num_samples": 5, "num_refused": 1}}}, {**away, "results": {}}],
    }  # fmt: skip
    (folder / "comparison.json").write_bytes(orjson.dumps(document))
    return folder


def test_a_comparisons_page_shows_curves_numbers_gate_papers_and_training(
    version: DatasetVersion, tmp_path: Path
) -> None:
    folder = write_comparison(tmp_path / "mine", version)
    page = report_html(catalog_of(version), str(folder))
    read = assert_self_contained(page)
    sections = [item["id"] for item in read.of("section")]
    assert sections == ["curves", "numbers", "differences", "recipes", "training", "words", "record"]
    for expected in (
        "Comparison mine", "42.5 (37.5 to 47.5)", "-5.5▼", "✗\N{NO-BREAK SPACE}failed", "lost 7.5", "passed",
        "did not run: error", "pretrained 50.0", "5 of 6", "31.0 by ngram", "blind: ngram", "loses more than 2 points", HOSTILE, "Loss",
        "negclip dominates clip", "being higher in", "The rule, in a sentence.", "clip at share 0.7: ↑ 57.0, → 43.0",
        f"foils f8k: tot is no headline: blind {HOSTILE}.", "↑ foils f8k: accuracy", "→ retrieval f8k: R@1 image→text",
    ):  # fmt: skip
        assert expected in read.text
    assert page.count('class="whisker bad"') == 1 and page.count('class="base"') == 1
    assert page.count("data_share") == 0 and page.count('data-share="share 0.7"') == 2, "clip and negclip"
    assert {"https://arxiv.org/abs/2103.00020", "https://arxiv.org/abs/2210.01936"} <= {
        item["href"] for item in read.of("a")
    }
    assert "clip ends at 2.033" in read.text
    (folder / "comparison.json").write_bytes(orjson.dumps({"format": "other/1"}))
    with pytest.raises(InputError, match="format is 'other/1'"):
        report_html(catalog_of(version), str(folder))


def test_a_comparison_shows_where_leader_and_control_differ(version: DatasetVersion, tmp_path: Path) -> None:
    folder, uids = write_comparison(tmp_path / "mine", version), write_photos(tmp_path / "photos")
    document = orjson.loads((folder / "comparison.json").read_bytes())
    on, cells = f"retrieval:folder:{tmp_path / 'photos'}", []
    runs = (
        ("clip", 0, [1.0, 1.0, 0.0, 0.0]),
        ("negclip", 0, [0.0, 1.0, 1.0, 1.0]),
        ("negclip", 1, [0.0, 1.0, 1.0, 1.0]),
    )
    for row, seed, values in runs:
        write_evaluation(folder / "cells" / f"{row}{seed}.json", "ab", on, uids, values)
        result = {"file": f"cells/{row}{seed}.json", "num_samples": 4, "num_refused": 0, "split": None}
        cells.append({**document["cells"][0], "row": row, "seed": seed, "results": {on: result}})
    role = {"on": on, "metric": "image_to_text_R@1", "role": "retrieval", "reason": "", "headline": True}
    (folder / "comparison.json").write_bytes(orjson.dumps({**document, "cells": cells, "metrics": [role]}))
    page = report_html(catalog_of(version), str(folder))
    read = assert_self_contained(page)
    assert "Where negclip and clip differ" in read.text and len(read.of("img")) == 3
    assert re.findall("<dd>([^<]*)</dd><dt>([^<]*)</dt>", page)[-3:-1] == [
        ("2", "right with negclip, wrong with clip"), ("1", "wrong with negclip, right with clip")
    ]  # fmt: skip
    cells[1]["results"][on]["file"] = cells[2]["results"][on]["file"] = "../elsewhere.json"
    write_evaluation(tmp_path / "elsewhere.json", "ab", on, uids, [1.0] * 4)
    (folder / "comparison.json").write_bytes(orjson.dumps({**document, "cells": cells, "metrics": [role]}))
    outside = report_html(catalog_of(version), str(folder))
    assert "<img" not in outside, "no file outside the comparison's folder is read"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


SMALLEST_PX = """Math.min(...[...document.querySelectorAll('main *, header *, nav *')]
    .filter((node) => node.getClientRects().length && [...node.childNodes].some((text) => text.nodeType === 3 && text.data.trim()))
    .map((node) => {
        const drawing = node.closest('svg'), size = parseFloat(getComputedStyle(node).fontSize);
        return drawing ? size * drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : size;
    }))"""


@in_a_browser
@pytest.mark.parametrize("kind", ["run", "comparison", "version"])
def test_they_fit_a_phone_can_be_read_and_say_nothing(
    browser: Browser, version: DatasetVersion, tmp_path: Path, kind: str
) -> None:
    target = "drawn@1.0.0"
    if kind != "version":
        target = str((write_run if kind == "run" else write_comparison)(tmp_path / "mine", version))
    path = tmp_path / "page.html"
    path.write_text(report_html(catalog_of(version), target), encoding="utf-8")
    for width in (390, 1280):
        browser.open(path, "", width, 844, dark=width == 390)
        browser.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(SMALLEST_PX) >= 14
        assert browser.run("[...document.images].every((image) => image.naturalWidth > 0)")
    assert (browser.said, browser.asked) == ([], [])
