"""The sections of a run's page: results next to it, curves, feedback on negatives, lineage, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.run_files import DONE_FILE, LOG_FILE, RUN_FILE
from flows.evaluation.intervals import with_intervals
from flows.pages.html import Html, Section, details, join, note, table, tag, tiles
from flows.pages.sections.base_changes import changed_cases, headline, pair_with_base
from flows.pages.sections.feedback import feedback_section
from flows.pages.sections.lineage import LineageStep, lineage_list, parents_of, version_steps
from flows.pages.sections.results import ResultColumn, results_section
from flows.pages.sections.training_curves import Log, training_curves
from training.evaluate import small_files

_PARTS = ("manifest", "model", "recipe", "config")
_MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Run:
    """A run, read from its folder.

    Attributes:
        folder: Its folder.
        identity: run.json: recipe, config, model, manifest, plan.
        done: done.json; None for a run that has not finished.
        log: One record for each step.
    """

    folder: Path
    identity: Mapping[str, Any]
    done: Mapping[str, Any] | None
    log: Log

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run's folder.

        Raises:
            InputError: no run is there, or a file of it is damaged.
        """
        if not (folder / RUN_FILE).is_file():
            raise InputError(f"{folder} holds no {RUN_FILE}", allowed="a folder that clipcurate train wrote")
        identity = read_json(folder / RUN_FILE)
        if lacking := [part for part in _PARTS if not isinstance(identity.get(part), dict)]:
            raise InputError(f"{folder / RUN_FILE}: no {lacking[0]!r}", allowed=f"objects {', '.join(_PARTS)}")
        done = read_json(folder / DONE_FILE) if (folder / DONE_FILE).is_file() else None
        return cls(folder, identity, done, read_log(folder / LOG_FILE, fix="train again"))

    @property
    def ref(self) -> str:
        """The version it was trained on."""
        manifest = self.identity["manifest"]
        return f"{manifest['name']}@{manifest['version']}"

    @property
    def base_hash(self) -> str:
        """Hash of the model that it started from."""
        return str(self.identity["model"].get("hash"))

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.resolve().name

    def version(self, catalog: Catalog) -> DatasetVersion | None:
        """Return the version it was trained on, if its manifest and shards are in the catalog."""
        try:
            version = catalog.open(self.ref)
        except InputError:
            return None
        return version if version.manifest.fingerprint == self.identity["manifest"]["fingerprint"] else None


def run_sections(run: Run, catalog: Catalog, evaluations: Sequence[ResultColumn]) -> list[Section]:
    """Return a run's sections.

    Args:
        run: The run.
        catalog: Manifests and workspace with the version it was trained on.
        evaluations: Evaluations of the run and of its base.

    Raises:
        InputError: a file of the run or of its version is damaged.
    """
    version = run.version(catalog)
    return [
        ("training", "Training", training_curves(run.log)),
        ("cases", "Now right, now wrong", changed_cases(pair_with_base(evaluations, run.base_hash), catalog)),
        ("results", "Results", results_section(evaluations)),
        ("negatives", "Feedback on negatives", feedback_section(run.folder, version)),
        ("lineage", "How it was made", _lineage(run, catalog, version)),
        ("record", "Record", details("Hashes, versions and settings", _record(run))),
    ]


def run_lead(run: Run, evaluations: Sequence[ResultColumn]) -> Html:
    """Return the content above a run's sections: the headline first."""
    recipe, model = run.identity["recipe"], run.identity["model"]
    lines = [
        headline(pair_with_base(evaluations, run.base_hash)),
        tag("p", f"Recipe {recipe.get('recipe')} on {run.ref}, from {model['spec']}."),
        note("Finished." if run.done else "Not finished: the numbers so far."),
    ]
    config, last = run.identity["config"], run.log[-1] if run.log else {}
    shown = [
        (f"{len(run.log):,} of {config.get('steps', '?'):,}", "steps"),
        (f"{config.get('batch_size', 0):,}", "samples a step"),
        (_number(last.get("loss")), "last loss"),
        (config.get("tune", "?"), "tuned"),
    ]
    return join([*lines, tiles(shown)])


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:,.4g}"


def _lineage(run: Run, catalog: Catalog, version: DatasetVersion | None) -> Html:
    manifest = version.manifest if version else _manifest(run, catalog)
    model, recipe = run.identity["model"], run.identity["recipe"].get("recipe")
    steps = [LineageStep(run.ref)]
    if manifest:
        steps = version_steps(manifest.body, parents_of(catalog, manifest), here=False)
    steps.append(
        LineageStep(f"run {run.name}", f"recipe {recipe}, {len(run.log)} steps", [model["spec"]], is_here=True)
    )
    return lineage_list(steps, f"How {run.name} was made, from its source down")


def _manifest(run: Run, catalog: Catalog) -> Manifest | None:
    manifest = run.identity["manifest"]
    path = catalog.manifest_path(manifest["name"], manifest["version"])
    return Manifest.load(path) if path.is_file() else None


def _record(run: Run) -> Html:
    """Return what identifies the run, and its settings."""
    facts = [("manifest", run.identity["manifest"]["fingerprint"]), ("base model", run.identity["model"]["hash"])]
    facts += [("weights", run.done["weights_hash"])] if run.done else []
    facts.append(("seconds in steps", _number(sum(line.get("step_s", 0.0) for line in run.log))))
    parts = [tag("div", table(("what", "value"), ((name, tag("code", value)) for name, value in facts)))]
    for part in ("recipe", "config", "plan", "versions"):
        heading, rows = {"versions": "packages"}.get(part, part), _leaves(run.identity.get(part) or {})
        parts.append(tag("div", tag("h3", heading), table((part, "value"), rows)))
    return tag("div", *parts, class_="charts")


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping | list):
        yield prefix, str(value)
        return
    for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _leaves(item, f"{prefix}.{name}" if prefix else str(name))


def evaluations_next_to(run: Run) -> list[ResultColumn]:
    """Return the evaluations in JSON files of a run's folder and next to it: its own, and before them its base's on the same.

    Next to it, files are the run's whose names begin with its name. Other JSON files are skipped.
    """
    folder = run.folder.resolve()
    base: list[ResultColumn] = []
    own: list[ResultColumn] = []
    for path in [*sorted(folder.glob("*.json")), *sorted(folder.parent.glob("*.json"))]:
        if path.stat().st_size <= _MAX_FILE_BYTES:
            try:
                document = read_json(path)
            except InputError:
                continue  # some other file
            if document.get("hash") == run.base_hash:
                base += results_of(document, path)
            elif path.parent == folder or folder.name == "run" or _is_of(path, folder.name):
                own += results_of(document, path)
    shared = {item["on"] for item in own}
    return [*(item for item in base if item["on"] in shared), *own]


def _is_of(path: Path, name: str) -> bool:
    return path.stem == name or path.stem.startswith((f"{name}-", f"{name}."))


def read_results(path: Path) -> list[ResultColumn]:
    """Return the results in a file of ``evaluate --json``, labelled with the file's name.

    Raises:
        InputError: no such file, or no results in it.
    """
    found = results_of(read_json(path), path)
    if not found:
        raise InputError(f"{path} holds no results", allowed="a file that clipcurate evaluate --json wrote")
    return found


def results_of(document: Mapping[str, Any], path: Path) -> list[ResultColumn]:
    """Return the results in a document, of one benchmark or several; none if it is something else.

    They are labelled with the file's name (and the share, between two models), and have intervals if a Parquet file of the
    same name holds their cases.
    """
    listed = document.get("results", [document])
    if not isinstance(listed, list):
        return []
    results = [
        item for item in listed if isinstance(item, dict) and isinstance(item.get("metrics"), dict) and "on" in item
    ]
    cases = path.with_suffix(".parquet")
    about = {name: document.get(name) for name in ("hash", "split", "limit")}
    base = document.get("base")
    about |= {"base_hash": base.get("hash") if isinstance(base, Mapping) else None, "cases": cases}
    return [
        {
            **about,
            **with_intervals(item, cases),
            "label": f"{path.stem} {item['share']:g}" if "share" in item else path.stem,
        }
        for item in results
    ]


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        InputError: the file is missing, or holds something else.
    """
    document = small_files.read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path}: JSON of type {type(document).__name__}", allowed="an object")
    return document


def read_log(path: Path, fix: str) -> Log:
    """Return the steps in a run's log.

    Raises:
        InputError: a line is not JSON; `fix` says what to do.
    """
    from training.log import read_lines

    try:
        return read_lines(path)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON lines: {error.msg}", fix=fix) from None
