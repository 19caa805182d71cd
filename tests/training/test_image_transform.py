"""What an image tower sees: open_clip's transform, and the same of strips that it would enlarge to billions of pixels."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from training.model import image_transform
from training.model.image_transform import MAX_RESIZED_PIXELS, ImageTransform

SHAPES = ((1, 17), (1, 200), (3, 1000), (7, 131), (300, 5000), (5000, 300), (999, 3), (2, 33))


def settings(mode: str, interpolation: str = "bicubic") -> PreprocessCfg:
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
    return PreprocessCfg(**{**asdict(PreprocessCfg()), **plain, "resize_mode": mode, "interpolation": interpolation})


def smooth(size: tuple[int, int]) -> Image.Image:
    """Waves along both sides, as long as a few pixels: sums that leave 0 to 255 would depend on the order of sides."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    waves = [np.sin(rows / period) + np.cos(columns / period) for period in (3.0, 4.0, 5.0)]
    return Image.fromarray((127 + 50 * np.stack(waves, axis=-1)).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_a_strip_gives_the_pixels_of_the_whole_transform(
    mode: str, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_transform, "MAX_RESIZED_PIXELS", 0)
    for side in (32, 224):
        config = settings(mode, interpolation)
        config.size = side
        for shape in SHAPES if side == 32 else SHAPES[2:4]:
            if mode == "longest" and max(shape) > side * min(shape):
                continue  # open_clip's ends without a pixel of the short side
            image = smooth(shape)
            expected, found = image_transform_v2(config, is_train=False)(image), ImageTransform.of(config, side)(image)
            assert (expected - found).abs().max() <= 2, (side, shape)


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(2**26, 1), (1, 200_000), (3, 70_000)])
def test_no_strip_is_resized_to_more_than_the_limit(
    mode: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    resized: list[int] = []
    resize = Image.Image.resize

    def recorded(image: Image.Image, size: tuple[int, int], *arguments: object, **named: object) -> Image.Image:
        resized.append(size[0] * size[1])
        return resize(image, size, *arguments, **named)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    pixels = ImageTransform.of(settings(mode), 224)(Image.new("RGB", shape, (10, 20, 30)))
    assert pixels.shape == (3, 224, 224)
    assert torch.equal(pixels.amax(dim=(1, 2)).round(), torch.tensor([10.0, 20.0, 30.0]))
    assert max(resized) <= MAX_RESIZED_PIXELS


def test_a_photograph_goes_through_open_clip_s_transform_as_it_is() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 3000, 3), dtype=np.uint8))
    config = settings("shortest")
    assert torch.equal(ImageTransform.of(config, 224)(image), image_transform_v2(config, is_train=False)(image))
