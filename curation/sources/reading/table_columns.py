"""Which columns of a table have the image, the captions and the split: found by their usual names, or named by the user."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.sources.reading.files import shown
from curation.sources.reading.query import Query
from curation.sources.reading.table_rows import (
    attributes_of,
    captions_of,
    find_caption_columns,
    find_column,
    numbered_columns,
    split_of,
)
from data_manifests.errors import InputError, nearest

SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table that are no attributes.

    Attributes:
        image: The column with the image, or its file name.
        captions: The columns in which captions are looked for, besides numbered ones; those that the user named are all.
        split: The column with the split, which not every table has.
        are_named: Whether the user named the columns with captions.
    """

    image: str
    captions: tuple[str, ...]
    split: str
    are_named: bool

    def captions_of(self, row: Mapping[str, Any]) -> tuple[tuple[object, ...], set[str]]:
        """Return a row's captions, and the columns that are no attributes because captions are taken from them.

        Of several columns that the user named, blank ones are left out.

        Raises:
            ValueError: there are values, and none of them is text.
        """
        if not self.are_named:
            return captions_of(row, self.captions, numbered_columns(row))
        if len(self.captions) == 1:
            return captions_of(row, self.captions)
        return captions_of(row, (), self.captions)

    def split_of(self, row: Mapping[str, Any]) -> str | None:
        """Return a row's split.

        Raises:
            ValueError: it is not the name of a split.
        """
        return split_of(row, self.split)

    def attributes_of(self, row: Mapping[str, Any], used: Collection[str]) -> dict[str, Any]:
        """Return a row's other values; `used` are the columns that captions were taken from.

        Raises:
            ValueError: a value is nested too deeply.
        """
        return attributes_of(row, {self.image, self.split, *used})


def find_columns(
    table: Path, columns: Collection[str], query: Query, images: Sequence[str], content: str
) -> TableColumns:
    """Return which columns of a table are which.

    Args:
        table: The table's file, for error messages.
        columns: The columns that it has.
        query: What the user named: ``image``, ``caption``, ``split``.
        images: The usual names of the column with the image, most preferred first.
        content: What that column contains, for an error message.

    Raises:
        InputError: a column is missing, or is named twice for different things.
    """
    named = {column: option for option, values in query.items() for column in values}
    for column, option in named.items():
        if column not in columns:
            listed = ", ".join(shown(name, 40) for name in columns)
            raise InputError(
                f"{table}: no column '{shown(column, 40)}' ({option}=); its columns: {listed}",
                allowed="a column of the table, spelled as in its header",
                fix=nearest(column, columns) or "correct the name after '?'",
            )
    values = [value for option in query.values() for value in option]
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise InputError(
            f"{table}: column '{shown(twice, 40)}' is named for two things",
            allowed="one column each for image, caption and split",
            fix="correct the names after '?'",
        )
    try:
        image = query["image"][0] if "image" in query else find_column(table, columns, images, content)
        captions = query["caption"] if "caption" in query else find_caption_columns(table, columns)
    except InputError as error:
        fix = error.fix.replace(
            "rename the column", "name yours after the path, ?image=A&caption=B, or rename the column"
        )
        raise InputError(error.got, allowed=error.allowed, fix=fix) from None
    split = query["split"][0] if "split" in query else SPLIT_COLUMN
    return TableColumns(image, captions, split, "caption" in query)
