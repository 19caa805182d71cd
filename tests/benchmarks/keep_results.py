"""Keep what a comparison found as `training/results.json`, from which the README's table of recipes says what was measured.

Run: python -m tests.benchmarks.keep_results OUT/comparison.json; then make docs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import orjson

RESULTS = Path(__file__).parents[2] / "training" / "results.json"


def kept(document: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison without this machine's paths: its title, seeds and, by row and number, per cent with intervals."""
    rows = {}
    for row in document["rows"]:
        numbers = {
            f"{number['on'].partition(':')[0]} {number['metric']}": [
                round(100 * number[name], 1) for name in ("value", "low", "high")
            ]
            for number in row["numbers"]
        }
        manifest = row.get("manifest", {}).get("fingerprint")
        rows[row["name"]] = {"share": row["share"], "numbers": numbers, "failed": row["failed"], "manifest": manifest}
    return {"title": document["title"], "seeds": document["seeds"], "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    found = kept(orjson.loads(parser.parse_args().comparison.read_bytes()))
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    RESULTS.write_bytes(orjson.dumps(found, option=options))
