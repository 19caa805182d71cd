"""Keep what comparisons found as `flows/execution/measured.json`, from which `clipcurate advise` and docs/which-recipe.md say what recipes bought.

Run: python -m tests.benchmarks.keep_measured OUT/comparison.json --data photographs --captions 5; then make docs

A comparison on the same data, size and budget takes the place of the one that was kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import orjson

from flows.execution.advise import CONTROL, MEASURED

_METRICS = {
    "retrieval image_to_text_R@1": "R@1 image\u2192text",
    "retrieval text_to_image_R@1": "R@1 text\u2192image",
    "zero_shot top1": "zero-shot",
    "foils accuracy": "foils",
    "half_truths accuracy": "half-truths",
    "paraphrase accuracy": "paraphrase against foil, by the picture",
    "paraphrase tot_accuracy": "paraphrase against foil, by the caption",
}
_SCENES = {
    "scenes image_to_text_R@1": "R@1 image\u2192text",
    "scenes text_to_image_R@1": "R@1 text\u2192image",
    "scenes foil_accuracy": "foils",
    "scenes foils.relation.accuracy": "relation foils",
}


def kept(document: dict[str, Any], data: str, captions: float, *, with_times: bool = True) -> dict[str, Any]:
    """Return a comparison as `MeasuredData` has it.

    Args:
        document: What `compare` wrote.
        data: What the images are.
        captions: Captions of an image.
        with_times: Keep how long training took.
    """
    seconds: dict[str, list[float]] = {}
    for cell in document["cells"]:
        seconds.setdefault(cell["row"], []).append(cell["train_s"])
    (control,) = (row for row in document["rows"] if row["name"] == CONTROL)
    rows = [
        {
            "recipe": name_of(row),
            "differences": differences(row["numbers"]),
            "failed": row["failed"],
            "share": row["share"],
            "times_longer": (
                round(mean(seconds[row["name"]]) / mean(seconds[CONTROL]), 1) if with_times else None
            ),
        }
        for row in document["rows"]
        if row["name"] not in (CONTROL, "pretrained") and "numbers" in row
    ]
    return {
        "data": data,
        "num_samples": control["num_samples"],
        "captions_per_sample": captions,
        "budget": document["title"],
        "num_seeds": len(document["seeds"]),
        "rows": rows,
    }


def name_of(row: dict[str, Any]) -> str:
    """Return a row's recipe, with the recipe of its data where that is another."""
    recipe, data = str(row["recipe"]), str(row["data"])
    return recipe if recipe == data else f"{recipe} on {data}"


def differences(numbers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the differences to the control, in points, of the tests that are told about."""
    found = []
    for number in numbers:
        name = f"{number['on'].partition(':')[0]} {number['metric']}"
        if (test := (_METRICS | _SCENES).get(name)) is not None:
            gap = number["to_control"]
            points = {end: round(100 * gap[end], 1) for end in ("value", "low", "high")}
            found.append({"test": test, **points, "told_apart": gap["told_apart"]})
    return found


def main() -> None:
    """Keep one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--data", required=True, help="what the images are, in a word or two")
    parser.add_argument("--captions", type=float, required=True, help="captions of an image")
    parser.add_argument("--without-times", action="store_true", help="other work on the machine disturbed the times")
    options = parser.parse_args()
    document = orjson.loads(options.comparison.read_bytes())
    new = kept(document, options.data, options.captions, with_times=not options.without_times)
    place = ("data", "num_samples", "captions_per_sample", "budget")
    before = orjson.loads(MEASURED.read_bytes()) if MEASURED.exists() else []
    every = [one for one in before if any(one[key] != new[key] for key in place)] + [new]
    every.sort(key=lambda one: [one[key] for key in place])
    MEASURED.write_bytes(orjson.dumps(every, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
