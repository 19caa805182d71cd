"""The model card of an exported run, in Markdown: what it is, what it was made from, results with intervals, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_manifests.data_card import licence_table, limits_of
from data_manifests.manifest import Catalog, Manifest
from data_manifests.markdown import code, markdown_table, papers, plain
from flows.pages.run import Run
from flows.pages.sections.results import (
    ResultColumn,
    benchmark_name,
    flat_metrics,
    measured,
    metric_name,
    shown_value,
)

_LIBRARIES = {"open_clip": "open_clip", "hf": "transformers", "adapter": "peft"}
_USE: Mapping[str, str] = {
    "open_clip": """import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")""",
    "hf": """from transformers import CLIPModel, CLIPProcessor

model = CLIPModel.from_pretrained("FOLDER")
processor = CLIPProcessor.from_pretrained("FOLDER")""",
    "adapter": """import open_clip, peft, safetensors.torch

base = ...  # the base model below, as open_clip loads it
head = safetensors.torch.load_file("FOLDER/head.safetensors")  # what was trained beside the adapter
base.load_state_dict(head, strict=False)
model = peft.PeftModel.from_pretrained(base, "FOLDER")""",
}
"""Format -> how to load it."""


def model_card(
    run: Run, record: Mapping[str, Any], layout: str, catalog: Catalog, results: Sequence[ResultColumn]
) -> str:
    """Return the card.

    It has no time, host or path, and text that is not ours is escaped.

    Args:
        run: The run.
        record: Its model.json.
        layout: A format of `training.model.export`.
        catalog: Where the manifest of its data is looked for.
        results: Evaluations of the run and of its base.
    """
    manifest = _manifest(run, catalog)
    sections: Mapping[str, Iterator[str]] = {
        "How to load it": _use(layout),
        "How it was made": _made(run, record),
        "Data and licences": _data(run, manifest),
        "Results": _results(results),
        "Known limits": _limits(run, record, manifest, results),
    }
    lines = [
        "---",
        f"library_name: {_LIBRARIES[layout]}",
        "pipeline_tag: zero-shot-image-classification",
        "tags:",
        "- clip",
        "- clipcurate",
        "---",
        f"# {plain(run.name)}",
        "",
        _head(run, record),
    ]
    for title, section in sections.items():
        lines += ["", f"## {title}", "", *section]
    return "\n".join(lines) + "\n"


def _head(run: Run, record: Mapping[str, Any]) -> str:
    recipe = code(run.identity["recipe"].get("recipe"))
    tuned = f"{code(record['base'])}, tuned ({code(record['tune'])})"
    return f"An image-text model: {tuned} with the recipe {recipe} on the data set {code(run.ref)}."


def _use(layout: str) -> Iterator[str]:
    yield from ("```python", *_USE[layout].splitlines(), "```")
    if layout == "hf":
        yield ""
        yield (
            "Texts and pixels are prepared by transformers' own code, which cleans unusual characters and resizes in ways "
            "that differ a little from open_clip's; the weights are the same."
        )
    if layout == "adapter":
        yield ""
        yield "The names of the adapted modules are those of open_clip's models: it fits the base model below and no other."


def _made(run: Run, record: Mapping[str, Any]) -> Iterator[str]:
    config, recipe = run.identity["config"], run.identity["recipe"]
    weights = run.done.get("weights_hash") if run.done else None
    rows = [
        ("base model", f"{code(record['base'])} ({code(record['base_hash'])})"),
        ("tuned", code(record["tune"])),
        ("recipe", code(recipe.get("recipe"))),
        ("paper", papers(paper)) if (paper := _paper(recipe.get("recipe"))) else ("paper", "not known here"),
        ("objectives", ", ".join(code(_objective(item)) for item in recipe.get("objectives") or ())),
        ("steps, batch size", f"{config.get('steps', '?'):,}, {config.get('batch_size', '?'):,}"),
        ("learning rate, seed", f"{config.get('lr', '?')}, {config.get('seed', '?')}"),
        ("hash of the trained weights", code(weights) if weights else "the run has not ended"),
        ("packages", ", ".join(f"{plain(name)} {plain(text)}" for name, text in _versions(run))),
    ]
    yield from markdown_table(("what", "value"), rows)
    yield ""
    yield "All other settings are on the run's page: `clipcurate report RUN --html PAGE`."


def _objective(item: Mapping[str, Any]) -> str:
    return f"{item.get('weight', 1):g} {item.get('name')}"


def _paper(name: Any) -> str:
    """Return what a recipe of this project cites; nothing of one that is not here."""
    from flows.recipe import load_recipe
    from flows.recipe_finding import own_recipe_names

    return load_recipe(name).paper if name in own_recipe_names() else ""


def _versions(run: Run) -> list[tuple[str, str]]:
    return sorted((name, str(text)) for name, text in (run.identity.get("versions") or {}).items())


def _data(run: Run, manifest: Manifest | None) -> Iterator[str]:
    known = run.identity["manifest"]
    yield f"Trained on {code(run.ref)}, manifest fingerprint {code(known['fingerprint'])}."
    yield ""
    if manifest is None:
        yield "Its manifest was not at hand when this card was written: its licences are not known here."
        return
    counts = manifest.body["counts"]
    yield (
        f"{counts['samples']:,} photographs with {counts['captions']:,} captions, {counts.get('views', 0):,} rewrites and "
        f"knowledge captions and {counts['negatives']:,} hard negatives."
    )
    yield ""
    yield from licence_table(manifest.body)


def _manifest(run: Run, catalog: Catalog) -> Manifest | None:
    """Return the manifest that the run was trained on; None if it is not here, or another version has its number."""
    known = run.identity["manifest"]
    path = catalog.manifest_path(known["name"], known["version"])
    manifest = Manifest.load(path) if path.is_file() else None
    return manifest if manifest is not None and manifest.fingerprint == known["fingerprint"] else None


def _results(columns: Sequence[ResultColumn]) -> Iterator[str]:
    if not columns:
        yield "It was not evaluated when this card was written: nothing is known of how well it works."
        return
    for number, on in enumerate(dict.fromkeys(str(item["on"]) for item in columns)):
        of_benchmark = [item for item in columns if item["on"] == on]
        values = [dict(flat_metrics(item["metrics"])) for item in of_benchmark]
        names = dict.fromkeys(name for column in values for name in column)
        heads = [f">{plain(item.get('label') or item.get('model'))}" for item in of_benchmark]
        rows = [(plain(metric_name(name)), *(shown_value(column.get(name)) for column in values)) for name in names]
        yield from (("",) if number else ())
        yield f"### {plain(benchmark_name(on))}"
        yield ""
        yield from markdown_table(("metric", *heads), rows)
    yield ""
    yield "In brackets: 95 % intervals over the cases, where these were saved."


def _limits(
    run: Run, record: Mapping[str, Any], manifest: Manifest | None, results: Sequence[ResultColumn]
) -> Iterator[str]:
    numbers = [
        value for item in results for _, value in flat_metrics(item["metrics"]) if isinstance(value, float | Mapping)
    ]
    limits = [
        (run.done is None, "The run has not ended: these are the weights of its last checkpoint."),
        ("random" in str(record["base"]), "It started from random weights: it knows only what this data set shows."),
        (bool(results), "It was evaluated only on what is listed under Results."),
        (any(measured(value)[1] is None for value in numbers), "Numbers without brackets have no interval."),
        (True, "One run with one seed: another seed gives other numbers."),
        (True, "It has the biases of its base model and of its data; nobody checked it for use on people."),
    ]
    yield from (f"- {text}" for holds, text in limits if holds)
    yield from (f"- Data: {text}" for text in (limits_of(manifest.body) if manifest else ()))
