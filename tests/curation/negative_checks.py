"""What the tests of the operations share: samples parsed for real, the stages found by themselves, invariants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from curation.engine.stage import MapStage
from curation.stages import stage_classes
from curation.stages.captions.parse_captions import ParseCaptions
from data_manifests.sample import ImageRef, Sample, image_uid

TYPES = {"object", "attribute", "relation", "action", "number", "negation", "order"}
KEYS = {"text", "caption", "operation", "span_class", "type", "edits", "tokens", "rule", "source"}


def operations() -> list[MapStage]:
    """Return every stage that makes negatives from captions and parses alone, by name."""
    return [
        stage()
        for stage in stage_classes()
        if issubclass(stage, MapStage)
        and stage.requires == ("uid", "captions", "parses")
        and stage.provides[0].role == "negatives"
        and {spec.role for spec in stage.provides[1:]} <= {"views"}
    ]


def sample(*captions: str) -> Sample:
    return Sample(image_uid(" ".join(captions).encode()), "a.jpg", ImageRef("a.jpg"), captions)


def parsed(samples: Sequence[Sample]) -> list[Sample]:
    results = ParseCaptions().process(samples)
    return [one.adding(result) for one, result in zip(samples, results, strict=True) if isinstance(result, dict)]


def made(stage: MapStage, one: Sample) -> list[dict[str, Any]]:
    """Return the records of one parsed sample."""
    (result,) = stage.process([one])
    assert isinstance(result, dict)
    assert set(result) == {spec.name for spec in stage.provides}
    assert orjson.loads(orjson.dumps(result)) == result
    records: list[dict[str, Any]] = result[stage.provides[0].name]
    return records


def texts(stage: MapStage, caption: str, *others: str) -> set[str]:
    """Return the negatives of the first caption of an image."""
    (one,) = parsed([sample(caption, *others)])
    return {record["text"] for record in made(stage, one) if record["caption"] == 0}


def every_text(stage: type[MapStage], caption: str, seeds: int = 40) -> set[str]:
    """Return what a stage makes of a caption under many seeds: about all that it can make."""
    (one,) = parsed([sample(caption)])
    return {record["text"] for seed in range(seeds) for record in made(stage(seed=seed), one)}  # type: ignore[call-arg]


def check(stage: MapStage, one: Sample, records: Sequence[dict[str, Any]]) -> None:
    """Check what must hold for every record, whatever the captions."""
    plain_captions = {" ".join(caption.casefold().split()) for caption in one.captions}
    seen = set()
    for record in records:
        assert set(record) - {"against"} == KEYS
        assert record.get("against", "?") not in ("", record["text"])
        assert record["source"] == stage.name
        assert record["type"] in TYPES
        assert record["rule"]
        plain = " ".join(record["text"].casefold().split())
        assert plain not in plain_captions
        assert (record["caption"], plain) not in seen
        seen.add((record["caption"], plain))
        check_edits(one, record)
    most = len(stage.kinds) if hasattr(stage, "kinds") else stage.per_caption  # type: ignore[attr-defined]
    counts = [record["caption"] for record in records]
    assert all(counts.count(index) <= most for index in set(counts))
    assert counts == sorted(counts)


def check_edits(one: Sample, record: dict[str, Any]) -> None:
    """Check that the edits alone make the negative, in characters and in tokens."""
    caption, parse = one.captions[record["caption"]], one["parses"][record["caption"]]
    text, done, done_new = "", 0, 0
    assert record["edits"]
    for start, end, new_start, new_end in record["edits"]:
        assert done <= start <= end <= len(caption)
        assert caption[done:start] == record["text"][done_new:new_start]
        assert caption[start:end] != record["text"][new_start:new_end]
        text += caption[done:start] + record["text"][new_start:new_end]
        done, done_new = end, new_end
    assert text + caption[done:] == record["text"]
    assert len(record["tokens"]) == len(record["edits"])
    shift, last = 0, 0
    for (start, end, *_), (first, stop, new_first, new_stop) in zip(record["edits"], record["tokens"], strict=True):
        assert last <= first <= stop <= len(parse["words"])
        assert new_first == first + shift
        assert stop == first or (parse["starts"][first] == start and parse["starts"][stop - 1] < end)
        shift, last = shift + (new_stop - new_first) - (stop - first), stop
