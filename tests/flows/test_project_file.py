"""`clipcurate.toml` and ``CLIPCURATE_...`` variables: what they set, in which order, and what errors name."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from data_manifests.errors import InputError
from flows.cli.app import app
from flows.cli.main import main
from flows.project_file import (
    COUNT,
    OPTIONS,
    SOURCE,
    SWITCH,
    TABLE,
    TEXT,
    TEXTS,
    ProjectFile,
    ValueKind,
    find_project,
    variable,
)

ANOTHER_MEANING = {("llm serve", "model"), ("vocabulary suggest", "llm")}
"""Options that are called like one of all commands and mean something else."""

A_VALUE: Mapping[ValueKind, tuple[str, Any, str]] = {
    kind: found
    for key, kind in OPTIONS.items()
    for found in [
        ('["folder:a"]', ["folder:a"], "folder:b")
        if "KIND:PATH" in kind.words and kind.words.startswith("texts")
        else ("true", True, "1")
        if kind is SWITCH
        else ('"one"', "one", "two")
        if "quotes" in kind.words
        else ("3", 3, "4")
    ]
}
"""Kind -> a value as the file writes it, as it is read, and another as a variable has it."""


def write(folder: Path, text: str) -> Path:
    path = folder / "clipcurate.toml"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@functools.cache
def everything() -> Any:
    return typer.main.get_command(app)


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name.strip(), command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


def taken(words: list[str], key: str) -> dict[str, Any]:
    """Return what the options of a command are; what it requires besides `key` is made up."""
    root: Any = everything()
    context, command = root.make_context("clipcurate", ["--verbose", *words]), root
    found = dict(context.params)
    for word in words:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
            needed = [item for item in command.params if item.required and item.name != key]
            more = [text for item in needed for text in ([item.opts[0]] if "-" in item.opts[0] else []) + ["x"]]
            rest = words[words.index(word) + 1 :]
            context = command.make_context(word, [*rest, *more], parent=context)
            found |= context.params
    return found


def places() -> Iterator[tuple[str, str, Any]]:
    """Yield (command, key, parameter) of every option that file and variables may set."""
    names = {variable(key): key for key in OPTIONS}
    for name, command in commands(everything()):
        yield from ((name, names[item.envvar], item) for item in command.params if item.envvar in names)


def test_options_that_commands_share_can_be_set_once_for_all() -> None:
    set_once = {(name, key) for name, key, _ in places()}
    assert {key for _, key in set_once} == set(OPTIONS)
    for name, command in commands(everything()):
        named = {item.opts[0].removeprefix("--").replace("-", "_") for item in command.params if "--" in item.opts[0]}
        assert {(name, key) for key in named & set(OPTIONS)} - ANOTHER_MEANING <= set_once


@pytest.mark.parametrize(("name", "key", "item"), [*places()], ids=str)
def test_command_line_before_variable_before_file_before_default(
    name: str, key: str, item: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written, read, other = A_VALUE[OPTIONS[key]]
    words = name.split()
    default = taken(words, key)[item.name] if key != "model" else None  # train requires a model
    write(tmp_path, f"{key} = {written}\n")
    from_file = taken(words, key)[item.name]
    assert from_file == OPTIONS[key].resolve(tmp_path, read) or str(from_file) == str(tmp_path / str(read))
    monkeypatch.setenv(variable(key), other)
    from_variable = taken(words, key)[item.name]
    monkeypatch.setenv(variable(key), "")
    assert taken(words, key)[item.name] == from_file, "an empty variable is none"
    if OPTIONS[key] is SWITCH:
        return
    assert len({str(value) for value in (default, from_file, from_variable)}) == 3
    monkeypatch.setenv(variable(key), other)
    given = [item.opts[0], "7" if written == "3" else "word"]
    line = taken([*given, *words] if not name else [*words, *given], key)[item.name]
    assert str(line) in {"7", "7.0", "word", "['word']"}


def test_the_nearest_file_above_is_found_and_its_paths_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "project" / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_project() is None
    for folder in ("base", "photos", "other"):
        (tmp_path / "project" / folder).mkdir()
    (tmp_path / "project" / "graph.store").touch()
    path = write(
        tmp_path / "project",
        'workspace = "ws"\nmodel = "./base"\ngraph = "graph.store"\nmasked_model = "base"\nllm = "http://h:1/v1#m"\n'
        'against = ["folder:photos#test", "coco:new.json?images=other&caption=x", "scenes:12", "folder:photos::other"]\n',
    )
    found = find_project()
    assert found is not None
    assert found.path == path
    root = tmp_path / "project"
    assert found.options == {
        "workspace": str(root / "ws"),
        "model": str(root / "./base"),
        "graph": str(root / "graph.store"),
        "masked_model": "base",
        "llm": "http://h:1/v1#m",
        "against": [
            f"folder:{root}/photos#test",
            f"coco:new.json?images={root}/other&caption=x",
            "scenes:12",
            f"folder:{root}/photos::{root}/other",
        ],
    }
    write(tmp_path / "project" / "a", "")
    nearer = find_project()
    assert nearer is not None
    assert nearer.path.parent.name == "a"


LAYOUTS = {
    "first": ("{key} = {value}\n", 1),
    "after comments": ("# one\n\n  # {key} = 1\n{key} = {value}\n", 4),
    "after a long value": ('language = """\nen\n{key} = 1\n"""\nwait = 1\n{key} = {value}', 6),
    "spaces and quotes": ('wait = 2\n  "{key}"   =   {value}  # why\n', 2),
    "windows": ("wait = 2\r\n\r\n{key} = {value}\r\n", 3),
    "odd line separators in a comment": ("# a\u2028b\u0085\nbands = 1\n{key} = {value}\n", 3),
    "over several lines": ("wait = 2\n{key} = [\n  {value},\n]\nbands = 1\n", 2),
}


@pytest.mark.parametrize(("layout", "key"), [*itertools.product(LAYOUTS, ["workers", "wrokers", "model", "against"])])
def test_errors_name_file_line_and_key(layout: str, key: str, tmp_path: Path) -> None:
    form, line = LAYOUTS[layout]
    path = write(tmp_path, form.format(key=key, value="true" if "[" not in form else "[true]"))
    with pytest.raises(InputError) as caught:
        ProjectFile.open(path)
    assert caught.value.got.startswith(f"{path}, line {line}, {key}: ")
    if key == "wrokers":
        assert caught.value.fix == "did you mean 'workers'?"
        assert caught.value.allowed == ", ".join([*OPTIONS, "deployments"])
    else:
        assert caught.value.allowed == OPTIONS[key].words


def wrong_values() -> Iterator[tuple[str, str]]:
    forms = {
        '"text"': "quotes",
        "3": "number",
        "true": "true",
        '["a"]': "texts",
        "0.5": "a number",
        "-1": "never",
        "{}": "never",
    }
    for (key, kind), (value, fits) in itertools.product(OPTIONS.items(), forms.items()):
        matches = fits in kind.words and not (value == '"text"' and "texts" in kind.words)
        if not matches:
            yield key, value


@pytest.mark.parametrize(("key", "value"), [*wrong_values(), ("shard_mb", "0"), ("model", '" "'), ("workers", "nan")])
def test_values_of_another_type_are_refused(key: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clipcurate.toml, line 1, ") as caught:
        ProjectFile.open(write(tmp_path, f"{key} = {value}"))
    assert caught.value.allowed == OPTIONS[key].words


def test_tables_are_read_by_the_parts_that_they_are_for(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    text = (
        '[deployments.nightly]\nsource = "folder:photos"\ntags = ["a"]\n\n'
        '[deployments.nightly.parameters]\nlimit = 0\n\n["deployments"."a b"]\ncorn = "x"\n'
    )
    project = ProjectFile.open(write(tmp_path, text))
    assert project.options == {}
    tables = project.tables("deployments")
    assert list(tables) == ["nightly", "a b"]
    kinds = {"source": SOURCE, "tags": TEXTS, "parameters": TABLE, "cron": TEXT}
    assert tables["nightly"].read(kinds) == {
        "source": f"folder:{tmp_path}/photos", "tags": ["a"], "parameters": {"limit": 0}
    }  # fmt: skip
    path = tmp_path / "clipcurate.toml"
    for read, message in (
        (
            lambda: tables["nightly"].table("parameters").read({"limit": COUNT}),
            "line 6, deployments.nightly.parameters.limit: got 0",
        ),
        (lambda: tables["a b"].read(kinds), "line 9, deployments.a b.corn: there is no such key"),
        (lambda: tables["nightly"].read(kinds, required=("cron",)), "line 1, deployments.nightly: 'cron' is missing"),
        (lambda: tables["nightly"].table("source"), "line 2, deployments.nightly.source: got 'folder:photos'"),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert caught.value.got == f"{path}, {message}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"workers = \n", "not TOML: Invalid value (at line 1, column 11)"),
        (b"\xff\xfe", "cannot be read"),
        (b"workers = 1\nworkers = 2\n", "line 2"),
        (b"a = [\n\n", "at line 1, the end"),
        (b"#" * 300_000, "300,000 bytes"),
        (b"deployments = 3", "line 1, deployments: got 3"),
    ],
)
def test_a_file_that_cannot_be_used_ends_every_command(
    data: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clipcurate.toml").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "versions", "toy") == 2
    printed = capsys.readouterr().err
    assert f"error: {tmp_path}/clipcurate.toml" in printed
    assert said in printed
    assert run(monkeypatch, "versions", "--help") == 0, "help needs no file"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["clipcurate", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_verbose_and_errors_say_where_a_setting_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = write(tmp_path, 'language = "xx"\nllm = "http://me:secret@host/v1#m"\nverbose = true\n')
    monkeypatch.chdir(tmp_path)
    job = ("curate", "clip", "--source", "scenes:4", "--name", "toy", "--no-prefect")
    assert run(monkeypatch, *job) == 2
    said = capsys.readouterr().err
    assert f"settings: {path}\n  language = xx (line 1)\n  llm = http://...@host/v1#m (line 2)" in said
    assert f"set in:  {path}, line 1 (--language)" in said
    monkeypatch.setenv("CLIPCURATE_LANGUAGE", "yy")
    monkeypatch.setenv("CLIPCURATE_WORKSPCE", "w")
    monkeypatch.setenv("CLIPCURATE_SERVICE_HOST", "10.0.0.1")  # as Kubernetes sets for a service of that name
    assert run(monkeypatch, *job) == 2
    said = capsys.readouterr().err
    assert "language = xx (line 1; CLIPCURATE_LANGUAGE goes before it)" in said
    assert "set in:  CLIPCURATE_LANGUAGE (--language)" in said
    assert "CLIPCURATE_WORKSPCE is no variable that is known; did you mean CLIPCURATE_WORKSPACE?" in said
    assert "SERVICE_HOST" not in said
    assert run(monkeypatch, *job, "--language", "zz") == 2
    assert "set in:" not in capsys.readouterr().err
    assert run(monkeypatch, "--config", str(tmp_path / "none.toml"), *job) == 2
    assert "--config" in capsys.readouterr().err


def test_a_comparison_records_what_was_set_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.cli.settings import command_text

    write(tmp_path, 'workspace = "ws"\nworkers = 3\nverbose = true\nprefect = false\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPCURATE_AGAINST", "scenes:4 scenes:5")
    words = ["compare", "clip", "--bands", "2"]
    monkeypatch.setattr(sys, "argv", ["clipcurate", "compare", "clip"])
    root: Any = everything()
    above = root.make_context("clipcurate", words[:1])
    context = root.commands["compare"].make_context("compare", ["clip"], parent=above)
    assert command_text(context) == (
        f"clipcurate --workspace {tmp_path}/ws --verbose compare clip --against scenes:4 --against scenes:5 --workers 3 --no-prefect"
    )


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.metadata

    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"clipcurate {importlib.metadata.version('clipcurate')}\n"
