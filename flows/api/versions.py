"""A published version, opened: its samples, texts, frames, and pairs for torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.negatives import NegativeFilter, iterate_negatives
from flows.api.samples import PublishedSample, PublishedSamples, SampleText, first_caption, sample_text
from flows.api.settings import with_settings

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from PIL.Image import Image

    from flows.api.pairs import ImageTextPairs

FrameOf = Literal["samples", "texts", "negatives"]


class OpenVersion:
    """A data set version, opened for reading.

    Attributes:
        ref: ``name@X.Y.Z``.
        manifest: What it is: counts, stages, statistics, lineage.
        folder: Where its shards are.
        samples: Its samples, read one by one as they are looked at.
    """

    def __init__(self, dataset: DatasetVersion) -> None:
        self._dataset = dataset
        self.ref: str = dataset.ref
        self.manifest: Manifest = dataset.manifest
        self.folder: Path = dataset.folder
        self.samples = PublishedSamples(dataset)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        counts = self.manifest.body["counts"]
        return (
            f"<{self.ref}: {counts['samples']} samples, {counts['captions']} captions, {counts['negatives']} negatives>"
        )

    def texts(self) -> Iterator[SampleText]:
        """Yield captions, views and negatives, sample by sample."""
        for sample in self.samples:
            yield from sample.texts

    def negatives(
        self,
        *,
        type: Sequence[str] = (),  # noqa: A002 - the words of `clipcurate show`
        operation: Sequence[str] = (),
        min_difficulty: float | None = None,
        max_difficulty: float | None = None,
    ) -> Iterator[SampleText]:
        """Yield negatives, sample by sample, with the filters of ``clipcurate show --negatives``.

        Args:
            type: Only of these types.
            operation: Only of these operations.
            min_difficulty: At least so difficult, 0 easiest, 1 hardest.
            max_difficulty: At most so difficult.

        Raises:
            InputError: there are none, or none of such a type or operation.
        """
        wanted = NegativeFilter(tuple(_several(type)), tuple(_several(operation)), min_difficulty, max_difficulty)
        for uid, captions, record in iterate_negatives(self._dataset, wanted):
            yield sample_text(uid, captions, "negative", record, record["type"])

    def polars(self, of: FrameOf = "samples", columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return a frame of the whole version.

        Args:
            of: ``samples``: a row a sample with all published columns. ``texts``: a row a caption, view or negative.
                ``negatives``: a row a negative with everything published of it.
            columns: Only these columns.

        Raises:
            InputError: another kind of frame, or a column that it does not have.
        """
        from flows.api.frames import frame_of

        return frame_of(self._dataset, of, columns)

    def pandas(self, of: FrameOf = "samples", columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the same frame for pandas.

        Raises:
            InputError: pandas is not installed; else as `polars`.
        """
        try:
            import pandas as pd  # noqa: F401 - asked for before anything is read
        except ImportError:
            raise InputError(
                "pandas is not installed", allowed="polars(), which needs nothing more", fix="pip install pandas"
            ) from None
        return self.polars(of, columns).to_pandas()

    def pairs(
        self,
        transform: Callable[[Image], Any] | None = None,
        text: Callable[[PublishedSample], Any] | None = None,
        split: str | None = None,
    ) -> ImageTextPairs:
        """Return a map-style data set for torch: picture and text of each sample.

        Args:
            transform: What becomes of the picture, such as a model's ``preprocess``; None leaves it a PIL image.
            text: What is taken of the sample beside the picture; None takes its first caption. It may return anything
                that the loader can put together. A loader with worker processes needs functions that can be pickled.
            split: Only this split.

        Raises:
            InputError: no samples of that split.
        """
        from flows.api.pairs import ImageTextPairs

        samples = self.samples if split is None else self.samples.of_split(split)
        return ImageTextPairs(samples, transform, text or first_caption)


@with_settings
def open_version(
    ref: str, *, workspace: str | Path = "workspace", manifests: str | Path = "data_manifests"
) -> OpenVersion:
    """Open a version.

    Args:
        ref: ``name@X.Y.Z``; ``name@X`` and ``name`` mean the newest that fits.
        workspace: Folder of shards.
        manifests: Folder of manifests.

    Raises:
        InputError: no such name or version, or its shards are not in this workspace.
    """
    return OpenVersion(Catalog(Path(manifests), Path(workspace)).open(ref))


def _several(names: str | Sequence[str]) -> Sequence[str]:
    """Return one name as a list of one."""
    return [names] if isinstance(names, str) else names
