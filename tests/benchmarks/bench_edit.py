"""One edited caption and some new photographs against the first run: seconds of stages, samples computed, bytes that changed.

    python -m tests.benchmarks.bench_edit FLICKR8K --recipes ahnm fsc_clip simclip m4 dedup --new 70

Each recipe has a workspace of its own and is run three times as a command: on all but the new photographs, on all, and with one caption
edited. "Members" are the samples whose image, text or JSON in the tars differs from the version before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from curation.sources.flickr import FlickrSource
from data_manifests.diff import diff_versions
from data_manifests.manifest import Catalog, DatasetVersion
from tests.curation.source_inputs import records_of

NEW_CAPTION = "A small black dog runs after a red ball on the green grass ."
MEMBERS = ("image", "json", "text")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flickr", help="folder of Flickr8k")
    parser.add_argument("--recipes", nargs="+", default=["ahnm", "fsc_clip", "simclip", "m4", "dedup"])
    parser.add_argument("--limit", type=int, default=None, help="photographs, the new ones included")
    parser.add_argument("--new", type=int, default=70, help="photographs that come later")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="passed on to curate")
    options = parser.parse_args()
    records = list(read_photos(Path(options.flickr), options.limit))
    for recipe in options.recipes:
        with tempfile.TemporaryDirectory() as folder:
            run_recipe(Path(folder), recipe, records, options)


def read_photos(folder: Path, limit: int | None) -> list[dict[str, Any]]:
    """Return the photographs as rows of captions.jsonl."""
    rows = []
    for record in records_of(FlickrSource(str(folder))):
        image = getattr(record, "image", None)
        if image is not None:
            rows.append({"file_name": Path(image.path).name, "captions": list(record.captions), "path": image.path})
        if limit is not None and len(rows) == limit:
            break
    return rows


def run_recipe(folder: Path, recipe: str, records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Run a recipe three times and print a line each."""
    photos = folder / "photos"
    (photos / "images").mkdir(parents=True)
    for record in records:
        (photos / "images" / record["file_name"]).hardlink_to(record["path"]) if same_disk(
            photos, record["path"]
        ) else (photos / "images" / record["file_name"]).write_bytes(Path(record["path"]).read_bytes())
    catalog = Catalog(folder / "m", folder / "w")
    before: DatasetVersion | None = None
    full = 0.0
    edited = [dict(record) for record in records]
    edited[len(edited) // 2]["captions"] = [NEW_CAPTION, *edited[len(edited) // 2]["captions"][1:]]
    for step, rows in (
        ("first run", records[: len(records) - options.new]),
        (f"{options.new} new", records),
        ("one edited", edited),
    ):
        write_captions(photos / "captions.jsonl", rows)
        result, wall = curate(folder, recipe, options)
        stages = result["seconds"]["stages"]
        full = full or stages
        computed = {stage["stage"]: stage["computed"] for stage in result["stages"]}
        version = catalog.open(result["version"])
        peak = max(stage["peak_memory_bytes"] for stage in result["stages"]) / 2**20
        print(
            f"{recipe:10} {step:10} {len(rows)} photographs: stages {stages:.1f} s ({100 * stages / full:.1f} % of the first run), "
            f"intake {result['seconds']['intake']:.1f} s, publish {result['seconds']['publish']:.1f} s, whole command {wall:.1f} s, "
            f"peak {peak:.0f} MiB; computed at most {max(computed.values())}, {version.ref}: {result['why']}",
            flush=True,
        )
        slow = sorted(result["stages"], key=lambda stage: -stage["wall_s"])[:6]
        print("    " + ", ".join(f"{stage['stage']} {stage['wall_s']:.2f} s ({stage['computed']})" for stage in slow))
        if before is not None:
            diff = diff_versions(before, version)
            others = changed_members(before, version)
            print(
                f"    diff: {diff.num_added} added, {diff.num_edited} edited, {diff.num_followed} followed; members of "
                f"{len(others)} samples of both versions differ",
                flush=True,
            )
        before = version


def same_disk(folder: Path, path: str) -> bool:
    """Return whether a file lies on the disk of a folder, so that it can be linked."""
    return folder.stat().st_dev == Path(path).stat().st_dev


def write_captions(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write captions.jsonl."""
    lines = (orjson.dumps({"file_name": f"images/{row['file_name']}", "captions": row["captions"]}) for row in rows)
    path.write_bytes(b"\n".join(lines) + b"\n")


def curate(folder: Path, recipe: str, options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Run `clipcurate curate`; return what it printed and the seconds of the whole command."""
    command = [sys.executable, "-c", "from flows.cli.main import main; main()"]
    command += ["--workspace", str(folder / "w"), "--manifests", str(folder / "m")]
    command += ["curate", recipe, "--source", f"folder:{folder / 'photos'}", "--name", recipe, "--no-prefect", "--json"]
    command += ["--model", options.model, "--workers", str(options.workers), *(f"--set={item}" for item in options.set)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = orjson.loads(done.stdout)
    return result, time.perf_counter() - started


def changed_members(old: DatasetVersion, new: DatasetVersion) -> set[str]:
    """Return the samples of both versions of which a member of the tar differs."""
    before, after = members(old), members(new)
    return {uid for uid in before.keys() & after.keys() if before[uid] != after[uid]}


def members(version: DatasetVersion) -> dict[str, tuple[bytes, ...]]:
    """Return the bytes of each sample's members."""
    columns = [f"{name}_{what}" for name in MEMBERS for what in ("offset", "bytes")]
    rows = version.index(["uid", "shard", *columns]).to_pylist()
    tars = {row["shard"]: b"" for row in rows}
    for shard in tars:
        tars[shard] = (version.folder / f"{shard:05d}.tar").read_bytes()
    return {
        row["uid"]: tuple(
            tars[row["shard"]][row[f"{name}_offset"] : row[f"{name}_offset"] + row[f"{name}_bytes"]] for name in MEMBERS
        )
        for row in rows
    }


if __name__ == "__main__":
    main()
