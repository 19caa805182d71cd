"""Whether the code of a stage has changed: comments, docstrings and what it does not use do not count."""

from __future__ import annotations

import pytest

from curation.engine.stage_code import code_of, tree_hash
from curation.stages.hygiene.check_images import CheckImages

SOURCE = '''"""A file."""
import math
from os import path, sep

RATE, OTHER = 2, 3


def double(value):
    """Return twice the value."""
    # by a rate
    return rate() * value


def rate():
    return RATE


def unused(value):
    return path.join(value)


class Mine:
    """A stage."""

    version = 1

    def process(self, samples):
        """Do it."""
        return [double(math.floor(sample)) for sample in samples]


class Theirs(Mine):
    size = 1
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# by a rate", "# by the rate that is set above"),
        ('"""Do it."""', '"""Do it at once."""'),
        ('    """Return twice the value."""\n', ""),
        ("return [double(math.floor(sample)) for sample in samples]", "return [\n            double(math.floor(sample))\n            for sample in samples\n        ]"),
        ("return path.join(value)", "return path.split(value)"),
        ("path, sep", "path, sep, curdir"),
        ("size = 1", "size = 2"),
        ('"""A file."""\n', '"""Another file."""\n\n\n'),
    ],
)  # fmt: skip
def test_what_does_not_change_a_stage(old: str, new: str) -> None:
    assert old in SOURCE and tree_hash(SOURCE.replace(old, new), "Mine") == tree_hash(SOURCE, "Mine") != ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rate() * value", "rate() + value"),
        ("RATE, OTHER = 2, 3", "RATE, OTHER = 4, 3"),
        ("import math", "import cmath as math"),
        ("version = 1", "version = 2"),
        ("in samples]", "in samples[::-1]]"),
    ],
)
def test_what_changes_a_stage(old: str, new: str) -> None:
    assert old in SOURCE and tree_hash(SOURCE.replace(old, new), "Mine") != tree_hash(SOURCE, "Mine")
    assert tree_hash(SOURCE.replace(old, new), "Theirs") != tree_hash(SOURCE, "Theirs"), "it inherits from the other"


def test_a_class_that_is_not_there_has_no_hash() -> None:
    assert tree_hash(SOURCE, "Gone") == ""


def test_our_own_stages_have_code() -> None:
    found = code_of(CheckImages())
    assert found.file and found.tree() and found.origin.startswith("clipcurate ") and found.origin in found.reader
