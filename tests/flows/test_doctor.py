"""`clipcurate doctor` prints each line as soon as its check is done."""

from __future__ import annotations

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
    assert not doctor.examine(Path(), as_json=False)
    assert "second: missing gone [x]" in capsys.readouterr().out
