"""`--language`: what is left out, said, recorded and shown; languages and recipes that do not go together."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from flows.recipe import RecipeInputs, load_recipe
from tests.flows.test_contrasts import run

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:.*weights are random")


def test_a_version_in_german(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["--source", "scenes:30@5?level=1&language=de", "--name", "toy", "--no-prefect", "--workers", "1"]
    code, _, notes = run(capsys, tmp_path, "curate", "ahnm", *given, "--language", "de", "--model", "tiny")
    notes = " ".join(notes.split())
    assert code == 0
    assert "captions in German (de), tokenizer for de" in notes
    assert "left out, because they know English only: link_concepts" in notes and "swap_words" in notes
    assert "warning: the captions" not in notes
    body = orjson.loads(run(capsys, tmp_path, "show", "toy@1", "--json")[1])
    assert body["recipe"]["language"] == "German (de)"
    assert "replace_words" in body["recipe"]["left_out"]
    assert body["counts"]["negatives"] > 0
    mine = next(stage for stage in body["stages"] if stage["name"] == "mine_contrasts")
    assert mine["resources"]["language"]["name"] == "German (de)"
    text = run(capsys, tmp_path, "show", "toy@1")[1]
    assert "language: German (de); left out" in " ".join(text.split())
    again = ["--language", "de", "--model", "tiny", "--json"]
    assert not orjson.loads(run(capsys, tmp_path, "curate", "ahnm", *given, *again)[1])["created"]


def test_captions_in_another_language_are_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["--source", "scenes:30@5?level=1&language=zh", "--name", "toy", "--no-prefect", "--workers", "1"]
    code, _, notes = run(capsys, tmp_path, "plan", "contrasts", *given[:4])
    assert code == 0
    assert "warning: the captions do not look like English (en)" in " ".join(notes.split())
    code, _, notes = run(capsys, tmp_path, "plan", "clip", *given[:4])
    assert code == 0 and "warning: the captions" not in " ".join(notes.split())


def test_what_does_not_go_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["--source", "scenes:30@5?level=1&language=zh", "--name", "toy"]
    code, _, message = run(capsys, tmp_path, "plan", "negclip", *given, "--language", "zh")
    assert code == 2 and "swap_words" in message and "contrasts" in message
    code, _, message = run(capsys, tmp_path, "plan", "clip", *given, "--language", "xx")
    assert code == 2 and "no such language is known" in message and "zh Chinese" in message
    code, _, message = run(capsys, tmp_path, "evaluate", "tiny", "--on", "scenes:30@5?language=zh")
    assert code == 2 and "foils are English" in message


def test_recipes_in_a_language() -> None:
    english = load_recipe("ahnm", RecipeInputs(model="tiny"))
    german = load_recipe("ahnm", RecipeInputs(model="tiny", language="de"))
    assert not english.left_out and english.language.code == "en"
    assert not any(stage.knows_only_english for stage in german.stages)
    gate = next(stage for stage in german.stages if isinstance(stage, FindFalseNegatives))
    assert gate.fields == ("mined_negatives",) and gate.graph is None
    both = [next(one for one in recipe.stages if isinstance(one, ParseCaptions)) for recipe in (english, german)]
    assert both[0].fingerprint() != both[1].fingerprint()
    m4 = load_recipe("m4", RecipeInputs(language="fr"))
    assert m4.left_out == ("tag_attributes", "balance_attributes")
