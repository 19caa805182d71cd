"""Data cards: all of them from the manifest, the same for the same version, and nothing of a stranger's believed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from curation.stages.hygiene.check_images import CheckImages
from data_manifests.data_card import card_path, card_text
from data_manifests.manifest import Manifest
from flows.cli.app import app
from flows.execution.run_record import write_run_record
from tests.data_manifests.built_versions import build, picture

HOSTILE = "evil|name`\n# owned <script>alert(1)</script> [x](http://evil.example) \x1b[31m"


def sealed(manifest: Manifest, **changes: Any) -> Manifest:
    return Manifest.seal({key: value for key, value in manifest.body.items() if key != "fingerprint"} | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return build(tmp_path_factory.mktemp("card"), "drawn", [picture(number) for number in range(12)]).manifest


def tables(card: str) -> dict[str, list[list[str]]]:
    """Return the rows of a card's tables by heading, and check that every row has its table's columns."""
    found: dict[str, list[list[str]]] = {}
    heading, width = "", 0
    for line in card.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if cells and width:
            assert len(cells) == width, line
            found.setdefault(heading, []).append(cells)
        width = len(cells)
    return found


def test_numbers_are_the_manifests(made: Manifest) -> None:
    card = card_text(made.body)
    found = tables(card)
    holds = {row[0]: row[1] for row in found["What it holds"]}
    assert (holds["samples"], holds["captions"], holds["negatives"]) == ("12", "24", "12")
    assert holds["words of a caption: mean, least, most"] == "6.0, 6, 6"
    assert holds["replace adjective"] == "12" and holds["split train"] == "12"
    assert [row[0] for row in found["How it was made"][1:]] == [f"`check_images` /{CheckImages.version}", "`given` /1"]
    assert "strength = 1.0" in card and made.fingerprint in card
    assert "CC0-1.0" in card and "clipcurate curate test --source folder:PATH --name drawn" in card
    assert "Negatives were not checked" in card and "Near-duplicates were not looked for" in card


def test_the_same_version_has_the_same_card(made: Manifest, tmp_path: Path) -> None:
    turned = {key: made.body[key] for key in reversed(list(made.body))}
    turned["stages"] = [{**stage, "config": {**stage["config"], "list": (1, 2)}} for stage in turned["stages"]]
    Manifest(turned).save(tmp_path / "1.0.0.json")
    assert "list = \\[1, 2\\]" in card_text(turned)
    assert card_text(orjson.loads((tmp_path / "1.0.0.json").read_bytes())) == card_text(turned)


def test_resources_their_licences_and_what_was_found_are_told(made: Manifest) -> None:
    graph = {"name": "some graph", "hash": "ab" * 16, "licences": ["CC-BY-SA-4.0", "cc0"]}
    stage = {**made.body["stages"][1], "resources": {"graph": graph, "other": {"name": "none", "hash": "cd" * 16}}}
    quality = {
        "blind_accuracy": {"words": {"num": 9, "overall": 0.525, "swap noun": 0.4}, "features": {"overall": 0.5}},
        "balance_attributes": {"share": {"gender": {"before": 0.3, "after": 0.5}}},
    }
    counts = made.body["counts"] | {"dropped": {"forget": {"forgotten": 3}}, "rejected": {"gate": {"unlike": 1234}}}
    body = sealed(
        made, stages=[stage], statistics=made.body["statistics"] | {"quality": quality}, counts=counts,
        parent={"name": "other", "version": "2.0.0", "fingerprint": "ef" * 16},
    ).body  # fmt: skip
    found = tables(card_text(body))
    assert ["some graph (`abababababab`)", "CC-BY-SA-4.0, cc0", "`given`"] in found["Sources and licences"]
    assert "cdcdcdcdcdcd" not in card_text(body), "what a stage could have used and did not"
    assert found["Quality"][:3] == [["overall", "50.0", "52.5"], ["swap noun", "", "40.0"]] or found["Quality"][
        1:3
    ] == [
        ["overall", "50.0", "52.5"],
        ["swap noun", "", "40.0"],
    ]
    assert ["`balance_attributes`", "share, gender, after", "0.5"] in found["Quality"]
    assert ["gate", "unlike", "1,234"] in found["What was left out"]
    assert "`other@2.0.0`" in card_text(body) and "`clipcurate reshard` or `forget`" in card_text(body)


def test_a_source_cannot_write_into_the_card(made: Manifest) -> None:
    body = sealed(made, source={"kind": "folder", "name": HOSTILE, "licence": HOSTILE, "split": None}).body
    card = card_text(body)
    tables(card)
    assert "<script" not in card and "\x1b" not in card and "\n# owned" not in card
    assert r"\[x\](http" in card


def test_versions_made_before_something_was_counted_have_a_card(made: Manifest) -> None:
    names = ("records", "samples", "captions", "negatives", "dropped")
    counts = {name: made.body["counts"][name] for name in names}
    assert "| views | 0 |" in card_text(sealed(made, counts=counts, statistics={}).body)


def test_the_card_lies_beside_the_manifest_and_the_command_prints_it(tmp_path: Path) -> None:
    version = build(tmp_path, "drawn", [picture(1), picture(2)])
    from data_manifests.manifest import Catalog

    catalog = Catalog(tmp_path / "manifests", tmp_path)
    write_run_record(catalog, version.manifest, {"seconds": {}})
    written = card_path(catalog.manifest_path("drawn", "1.0.0"))
    assert written.name == "1.0.0.card.md" and catalog.versions("drawn") == ["1.0.0"]
    record = orjson.loads((written.parent / "1.0.0.run.json").read_bytes())
    assert record["finished"] not in written.read_text(encoding="utf-8"), "no clock"
    places = ["--workspace", str(tmp_path), "--manifests", str(catalog.manifests)]
    printed = CliRunner().invoke(app, [*places, "card", "drawn@1"])
    assert printed.exit_code == 0
    assert printed.stdout == written.read_text(encoding="utf-8") == card_text(version.manifest.body)
