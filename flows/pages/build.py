"""Builds the self-contained page of a version, a run or a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.run_files import RUN_FILE
from flows.comparison.output import COMPARISON_FILE
from flows.pages.comparison import comparison_lead, comparison_sections, read_comparison
from flows.pages.glossary import glossary_section
from flows.pages.html import SCRIPT, Html, Section, page
from flows.pages.run import Run, evaluations_next_to, read_json, run_lead, run_sections
from flows.pages.sections.results import ResultColumn, results_section
from flows.pages.sections.training_curves import training_curves
from flows.pages.version import version_lead, version_sections


def report_html(
    catalog: Catalog, target: str, *, evaluations: Sequence[ResultColumn] = (), run: Path | None = None, seed: int = 0
) -> str:
    """Return the page of a target.

    Args:
        catalog: Manifests and workspace.
        target: A run's or comparison's folder, or ``NAME@VER``.
        evaluations: Evaluations to show, each under its ``label``.
        run: For a version's page: a run on it, whose curves are shown.
        seed: Seed of everything that is drawn.

    Raises:
        InputError: no such target, or a file of it is missing or damaged.
    """
    folder = Path(target)
    is_comparison, is_run = (folder / COMPARISON_FILE).is_file(), (folder / RUN_FILE).is_file()
    if run is not None and (is_comparison or is_run):
        raise InputError(f"--run {run} with {target}", allowed="--run with NAME@VER", fix="leave --run out")
    if is_comparison:
        if evaluations:
            raise InputError(
                f"--evaluation with {target}",
                allowed="the results of the comparison itself",
                fix="leave --evaluation out",
            )
        document = read_comparison(folder)
        title = f"Comparison {folder.resolve().name}"
        return _whole_page(title, comparison_lead(document), comparison_sections(document, folder, catalog))
    if is_run:
        opened = Run.read(folder)
        known = [*evaluations, *evaluations_next_to(opened)]
        return _whole_page(f"Run {opened.name}", run_lead(opened, known), run_sections(opened, catalog, known))
    if folder.is_dir() and folder.name not in catalog.names():
        allowed = f"a folder with {RUN_FILE} (of train) or {COMPARISON_FILE} (of compare), or NAME@VER"
        raise InputError(f"{target}: neither the folder of a run nor of a comparison", allowed=allowed)
    return version_html(catalog.open(target), catalog, evaluations=evaluations, run=run, seed=seed)


def version_html(
    version: DatasetVersion,
    catalog: Catalog,
    *,
    evaluations: Sequence[ResultColumn] = (),
    run: Path | None = None,
    seed: int = 0,
) -> str:
    """Return a version's page; see `report_html`."""
    record = catalog.manifests / version.manifest.name / f"{version.manifest.version}.run.json"
    run_json = read_json(record) if record.is_file() else None
    log = Run.read(run).log if run else []
    results = [("results", "Results", results_section(evaluations)), ("training", "Training", training_curves(log))]
    sections = version_sections(version, catalog, run_json, results, seed)
    return _whole_page(version.ref, version_lead(version), sections, SCRIPT)


def _whole_page(title: str, lead: Html, sections: Sequence[Section], script: str = "") -> str:
    """Return a page with the words that it uses explained; the record stays last."""
    body = [section for section in sections if section[0] != "record"]
    record = [section for section in sections if section[0] == "record"]
    return page(title, lead, [*body, glossary_section(lead, sections), *record], script)
