"""Drawing among a caption and its views."""

from __future__ import annotations

from collections import Counter

import pytest

from data_manifests.errors import InputError
from training.batches.text_sampling import CaptionViews

MADE = [
    {"text": "a dog is running", "kind": "rewrite"},
    {"text": "a running dog", "kind": "rewrite"},
    {"text": "a dog, which is an animal, runs", "kind": "knowledge"},
]


def shares(views: CaptionViews, made: list[dict[str, str]] = MADE, draws: int = 4000) -> dict[str, float]:
    counts = Counter(views.draw("a dog runs", made, 0, step, "ab" * 16) for step in range(draws))
    return {text: number / draws for text, number in counts.items()}


def test_equal_weights_show_each_text_equally_often() -> None:
    found = shares(CaptionViews())
    assert set(found) == {"a dog runs", *(view["text"] for view in MADE)}
    assert all(abs(share - 0.25) < 0.03 for share in found.values())


def test_weights_are_per_text() -> None:
    found = shares(CaptionViews(caption=2.0, rewrite=1.0, knowledge=0.0))
    assert MADE[2]["text"] not in found
    assert abs(found["a dog runs"] - 0.5) < 0.03


def test_true_denials_and_counts_have_weights_of_their_own() -> None:
    made = [{"text": "no cat runs", "kind": "denial"}, {"text": "one dog runs", "kind": "count"}]
    assert set(shares(CaptionViews(denial=0.0), made)) == {"a dog runs", "one dog runs"}
    assert set(shares(CaptionViews(count=0.0), made)) == {"a dog runs", "no cat runs"}


def test_a_draw_depends_on_seed_step_and_uid_alone() -> None:
    views = CaptionViews()
    drawn = [views.draw("a dog runs", MADE, 0, step, "ab" * 16) for step in range(50)]
    assert drawn == [views.draw("a dog runs", MADE, 0, step, "ab" * 16) for step in range(50)]
    assert drawn != [views.draw("a dog runs", MADE, 1, step, "ab" * 16) for step in range(50)]
    assert drawn != [views.draw("a dog runs", MADE, 0, step, "cd" * 16) for step in range(50)]


def test_a_one_word_rewrite_gives_way_to_the_caption() -> None:
    assert set(shares(CaptionViews(), [{"text": "dog", "kind": "rewrite"}], 100)) == {"a dog runs"}


def test_bad_weights() -> None:
    for wrong in ({"caption": 0.0}, {"rewrite": -1.0}):
        with pytest.raises(InputError, match="--set views"):
            CaptionViews(**wrong)
