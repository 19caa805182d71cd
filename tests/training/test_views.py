"""Drawing among a caption and its views."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_manifests.errors import InputError
from tests.training.conftest import letters
from training.batches.text_sampling import CaptionViews, take_unequal

MADE = [
    {"text": "a dog is running", "kind": "rewrite"},
    {"text": "a running dog", "kind": "rewrite"},
    {"text": "a dog, which is an animal, runs", "kind": "knowledge"},
]


def shares(views: CaptionViews, made: list[dict[str, str]] = MADE, draws: int = 4000) -> dict[str, float]:
    counts = Counter(views.draw("a dog runs", made, 0, step, "ab" * 16, letters)[0] for step in range(draws))
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
    drawn = [views.draw("a dog runs", MADE, 0, step, "ab" * 16, letters) for step in range(50)]
    assert drawn == [views.draw("a dog runs", MADE, 0, step, "ab" * 16, letters) for step in range(50)]
    assert drawn != [views.draw("a dog runs", MADE, 1, step, "ab" * 16, letters) for step in range(50)]
    assert drawn != [views.draw("a dog runs", MADE, 0, step, "cd" * 16, letters) for step in range(50)]


def test_a_one_word_rewrite_gives_way_to_the_caption() -> None:
    assert set(shares(CaptionViews(), [{"text": "dog", "kind": "rewrite"}], 100)) == {"a dog runs"}


def test_a_view_that_the_model_reads_as_the_caption_is_no_view() -> None:
    made = [*MADE, {"text": "A DOG RUNS", "kind": "rewrite"}, {"text": "a dog runs", "kind": "knowledge"}]
    found = shares(CaptionViews(), made)
    assert set(found) == {"a dog runs", *(view["text"] for view in MADE)}
    assert all(abs(share - 0.25) < 0.03 for share in found.values()), "the others share its chance evenly"
    counted = Counter(CaptionViews().draw("a dog runs", made, 0, step, "ab" * 16, letters)[1] for step in range(4000))
    # 2 of 6 texts are equal to the caption: one is drawn first in 1/3, the other one after it in 1/5
    assert abs(counted[1] / 4000 - 4 / 15) < 0.03 and abs(counted[2] / 4000 - 1 / 15) < 0.02


@given(
    texts=st.lists(st.text("aB ", max_size=6), max_size=8),
    shown=st.text("aB ", max_size=6),
    most=st.integers(1, 9),
    context=st.integers(1, 7),
)
def test_texts_are_taken_in_order_without_those_that_are_read_as_the_shown_one(
    texts: list[str], shown: str, most: int, context: int
) -> None:
    taken, num_equal = take_unequal(texts, shown, most, lambda some: letters(some, context))
    other = [at for at, text in enumerate(texts) if text.lower()[:context] != shown.lower()[:context]]
    assert taken == other[:most]
    looked_at = taken[-1] + 1 if len(taken) == most else len(texts)
    assert num_equal == looked_at - len(taken)


def test_bad_weights() -> None:
    for wrong in ({"caption": 0.0}, {"rewrite": -1.0}):
        with pytest.raises(InputError, match="--set views"):
            CaptionViews(**wrong)
