"""Whom a caption speaks of, and whom its words only seem to: our own sentences."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.selection.tag_attributes import TagAttributes
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from training.model.spec import ModelSpec

CAPTIONS = {
    "A man in a white shirt rides a bike .": "activity:ride age:adult gender:male person:yes",
    "A white man sits on a bench .": "age:adult ethnicity:white gender:male person:yes",
    "A woman in a black dress talks .": "age:adult gender:female person:yes",
    "A snowman stands in the snow .": "",
    "Two kids build a snow man .": "age:child person:yes",
    "A statue of a woman in a park .": "",
    "A bronze statue of a soldier riding a horse": "",
    "A photo of a woman cooking .": "age:adult gender:female person:yes",
    "A man holding a picture of a woman": "age:adult gender:male person:yes",
    "A man dressed like a woman": "age:adult gender:male person:yes",
    "The ladybug crawls on a man-made pond": "",
    "A male dog runs": "",
    "A black dog chases his ball .": "",
    "A dog swims while a boy watches .": "age:child gender:male person:yes",
    "A boy eats beside a sleeping dog": "activity:eat age:child gender:male person:yes",
    "A young boy and his sister swim .": "activity:swim age:child gender:female gender:male person:yes",
    "Two female soccer players run .": "activity:run gender:female occupation:sport person:yes",
    "A police officer directs traffic .": "occupation:security person:yes",
    "A construction worker on a ladder .": "occupation:manual person:yes",
    "An elderly asian lady sews .": "age:old ethnicity:asian gender:female person:yes",
    "Old man's hat is red": "age:old gender:male person:yes",
    "The kid stands with other goats on the farm .": "",
    "A boxer punches the other boxer in the ring": "occupation:sport person:yes",
    "A brown boxer with a leash and a collar": "",
    "Football fan waves a flag in the stadium": "person:yes",
    "An african-american woman reads .": "activity:read age:adult ethnicity:black gender:female person:yes",
    "A white-haired man smiles .": "age:adult gender:male person:yes",
    "A red car .": "",
}


def parsed(*captions: str, **attributes: object) -> Sample:
    one = Sample(image_uid("|".join(captions).encode()), "a.jpg", ImageRef("a.jpg"), captions, attributes=attributes)
    (result,) = ParseCaptions().process([one])
    assert isinstance(result, dict)
    return one.adding(result)


def tags(sample: Sample, stage: TagAttributes | None = None) -> str:
    (result,) = (stage or TagAttributes()).process([sample])
    assert isinstance(result, dict)
    found: str = result["attribute_tags"]
    return found


@pytest.mark.parametrize(("caption", "wanted"), CAPTIONS.items(), ids=list(CAPTIONS))
def test_words_count_where_they_are_said_of_a_person(caption: str, wanted: str) -> None:
    assert tags(parsed(caption)) == wanted


def test_captions_may_have_to_agree() -> None:
    sample = parsed("A man runs .", "A woman runs .", "A person runs .")
    assert tags(sample, TagAttributes(min_captions=2)) == "activity:run age:adult person:yes"
    assert (
        tags(parsed("A man runs ."), TagAttributes(min_captions=2)) == "activity:run age:adult gender:male person:yes"
    )


def test_columns_become_tags() -> None:
    sample = parsed("A car .", country="South Korea", adult=True, kinds=["A/B", 3], scene={"light": "day"}, none=None)
    stage = TagAttributes(columns=("country", "adult", "kinds", "scene.light", "none", "absent", "scene.light.x"))
    assert tags(sample, stage) == "adult:true country:south_korea kinds:3 kinds:a_b scene_light:day"
    with pytest.raises(InputError, match=r"a.jpg\) has scene="):
        tags(sample, TagAttributes(columns=("scene",)))


@pytest.mark.filterwarnings("ignore:model 'tiny'")
def test_a_model_says_what_is_nearest_if_by_enough(tmp_path: object) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(buffer, "PNG")
    path = f"{tmp_path}/a.png"
    with open(path, "wb") as file:
        file.write(buffer.getvalue())
    sample = dataclasses.replace(parsed("A car ."), image=ImageRef(path))
    model = ModelSpec.parse("tiny")
    prompts = ("light:day = a photo by day", "light:night = a photo at night", "light:night = dark")
    stage = TagAttributes(captions=False, prompts=prompts, model=model, margin=0.0)
    from curation.models.encoder import open_encoder

    image, texts = open_encoder(model).embed_one(
        dataclasses.replace(sample, captions=("a photo by day", "a photo at night", "dark"))
    )
    day, night, dark = (texts.astype(np.float64) @ image.astype(np.float64)).tolist()
    assert tags(sample, stage) == ("light:day" if day > max(night, dark) else "light:night")
    assert tags(sample, dataclasses.replace(stage, margin=1.9)) == ""
    assert stage.required_fields() == ("image",)


@pytest.mark.parametrize(
    "bad",
    [
        {"captions": False}, {"min_captions": 0}, {"margin": -1.0}, {"prompts": ("a:b = c", "a:d = e")},
        {"prompts": ("light = day",)}, {"prompts": ("a:b = c",)},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        TagAttributes(**bad)  # type: ignore[arg-type]
