"""Prompts: our own examples, the text of a request, and captions that cannot leave their line."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.rewriting.prompts import FAMILIES, GROUPS, RewriteRequests, example_pairs, families_of, one_line, refusal
from data_manifests.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden/rewrite_prompts.txt"
"""Written anew with CLIPCURATE_WRITE_GOLDEN=1; read the difference before committing it."""
UID = "0" * 32


def asking(prompting: str, seed: int = 0) -> RewriteRequests:
    return RewriteRequests("some-model", prompting, 3, 0.9, 0.95, 77, seed)  # type: ignore[arg-type]


def test_laclip_has_four_families_of_sixteen_pairs_and_no_sentence_twice() -> None:
    pairs = example_pairs()
    assert set(pairs) == set(FAMILIES)
    assert [len(pairs[name]) for name in GROUPS["laclip"]] == [16] * 4
    texts = [text for of_family in pairs.values() for pair in of_family for text in pair]
    assert len(set(texts)) == len(texts)
    assert all(one_line(text) == text and "=>" not in text for text in texts)


def test_styles_differ_in_length_as_they_should() -> None:
    def growth(name: str) -> float:
        pairs = example_pairs()[name]
        return sum(len(two.split()) for _, two in pairs) / sum(len(one.split()) for one, _ in pairs)

    assert growth("laclip/chat") > 1.2
    assert growth("laclip/terse") < 0.8
    assert 0.9 < growth("laclip/coco") < 1.4


def test_prompts_only_change_on_purpose() -> None:
    lines = []
    for family in FAMILIES:
        for prompting in ("few_shot", "schema"):
            request = asking(prompting).build(UID, 0, "A dog\nruns .", family, 0)
            body = orjson.dumps(request.body, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2).decode()
            lines.append(f"{family} {prompting} {request.endpoint} {request.key}\n{body}")
    text = "\n\n".join(lines) + "\n"
    if os.environ.get("CLIPCURATE_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "prompts changed: every answer on record will be asked for anew"


def test_draws_differ_in_seed_and_examples_and_nothing_else_counts() -> None:
    requests = [
        asking("few_shot").build(uid, index, "A dog .", family, draw)
        for uid in (UID, "1" * 32) for index in (0, 1) for family in GROUPS["laclip"] for draw in range(3)
    ]  # fmt: skip
    assert len({request.key for request in requests}) == len(requests) == 48
    assert len({request.body["seed"] for request in requests}) == 48
    assert asking("few_shot").build(UID, 0, "A dog .", "laclip/chat", 0) == requests[0]
    assert asking("few_shot", seed=1).build(UID, 0, "A dog .", "laclip/chat", 0).key != requests[0].key


def test_every_example_is_drawn_about_equally_often() -> None:
    counts = dict.fromkeys((source for source, _ in example_pairs()["laclip/coco"]), 0)
    for index in range(400):
        prompt = asking("few_shot").build(UID, index, "A dog .", "laclip/coco", 0).body["prompt"]
        for source in counts:
            counts[source] += f"\n{source} =>" in prompt
    assert sum(counts.values()) == 1200
    assert 45 < min(counts.values()) <= max(counts.values()) < 110


@given(st.text(max_size=80))
def test_no_caption_leaves_its_line(caption: str) -> None:
    line = one_line(caption)
    assert len(line.splitlines()) <= 1
    if not refusal(caption, "few_shot"):
        prompt = asking("few_shot").build(UID, 0, caption, "laclip/chat", 0).body["prompt"]
        assert len(prompt.splitlines()) == 6
        assert prompt.count("=>") == 4
        assert prompt.endswith(f"{line} =>")


def test_unknown_families_are_named_with_what_there_is() -> None:
    assert families_of(("svlc", "laclip/coco", "laclip")) == (*GROUPS["laclip"], "paraphrase", "analogy")
    with pytest.raises(InputError, match="did you mean 'tda_sp'"):
        families_of(("tda-sp",))
