"""Planted copies and leaks through the whole recipe: found by kind, thinned or kept by rule, shown, and kept apart."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.sources import SourceRecord, open_source
from curation.stages.hygiene.check_images import CheckImages
from curation.stages.hygiene.find_duplicates import FindDuplicates
from curation.stages.hygiene.hash_images import HashImages
from curation.stages.hygiene.remove_leaks import RemoveLeaks
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.sample import ImageRef
from flows.execution.jobs import CurateJob, CurationResult, run_job
from flows.recipe import RecipeInputs, load_recipe, open_against
from tests.curation.source_inputs import records_of
from tests.flows.pages import page_of
from tests.planted_copies import KINDS, plant
from training.batches.basic import ShuffledPlan
from training.batches.index import PlanIndex
from training.batches.plan import make_plan

NUM_PHOTOS, NUM_COPIES, NUM_LEAKS = 120, 24, 12


def photographs(real_data: Path, number: int) -> list[tuple[str, bytes, tuple[str, ...]]]:
    """Return so many photographs, drawn evenly over the set."""
    records = [
        record
        for record in records_of(open_source(f"flickr:{real_data / 'flickr8k'}"))
        if isinstance(record, SourceRecord)
    ]
    chosen = random.Random(5).sample(records, number)
    found = []
    for record in chosen:
        assert isinstance(record.image, ImageRef)
        found.append((record.name, record.image.read(), tuple(map(str, record.captions))))
    return found


@pytest.fixture(scope="module")
def planted(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """Return a folder of photographs and copies, one of changed copies to evaluate on, and the kinds of the first."""
    root = tmp_path_factory.mktemp("planted")
    photos = photographs(real_data, NUM_PHOTOS)
    train, evaluation = root / "train", root / "evaluation"
    for folder in (train, evaluation):
        folder.mkdir()
    kinds = plant(train, photos[:NUM_COPIES], seed=3)
    lines = (train / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    for name, data, captions in photos:
        (train / name).write_bytes(data)
        lines.append(json.dumps({"file_name": name, "captions": captions}))
    (train / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plant(evaluation, photos[-NUM_LEAKS:], seed=4)
    return train, evaluation, kinds


def curated(root: Path, train: Path, keep: str, *against: str) -> CurationResult:
    """Run the recipe without its embeddings, which would take minutes here."""
    workspace, manifests = str(root / "w"), str(root / "m")
    job = CurateJob(recipe="dedup", source=f"folder:{train}", name="toy", workspace=workspace, manifests=manifests)
    job = replace(job, model="tiny", against=against, workers=1)
    recipe = load_recipe("dedup", job)
    leaks, twins = recipe.stages[-2:]
    assert isinstance(leaks, RemoveLeaks) and isinstance(twins, FindDuplicates)
    seen = (CheckImages(), HashImages())
    leaks = replace(leaks, against=leaks.against.with_stages(*seen), embeddings=False)
    stages = (*seen, leaks, replace(twins, embeddings=False, keep=keep))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.execution.jobs.load_recipe", lambda *_: replace(recipe, stages=stages))
        return run_job(job)


def version_of(root: Path) -> DatasetVersion:
    return Catalog(root / "m", root / "w").open("toy@1")


def test_copies_are_thinned_leaks_leave_and_the_page_tells(
    planted: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    train, evaluation, kinds = planted
    outcome = curated(tmp_path, train, "one", f"folder:{evaluation}")
    version = version_of(tmp_path)
    rows = pq.read_table(version.folder / "dropped.parquet").to_pylist()
    leaks = [row for row in rows if row["reason"] == "leak"]
    twins = [row for row in rows if row["reason"] == "near_duplicate"]
    assert len(leaks) == NUM_LEAKS
    for row in leaks:
        item = row["detail"].split()[1]
        assert row["name"].partition(".")[0] == item.partition("-")[2].partition(".")[0], "another picture"
        assert str(evaluation.parent) not in row["detail"]
    # a crop or a smaller copy goes; of two of one size the larger uid does
    assert len(twins) == NUM_COPIES
    kept = {row["uid"] for row in version.index(["uid"]).to_pylist()}
    assert all(row["detail"].split()[1].rstrip(":") in kept for row in twins)
    stems = sorted(row["name"].rpartition("-")[2].partition(".")[0] for row in twins)
    assert stems == sorted(name.rpartition("-")[2].partition(".")[0] for name in kinds)
    smaller = {row["name"].partition("-")[0] for row in twins} & set(KINDS)
    assert {"crop", "resize", "all"} <= smaller
    assert outcome.manifest.body["counts"]["samples"] == NUM_PHOTOS - NUM_LEAKS
    page = page_of(version)
    assert "near-duplicate(s) dropped" in page and twins[0]["name"] in page and leaks[0]["name"] in page
    assert "like the kept one" in page and twins[0]["uid"] not in page, "names, no hashes"
    record = next(stage for stage in outcome.manifest.body["stages"] if stage["name"] == "remove_leaks")
    assert record["resources"]["against"]["name"] == "folder:evaluation"


def test_groups_kept_whole_are_in_the_index_and_kept_apart(
    planted: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    train, _, _ = planted
    outcome = curated(tmp_path, train, "all")
    version = version_of(tmp_path)
    assert outcome.manifest.body["counts"]["samples"] == NUM_PHOTOS + NUM_COPIES
    groups = [row["duplicate_group"] for row in version.index(["duplicate_group"]).to_pylist()]
    named = [name for name in groups if name]
    assert len(named) == 2 * NUM_COPIES and len(set(named)) == NUM_COPIES
    index = PlanIndex.from_table(version.index())
    assert index.duplicate_group is not None
    plan = make_plan(ShuffledPlan(), index, 0, 30, 24)
    for batch in plan.rows:
        mine = index.duplicate_group[batch]
        assert len(np.unique(mine[mine >= 0])) == (mine >= 0).sum()
    page = page_of(version)
    assert f"{NUM_COPIES:,} group(s)" in page and "of 64 bits differ" in page


def test_evaluation_sets_are_known_by_content_and_bad_ones_refused(
    planted: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    _, evaluation, _ = planted

    def content(*against: str) -> str:
        return open_against(against, str(tmp_path / "w")).content_hash()

    moved = tmp_path / "elsewhere" / evaluation.name
    shutil.copytree(evaluation, moved)
    here = f"folder:{evaluation}"
    assert content(here) == content(f"folder:{moved}") == content(here, here) != content()
    assert content("scenes:6") != content("scenes:7") and content("scenes:40#test") != content("scenes:40")
    for bad, told in (("nothing", "no source kind"), (f"folder:{tmp_path / 'gone'}", "--against folder:")):
        with pytest.raises(InputError, match=told):
            content(bad)
    with pytest.raises(InputError, match="every sample of the data set is in an evaluation set"):
        curated(tmp_path, evaluation, "one", here)
    with pytest.raises(InputError, match="recipe 'clip' does not look for leaks"):
        load_recipe("clip", RecipeInputs(against=("scenes:5",)))
