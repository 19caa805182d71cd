"""What denials and exact numbers mean on a scene."""

from __future__ import annotations

import pytest

from tests.benchmarks.scene_truth import denial_holds, exactly_true


def thing(shape: str, colour: str, texture: str = "plain") -> dict[str, str]:
    return {"shape": shape, "colour": colour, "size": "small", "texture": texture}


SCENE = {
    "background": {"colour": "black", "texture": "plain", "scenery": "background"},
    "objects": [thing("star", "red", "striped"), thing("star", "red"), thing("circle", "blue", "dotted")],
    "relations": [[0, "left of", 2]],
}


@pytest.mark.parametrize(
    ("text", "caption", "holds"),
    [
        ("There is no red star.", "", False),
        ("There is no red heart.", "", True),
        ("No red star is left of a circle.", "", False),
        ("No blue circle is left of a star.", "", True),
        ("A circle without spots.", "A circle with spots.", False),
        ("There is a red star without stripes.", "", True),
        ("A red star is not left of a circle.", "A red star is left of a circle.", True),
        ("A striped star is not left of a circle.", "A striped star is left of a circle.", False),
        ("We do not see a red star.", "We see a red star.", False),
        ("No dog runs.", "", None),
    ],
)
def test_denials(text: str, caption: str, holds: bool | None) -> None:
    assert denial_holds(SCENE, text, caption) is holds


@pytest.mark.parametrize(
    ("text", "true"),
    [("Two red stars.", True), ("One red star.", False), ("A red star.", True), ("Three red stars.", False), ("One circle.", True),
     ("Two dogs.", None)],
)  # fmt: skip
def test_numbers_mean_no_more(text: str, true: bool | None) -> None:
    assert exactly_true(SCENE, text) is true
