"""Pictures with texts as torch's map-style data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from flows.api.samples import PublishedSample, PublishedSamples

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageTextPairs(Dataset[tuple[Any, Any]]):
    """Picture and text of each sample; see `OpenVersion.pairs`.

    Args:
        samples: The samples.
        transform: What becomes of the picture; None leaves it a PIL image.
        text: What is taken of the sample beside the picture.
    """

    def __init__(
        self,
        samples: PublishedSamples,
        transform: Callable[[Image], Any] | None,
        text: Callable[[PublishedSample], Any],
    ) -> None:
        self.samples, self.transform, self.text = samples, transform, text

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: int) -> tuple[Any, Any]:
        """Return (picture, text) at a position.

        Raises:
            IndexError: no such position.
            InputError: the shard cannot be read, or the picture cannot be decoded.
        """
        sample = self.samples[at]
        image = sample.image
        return image if self.transform is None else self.transform(image), self.text(sample)
