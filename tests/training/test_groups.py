"""Groups of samples by their tags: who is in which, and the error before a run whose objective would find none."""

from __future__ import annotations

import pytest

from data_manifests.errors import InputError
from training.batches.basic import ShuffledPlan
from training.groups import group_numbers
from training.objectives.fairness import GroupAlignment, GroupParity
from training.objectives.info_nce import InfoNCE
from training.train_parts import TrainParts, check_groups

TAGS = [
    "age:child gender:female",
    "gender:male",
    "",
    "gender:female gender:male",
    "gender:females",
    "skin:3 gender:male",
]


def parts(*objectives: GroupParity | GroupAlignment) -> TrainParts:
    return TrainParts("own", ShuffledPlan(), (InfoNCE(negatives=False), *objectives))


def test_a_group_is_the_only_one_of_the_named_tags_or_the_absence_of_one() -> None:
    found = group_numbers(TAGS, ["gender:female|gender:male", "age:child", "skin:1|skin:2|skin:3"])
    assert found[:, 0].tolist() == [0, 1, -1, -1, -1, 1]
    assert found[:, 1].tolist() == [0, 1, 1, 1, 1, 1]
    assert found[:, 2].tolist() == [-1, -1, -1, -1, -1, 2]
    assert group_numbers([], ["age:child"]).shape == (0, 1)


def test_groups_that_no_batch_has_are_said_with_the_tags_that_there_are() -> None:
    check_groups(parts(GroupParity(smallest=1)), [TAGS])
    check_groups(parts(), [["", ""]])
    check_groups(parts(GroupParity(smallest=2)), [["", ""], ["gender:male", "gender:female"] * 2])
    with pytest.raises(InputError) as caught:
        check_groups(parts(GroupParity(smallest=2)), [TAGS, ["gender:female"]])
    told = str(caught.value)
    assert "objective group_parity compares the groups gender:female|gender:male" in told and "2 samples of two" in told
    assert "2 in gender:female, 2 in gender:male, 3 in none" in told and "gender:male (3)" in told
    assert "such as fcl" in told and "smallest=1" in told
    with pytest.raises(InputError, match="tags that samples have: none"):
        check_groups(parts(GroupAlignment(groups=("gender:female",), smallest=1)), [["", ""]])


def test_groups_must_be_named_once_and_be_the_same_for_all_objectives() -> None:
    for groups in ((), ("a||b",), ("a|a",), ("",)):
        with pytest.raises(InputError, match="groups"):
            GroupParity(groups=groups)
        with pytest.raises(InputError, match="groups"):
            GroupAlignment(groups=groups)
    with pytest.raises(InputError, match="two or more different ones"):
        GroupParity(prompts=("a person", "a person"))
    assert len(parts(GroupParity(), GroupAlignment()).group_objectives) == 2
    with pytest.raises(InputError, match="objectives compare different groups"):
        parts(GroupParity(), GroupAlignment(groups=("age:child",)))
