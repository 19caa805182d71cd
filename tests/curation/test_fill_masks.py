"""Fills of a real masked model with random weights: whole words, other words, the same alone and in a batch."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from curation.knowledge.open_graph import SeedGraph
from curation.models.masked_model import Blank, TransformersMaskedModel
from curation.negatives.masked_fills import KINDS, REASONS
from curation.stages.negatives.fill_masks import FillMasks
from data_manifests.errors import InputError
from tests.curation.blank_models import WORDS, ListedFills, write_masked_model
from tests.curation.negative_checks import check, parsed, sample
from tests.curation.test_negative_edge_cases import ODD

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CAPTIONS = (
    "A small black dog runs on the street .", "An old man in a red hat sits on a bench .", "Two dogs are sleeping under the table .",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TransformersMaskedModel:
    folder = tmp_path_factory.mktemp("model")
    write_masked_model(folder)
    return TransformersMaskedModel(str(folder))


def made(stage: FillMasks, *captions: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    (one,) = parsed([sample(*captions)])
    (result,) = stage.process([one])
    assert isinstance(result, dict)
    check(stage, one, result["mask_negatives"])
    return result["mask_negatives"], result["mask_rejected"]


def texts(words: str, caption: str, *others: str, **settings: Any) -> list[str]:
    stage = FillMasks(ListedFills(tuple(words.split())), ranks=(1,), **settings)
    return [record["text"] for record in made(stage, caption, *others)[0] if record["caption"] == 0]


def test_fills_are_whole_words_of_the_vocabulary(model: TransformersMaskedModel) -> None:
    (words,) = model.fill([Blank("A small ", " dog runs .")], 100)
    assert set(words) == {word for word in WORDS if len(word) > 1}
    assert len(words) == len(set(words))
    (first,) = model.fill([Blank("A small ", " dog runs .")], 5)
    assert first == words[:5]


def test_a_blank_alone_in_a_batch_and_elsewhere_has_the_same_fills(model: TransformersMaskedModel) -> None:
    blanks = [
        Blank("A ", " dog"),
        Blank("", " dog runs on the street ."),
        Blank("the man sits on " * 60, ""),
        Blank("", ""),
    ]
    together = model.fill(blanks, 20)
    assert model.fill(blanks[::-1], 20)[::-1] == together
    assert [model.fill([blank], 20)[0] for blank in blanks] == together
    assert len({tuple(words) for words in together}) == len(blanks)


def test_a_text_that_imitates_a_mark_has_no_fills(model: TransformersMaskedModel) -> None:
    assert model.fill([Blank("A [MASK] ", " dog"), Blank("a [SEP] ", "")], 5) == [[], []]


def test_negatives_of_a_real_model(model: TransformersMaskedModel) -> None:
    stage = FillMasks(model, kinds=tuple(KINDS), ranks=(1, 2, 3))
    records, rejected = made(stage, *CAPTIONS)
    assert {record["type"] for record in records} >= {"attribute", "object", "action"}
    assert {record["reason"] for record in rejected} <= {*REASONS, "no_fill"}
    samples = parsed([sample(*CAPTIONS), sample(CAPTIONS[1]), *(sample(odd) for odd in ODD)])
    together = stage.process(samples)
    assert stage.process(samples[::-1])[::-1] == together
    assert [stage.process([one])[0] for one in samples] == together
    assert pickle.loads(pickle.dumps(stage)).process(samples) == together
    for one, result in zip(samples, together, strict=True):
        assert isinstance(result, dict)
        check(stage, one, result["mask_negatives"])


def test_a_fill_of_another_meaning_and_the_same_form() -> None:
    shade = "black white"
    assert texts(f"{shade} dogs puppies running happier runs cat", "The dog barks .", kinds=("object",)) == [
        "The cat barks ."
    ]
    assert texts("dogs happier cat cats", "Two dogs are barking .", kinds=("object",)) == ["Two cats are barking ."]
    assert texts("jump jumps leaps sprints running jumping", "A dog runs in the park .", kinds=("action",)) == [
        "A dog jumps in the park ."
    ]
    assert texts("huge big bigger quickly small", "A large dog .", kinds=("attribute",)) == ["A small dog ."]
    assert texts("animal thing puppy horse", "The dog barks .", kinds=("object",)) == ["The horse barks ."]
    assert texts("onto upon in red under", "A dog sits on the bench .", kinds=("relation",)) == [
        "A dog sits under the bench ."
    ]


def test_what_another_caption_says_is_no_fill() -> None:
    assert texts("wet old", "A small dog runs .", "The wet dog", kinds=("attribute",)) == ["An old dog runs ."]
    assert texts("jumps swims", "A dog runs in the park .", "A dog is leaping", kinds=("action",)) == [
        "A dog swims in the park ."
    ]


def test_pronouns_keep_their_person() -> None:
    assert texts("woman girl", "A man ties his shoe .", kinds=("object",), tries=1, seed=3) in (
        [],
        ["A man ties his woman ."],
    )
    for seed in range(6):
        assert "A woman ties his shoe ." not in texts(
            "woman girl car", "A man ties his shoe .", kinds=("object",), seed=seed
        )


def test_ranks_count_what_passes() -> None:
    def of(*ranks: int) -> list[str]:
        stage = FillMasks(ListedFills(("dog", "cat", "horse", "bird", "cow")), kinds=("object",), ranks=ranks)
        return [record["text"] for record in made(stage, "The dog barks .")[0]]

    assert of(1) == ["The cat barks ."]
    assert of(3) == ["The bird barks ."]
    assert of(9) == ["The cow barks ."]  # the last that passes
    assert made(FillMasks(ListedFills(("cat",)), kinds=("object",), ranks=(1,)), "The dog barks .")[0][0]["rule"] == (
        "fill object 'dog' -> 'cat' (rank 1)"
    )


def test_refusals_are_on_record() -> None:
    stage = FillMasks(ListedFills(("dogs", "canine", "puppy", "green")), kinds=("object",))
    records, rejected = made(stage, "The dog barks .")
    assert records == []
    assert [(one["reason"], one["detail"]) for one in rejected] == [
        ("same_word", "1: dogs"), ("synonym", "1: canine"), ("kind_of", "1: puppy"), ("other_form", "1: green"),
        ("no_fill", "nothing is left"),
    ]  # fmt: skip
    assert rejected[0]["text"] == "The dogs barks ."
    assert rejected[-1]["text"] == "The ... barks ."


def test_no_word_to_hide_is_no_negative() -> None:
    for caption in ("dog", "!!!", "of the", "No dog runs ."):
        records, _ = made(FillMasks(ListedFills(("cat", "jumps", "red"))), caption)
        assert all("[MASK]" not in one["text"] and "<mask>" not in one["text"] for one in records)
        assert caption != "No dog runs ." or records == []
    assert texts("cat", "A T-shirt", kinds=("object",)) == []


def test_a_graph_adds_synonyms() -> None:
    stage = FillMasks(ListedFills(("canine", "cat")), kinds=("object",), ranks=(1,), graph=SeedGraph())
    assert [record["text"] for record in made(stage, "The dog barks .")[0]] == ["The cat barks ."]


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"kinds": ()}, "kinds"), ({"kinds": ("adverb",)}, "kinds"), ({"ranks": (0,)}, "ranks"), ({"top": 0}, "top"),
     ({"tries": 0}, "tries"), ({"per_caption": 0}, "per_caption")],
)  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        FillMasks(ListedFills(("cat",)), **settings)


def test_models_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        TransformersMaskedModel(str(tmp_path)).fill([Blank("a ", "")], 1)
    with pytest.raises(InputError, match="is not a folder, and cannot be downloaded"):
        TransformersMaskedModel("no/such-model").content_hash()
    write_masked_model(tmp_path / "headless", head=False)
    with pytest.raises(InputError, match="was not trained as a masked language model"):
        TransformersMaskedModel(str(tmp_path / "headless")).fill([Blank("a ", "")], 1)


def test_identity_is_the_content(tmp_path: Path, model: TransformersMaskedModel) -> None:
    write_masked_model(tmp_path / "again")
    again = TransformersMaskedModel(str(tmp_path / "again"))
    assert again.content_hash() == model.content_hash()
    assert str(tmp_path) not in again.describe()
    weights = tmp_path / "again" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights)
    write_masked_model(tmp_path / "third", head=False)
    assert TransformersMaskedModel(str(tmp_path / "third")).content_hash() != model.content_hash()
