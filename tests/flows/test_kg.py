"""``clipcurate kg``: compile, look, and be told what is wrong."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from flows.cli.main import main

SEED = str(files("curation.knowledge") / "seed.csv")


class Shell:
    """Runs a command; keeps what it printed."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capsys = patch, capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        self._patch.setattr(sys, "argv", ["clipcurate", "kg", *words])
        with pytest.raises(SystemExit) as left:
            main()
        printed = self._capsys.readouterr()
        self.err = printed.err
        assert (left.value.code or 0) == code, printed.err
        return printed.out


@pytest.fixture
def kg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


def test_build_and_info(kg: Shell, tmp_path: Path) -> None:
    store = str(tmp_path / "seed.graph")
    built = json.loads(kg("build", "--out", store, "--assertions", SEED, "--json"))
    assert (built["store"], built["inputs"][0]["malformed"]) == ("seed.graph", 0)
    assert built["edges"] == built["inputs"][0]["kept"] == sum(built["relations"].values())
    assert built["bytes"] == (tmp_path / "seed.graph").stat().st_size
    looked = json.loads(kg("info", store, "dog", "unicorn", "--json"))
    assert looked["content_hash"] == built["content_hash"]
    assert looked["edges_of"]["unicorn"] == {"from": [], "to": []}
    animal = next(edge for edge in looked["edges_of"]["dog"]["from"] if edge["tail"] == "animal")
    assert (animal["uri"], animal["license"]) == ("/a/[/r/IsA/,/c/en/dog/,/c/en/animal/]", "cc0")
    # What ships and what is compiled from the same file are the same graph.
    assert json.loads(kg("info", "seed", "--json"))["content_hash"] == built["content_hash"]
    shown = kg("info", store, "Hot_Dog", "unicorn")
    for part in ("hot dog", "'unicorn' is not in the graph", "IsA", "cc0", built["content_hash"]):
        assert part in shown


def test_several_inputs_and_filters(kg: Shell, tmp_path: Path) -> None:
    facts = tmp_path / "facts.csv"
    facts.write_text("head,relation,tail\nheron,IsA,bird\nheron,Eats,fish\nheron,IsA\n")
    words = ("build", "--out", str(tmp_path / "a"), "--assertions", SEED, "--triples", str(facts), "--license", "cc0")
    shown = kg(*words, "--relations", "IsA,UsedFor", "--relations", "Synonym")
    assert "facts.csv: line 4: 2 columns, not 3" in kg.err
    assert "facts.csv" in shown
    built = json.loads(kg(*words, "--relations", "IsA", "--min-weight", "1", "--json"))
    assert built["relations"].keys() == {"IsA"}
    assert {"dataset": "/d/triples/facts", "license": "cc0", "edges": 1} in built["sources"]


def test_what_cannot_be_used_is_said_with_exit_code_2(kg: Shell, tmp_path: Path) -> None:
    out = str(tmp_path / "x")
    for words, said in [
        (("build", "--out", out), "nothing to compile"),
        (("build", "--out", out, "--assertions", str(tmp_path / "absent.csv")), "no such file"),
        (("build", "--out", out, "--assertions", SEED, "--languages", "en,de"), "one language"),
        (("build", "--out", out, "--assertions", SEED, "--relations", "IsA,Isa"), "did you mean 'IsA'"),
        (("build", "--out", out, "--visual-genome", str(tmp_path)), "neither relationships.json"),
        (("build", "--out", out, "--conceptnet-lite", SEED), "not conceptnet-lite's database"),
        (("build", "--out", SEED, "--assertions", SEED), "not a graph store"),
        (("info", str(tmp_path / "absent")), "kg build"),
        (("info", SEED), "kg build"),
    ]:
        kg(*words, code=2)
        assert said in kg.err, words
        assert "next:" in kg.err or "allowed:" in kg.err
    assert list(tmp_path.iterdir()) == []
