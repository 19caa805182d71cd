"""The section of a run's page on its feedback: negatives that are learned, and those that are likely true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_manifests.manifest import DatasetVersion
from data_manifests.negatives import edit_pieces, shorten_pieces
from data_manifests.run_files import FEEDBACK_FILE
from data_manifests.sidecar_diff import read_payloads
from data_manifests.text_diff import diff_words
from flows.pages.charts import figure, histogram
from flows.pages.glossary import word
from flows.pages.html import Html, card, diff_markup, join, no_picture, note, shorten, tag, tiles
from flows.pages.thumbnails import Thumbnails

NUM_SHOWN = 12
_BINS = 24
_MAX_CHARS = 240


def feedback_section(run: Path, version: DatasetVersion | None) -> Html:
    """Return counts, a histogram of margins, and the negatives at both ends; nothing if there is no feedback.

    Args:
        run: The run's folder.
        version: The version it was trained on, for captions and pictures; None shows the negatives alone.

    Raises:
        InputError: a file of the version is damaged.
    """
    import polars as pl

    if not (run / FEEDBACK_FILE).is_file():
        return Html("")
    rows = pl.read_parquet(run / FEEDBACK_FILE).filter(pl.col("text") != "")
    trained = rows.filter(pl.col("drawn") > 0)
    if not rows.height:
        return Html("")
    tie_break = ["uid", "caption", "text"]
    learned = (
        trained.sort(["mean_margin", *tie_break], descending=[True, False, False, False]).head(NUM_SHOWN).to_dicts()
    )
    doubtful = trained.filter(pl.col("mean_margin") < 0).sort(["mean_margin", *tie_break]).head(NUM_SHOWN).to_dicts()
    gated = rows.filter(pl.col("gated") > 0).sort(["gated", *tie_break], descending=[True, False, False, False])
    shown = [
        ("Learned: with the largest margin", learned),
        ("Likely true of their image: nearer to it than the caption", doubtful),
        ("Left out most often as likely true", gated.head(NUM_SHOWN).to_dicts()),
    ]
    counts = [
        (f"{rows.height:,}", join([word("negative", "negatives"), " seen"])),
        (f"{int(trained['drawn'].sum()):,}", "times drawn"),
        (f"{trained.filter(pl.col('mean_margin') < 0).height:,}", "beat their caption"),
        (f"{gated.height:,}", "left out at least once"),
    ]
    margins = [value for value in trained["mean_margin"].to_list() if value is not None]
    parts: list[Html] = [tiles(counts), _histogram(margins)]
    return join([*parts, *_cards(shown, version)])


def _histogram(margins: Sequence[float]) -> Html:
    import numpy as np

    if not margins:
        return Html("")
    heights, edges = np.histogram(np.array(margins, dtype=np.float64), bins=_BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    values = [(f"{middle:.2f}", int(height)) for middle, height in zip(middles, heights, strict=True)]
    title = "of captions to their negatives (cosine; below 0 the negative is nearer to the image)"
    return figure(join([word("margin", "Margins"), " ", title]), histogram(values, f"Margins {title}"))


def _cards(shown: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], version: DatasetVersion | None) -> list[Html]:
    import polars as pl

    uids = list(dict.fromkeys(row["uid"] for _, rows in shown for row in rows))
    if version is None:
        remark = note("The version is not here, so captions and pictures are not shown.")
        return [remark, *(_listed(title, [_card(row, None, None) for row in rows]) for title, rows in shown)]
    index = pl.DataFrame(version.index(["uid", "shard", "json_offset", "json_bytes"]))
    samples = read_payloads(version, index.filter(pl.col("uid").is_in(uids)))
    with Thumbnails(version, uids) as pictures:
        return [
            _listed(title, [_card(row, samples.get(row["uid"]), pictures) for row in rows]) for title, rows in shown
        ]


def _listed(title: str, cards: Sequence[Html]) -> Html:
    return join([tag("h3", title), tag("div", *cards, class_="cards")]) if cards else Html("")


def _card(row: Mapping[str, Any], sample: Mapping[str, Any] | None, pictures: Thumbnails | None) -> Html:
    facts = [f"drawn {row['drawn']}", f"left out {row['gated']}" if row["gated"] else ""]
    if row["mean_margin"] is not None:
        facts += [f"margin {row['mean_margin']:+.3f}, last {row['last_margin']:+.3f}", f"loss {row['mean_loss']:.3f}"]
    tags = tag("div", *(tag("span", fact, class_="tag") for fact in facts if fact))
    caption = sample["captions"][row["caption"]] if sample and row["caption"] < len(sample["captions"]) else None
    if sample is None or caption is None:
        text = tag("span", shorten(str(row["text"]), _MAX_CHARS), class_="text", dir="auto")
        return card(no_picture(), tag("p", text), tags)
    record = next((item for item in sample["negatives"] if item["text"] == row["text"]), None)
    base = (record or {}).get("against") or caption
    pieces = edit_pieces(base, record) if record else diff_words(base, str(row["text"]))
    picture = pictures.picture(row["uid"], shorten(caption, _MAX_CHARS)) if pictures else Html("")
    text = diff_markup(shorten_pieces(pieces, _MAX_CHARS))
    return card(picture, tag("p", text), tags)
