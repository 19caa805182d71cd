"""`clipcurate doctor` prints each line as soon as its check is done."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from flows.cli import doctor


def test_a_line_is_printed_before_the_next_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def second(_: Path) -> str:
        assert "first: ok 1" in capsys.readouterr().out
        raise OSError("gone [x]")

    monkeypatch.setattr(doctor, "_CHECKS", (("first", True, lambda _: "1"), ("second", True, second)))
    assert not doctor.examine(Path(), "none", as_json=False)
    assert "second: missing gone [x]" in capsys.readouterr().out


def test_slow_checks_run_in_children(tmp_path: Path) -> None:
    passed, found = doctor._run_child("spaCy parser", tmp_path)
    assert passed and "spaCy" in found
    assert doctor._run_child("no such check", tmp_path) == (False, "StopIteration")


def test_torchvision_of_another_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["numpy", "torch ==1.0.0"])
    passed, found = doctor.run_check("torch and open_clip", tmp_path)
    assert not passed and "torch==1.0.0 with this torchvision" in found
