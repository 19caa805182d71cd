"""Python's functions take what a call leaves out from variables and `clipcurate.toml`, in the order of the command line."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import pytest

import clipcurate
from flows.api.settings import with_settings
from flows.project_file import OPTIONS, variable


@with_settings
def told(
    name: str, *, workers: int = 7, wait: float = 0.5, language: str = "en", against: Any = (), limit: int = 3
) -> dict[str, Any]:
    if language == "xx":
        raise clipcurate.InputError(f"language {language}")
    return {"name": name, "workers": workers, "wait": wait, "language": language, "against": against, "limit": limit}


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key in OPTIONS:
        monkeypatch.delenv(variable(key), raising=False)


def test_the_call_goes_before_variables_and_these_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("a") == {"name": "a", "workers": 7, "wait": 0.5, "language": "en", "against": (), "limit": 3}
    Path("clipcurate.toml").write_text('workers = 2\nwait = 4\nlanguage = "de"\nagainst = ["scenes:3"]\n')
    assert told("a") == {"name": "a", "workers": 2, "wait": 4, "language": "de", "against": ["scenes:3"], "limit": 3}
    for key, text in {"workers": "5", "wait": "0.25", "against": "scenes:4 scenes:5", "language": ""}.items():
        monkeypatch.setenv(variable(key), text)
    monkeypatch.setenv("CLIPCURATE_LIMIT", "9")  # what a version holds hangs on no variable
    assert told("a", wait=0.5) == {
        "name": "a", "workers": 5, "wait": 0.5, "language": "de", "against": ["scenes:4", "scenes:5"], "limit": 3
    }  # fmt: skip
    assert told("a", workers=7)["workers"] == 7, "a default that the call says counts as said"


def test_another_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("workers = 3")
    monkeypatch.setenv("CLIPCURATE_CONFIG", "other.toml")
    assert told("a")["workers"] == 3
    monkeypatch.setenv("CLIPCURATE_CONFIG", "missing.toml")
    with pytest.raises(clipcurate.InputError, match=r"CLIPCURATE_CONFIG=missing\.toml: there is no such file"):
        told("a")


@pytest.mark.parametrize(("key", "text"), [("workers", "many"), ("workers", "-1"), ("workers", "1.5"), ("wait", "-2")])
def test_a_variable_that_does_not_fit_is_named(key: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(key), text)
    with pytest.raises(clipcurate.InputError, match=f"{variable(key)}='{text}'") as caught:
        told("a")
    assert caught.value.allowed == OPTIONS[key].words


def test_an_error_about_a_value_says_where_it_was_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("clipcurate.toml").write_text('# of the project\nlanguage = "xx"\n')
    monkeypatch.setenv("CLIPCURATE_WORKER", "3")
    with caplog.at_level(logging.WARNING, "clipcurate"), pytest.raises(clipcurate.InputError) as caught:
        told("a")
    assert caught.value.__notes__ == [f"set in: {Path('clipcurate.toml').absolute()}, line 2 (language)"]
    assert "CLIPCURATE_WORKER is no variable that is known; did you mean CLIPCURATE_WORKERS?" in caplog.text


def test_every_function_that_has_such_an_argument_reads_it(tmp_path: Path) -> None:
    functions = [getattr(clipcurate, name) for name in clipcurate.__all__ if name.islower()]
    reading = [function for function in functions if "workspace" in inspect.signature(function).parameters]
    assert len(reading) >= 6 and all(hasattr(function, "__wrapped__") for function in reading)
    Path("clipcurate.toml").write_text('workspace = "ws"\nmanifests = "ms"\nworkers = 1\n')
    (tmp_path / "below").mkdir()
    made = clipcurate.curate("clip", "scenes:4@1", "toy")
    assert made.created and (tmp_path / "ws").is_dir() and not (tmp_path / "workspace").exists()
    assert len(clipcurate.open_version("toy")) == 4
    assert clipcurate.diff("toy@1", "toy@1").is_empty
    with pytest.raises(clipcurate.InputError, match="toy"):
        clipcurate.open_version("toy", manifests="elsewhere")
