"""How many negatives captions get: counted, estimated before a run, printed, and on the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from curation.versions.statistics import CandidateCounter, count_candidates
from data_manifests.caption_negatives import NO_CANDIDATE, CaptionNegatives
from data_manifests.drift import changed_distributions
from data_manifests.manifest import Catalog, DatasetVersion
from flows.cli.main import main
from flows.execution import estimate_negatives
from flows.execution.curation_warnings import few_negatives
from tests.curation.source_inputs import picture, put
from tests.flows.pages import page_of

CAPTIONS = [
    "a brown dog chases a white cat",
    "two men in red shirts play football",
    "a woman holds a small baby",
    "hello hello",
    "Nordic Tuxedo Bra Size 34",
    "a boy jumps on the left of a table",
]


def made_by(stage: str, caption: int, **more: Any) -> dict[str, Any]:
    return {"source": stage, "caption": caption, "text": "t", **more}


def test_every_candidate_is_counted_once_and_every_caption_without_one_has_a_reason() -> None:
    kept = [made_by("swap", 0), made_by("swap", 0), made_by("fill", 1)]
    first = [
        made_by("swap", caption, reason=reason) for caption, reason in [(1, "possible"), (2, "possible"), (2, "b")]
    ]
    later = [made_by("swap", 2, reason="unbalanced"), made_by("rewriter", 3, reason="too_long")]
    own = [{"caption": 4, "text": "t", "reason": "no_fill"}]  # of the stage that makes: it names none
    rejects = [("fill", own), ("judge", first), ("balance", later)]
    counter = CandidateCounter()
    for _ in range(2):
        counter.add(json.loads(json.dumps(count_candidates(6, kept, rejects, ["swap", "fill", "idle"]))))
    found = CaptionNegatives.of(counter.statistics())
    assert found is not None
    assert found.captions == {0: 8, 1: 2, 2: 2}
    assert found.without == {"unbalanced": 2, NO_CANDIDATE: 4, "no_fill": 2}, (
        "the last stage's reason; rewrites are none"
    )
    by_name = {one.name: (one.captions, one.made, one.kept, dict(one.lost)) for one in found.generators}
    assert by_name["swap"] == (6, 12, 4, {"b": 2, "possible": 4, "unbalanced": 2})
    assert by_name["fill"] == (4, 4, 2, {"no_fill": 2}) and by_name["idle"] == (0, 0, 0, {})
    assert (found.mean, found.share_with(1), found.share_with(2), found.share_with(3)) == (0.5, 1 / 3, 1 / 6, 0)


def test_the_warning_says_the_main_reason_and_nothing_from_one_negative_on() -> None:
    few = few_negatives(CaptionNegatives({0: 9, 1: 3}, {NO_CANDIDATE: 2, "possible": 7}))
    assert few is not None and "0.25 negatives on average; 75.0% of them have none (possible 7, no_candidate 2)" in few
    assert "possible: rejected.parquet" in few and "masked model" not in few
    empty = few_negatives(CaptionNegatives({0: 2}, {NO_CANDIDATE: 2}))
    assert empty is not None and "no caption got a negative" in empty and "--masked-model" in empty
    assert few_negatives(CaptionNegatives({0: 1, 2: 1}, {NO_CANDIDATE: 1})) is None


def test_versions_differ_by_it_only_if_both_record_it() -> None:
    body: dict[str, Any] = {"statistics": {"caption_words": {}}}
    recorded: dict[str, Any] = {"statistics": {"caption_words": {}, "negatives_per_caption": {"captions": {"0": 1}}}}
    other: dict[str, Any] = {"statistics": {"caption_words": {}, "negatives_per_caption": {"captions": {"2": 1}}}}
    assert changed_distributions(body, recorded) == ()
    (shift,) = changed_distributions(recorded, other)
    assert (shift.name, shift.old_mean, shift.new_mean) == ("negatives per caption", 0, 2)


class Shell:
    def __init__(self, root: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._patch, self._capsys = root, patch, capsys

    def __call__(self, *words: str) -> tuple[str, str]:
        """Run a command that must succeed; return what it printed."""
        places = "--workspace", str(self.root / "w"), "--manifests", str(self.root / "m")
        self._patch.setattr(sys, "argv", ["clipcurate", *places, *words])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        printed = self._capsys.readouterr()
        assert not left.value.code, printed.err
        return printed.out, " ".join(printed.err.split())

    def version(self, ref: str) -> DatasetVersion:
        return Catalog(self.root / "m", self.root / "w").open(ref)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    rows = [{"file_name": f"{number}.jpg", "captions": [text]} for number, text in enumerate(CAPTIONS)]
    for number, row in enumerate(rows):
        put(tmp_path / "photos" / str(row["file_name"]), picture(20 * number))
    put(tmp_path / "photos" / "captions.jsonl", b"\n".join(map(orjson.dumps, rows)))
    return Shell(tmp_path, monkeypatch, capsys)


def job(shell: Shell, recipe: str, *more: str) -> tuple[str, ...]:
    return (recipe, "--source", f"folder:{shell.root / 'photos'}", "--name", "toy", "--workers", "1", *more)


def test_the_plan_is_what_comes_out_and_is_known_afterwards(shell: Shell) -> None:
    planned = orjson.loads(shell("plan", *job(shell, "fsc_clip"), "--json")[0])["negatives_per_caption"]
    out, _ = shell("curate", *job(shell, "fsc_clip"), "--no-prefect", "--json")
    found = orjson.loads(out)
    assert planned == {"known_from": None, "numbers": found["negatives_per_caption"], "not_known_of": []}
    manifest = shell.version("toy@1").manifest
    numbers = CaptionNegatives.of(manifest.body["statistics"])
    assert numbers is not None and numbers.num_captions == len(CAPTIONS)
    assert numbers.mean * len(CAPTIONS) == found["counts"]["negatives"] == sum(one.kept for one in numbers.generators)
    rejected = sum(number for reasons in found["counts"]["rejected"].values() for number in reasons.values())
    assert rejected == sum(sum(one.lost.values()) for one in numbers.generators) > 0
    assert sum(numbers.without.values()) == numbers.captions[0] and numbers.without[NO_CANDIDATE] >= 1
    out, _ = shell("plan", *job(shell, "fsc_clip"), "--json")
    assert orjson.loads(out)["negatives_per_caption"]["known_from"] == "toy@1.0.0"
    page = page_of(shell.version("toy@1"))
    assert "captions without a negative, by the last reason" in page and "replace_words" in page
    shown = " ".join(shell("show", "toy@1")[0].split())
    assert "negatives by the stage that made them" in shown and "negatives per caption:" in shown
    # another setting makes others: known no more
    out, _ = shell("plan", *job(shell, "fsc_clip", "--set", "stages.swap_words.seed=1"), "--json")
    assert orjson.loads(out)["negatives_per_caption"]["known_from"] is None


def test_recipes_without_negatives_say_nothing_and_models_are_not_run(shell: Shell) -> None:
    assert "negatives_per_caption" not in orjson.loads(shell("plan", *job(shell, "clip"), "--json")[0])
    out, err = shell("curate", *job(shell, "clip"), "--no-prefect", "--json")
    assert "negatives_per_caption" not in orjson.loads(out) and "warning" not in err
    assert "negatives_per_caption" not in shell.version("toy@1").manifest.body["statistics"]
    llm = "--llm", "http://localhost:1/v1#none"
    planned = orjson.loads(shell("plan", *job(shell, "triplet_clip", *llm), "--json")[0])["negatives_per_caption"]
    assert planned == {"known_from": None, "numbers": None, "not_known_of": ["ask_negatives"]}
    printed = " ".join(shell("plan", *job(shell, "triplet_clip", *llm))[0].split())
    reason = "these stages need a model, or learn from all captions"
    assert f"negatives not known before the run ({reason}): ask_negatives" in printed


def test_what_is_learned_from_all_captions_is_not_estimated_from_a_few(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = orjson.loads(shell("plan", *job(shell, "contrasts"), "--json")[0])["negatives_per_caption"]
    assert planned["not_known_of"] == [] and planned["numbers"]["captions"] == len(CAPTIONS)
    monkeypatch.setattr(estimate_negatives, "MAX_CAPTIONS", 2)
    planned = orjson.loads(shell("plan", *job(shell, "contrasts"), "--json")[0])["negatives_per_caption"]
    assert planned["numbers"] is None and "mine_contrasts" in planned["not_known_of"]
    for recipe, not_known_of in (("fsc_clip", ["mine_contrasts"]), ("negclip", [])):
        planned = orjson.loads(shell("plan", *job(shell, recipe), "--json")[0])["negatives_per_caption"]
        assert (planned["not_known_of"], planned["numbers"]["captions"]) == (not_known_of, 2)


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_selection_counts_its_captions_anew(shell: Shell) -> None:
    shell("curate", *job(shell, "negclip", "--model", "tiny"), "--no-prefect")
    whole = shell.version("toy@1")
    uids = whole.index(["uid"])["uid"].to_pylist()[:3]
    put(shell.root / "uids.txt", "\n".join(uids))
    shell("reshard", "toy@1", "--keep", str(shell.root / "uids.txt"), "--out-name", "few")
    body = shell.version("few@1").manifest.body
    found = CaptionNegatives.of(body["statistics"])
    assert found is not None and found.num_captions == 3 and not found.generators and not found.without
    assert round(found.mean * 3) == body["counts"]["negatives"]
