"""Perceptual hashes, hash search, pixel check, near-duplicate captions and groups, against slow reference versions."""

from __future__ import annotations

import io
import random
import tracemalloc
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curation.dedup.captions import edits_within, plain_texts, same_caption_pairs, shared_caption_groups
from curation.dedup.groups import star_groups
from curation.dedup.hash_search import near_pairs
from curation.dedup.matching import Detectors, ImageSignatures, Match, candidates_between, candidates_within
from curation.dedup.perceptual_hash import GRID, MIRROR, NUM_WINDOWS, hash_grey, hash_image
from curation.dedup.pixel_check import agreements
from curation.engine.stage import Drop
from curation.sources.scenes import ScenesSource
from curation.stages.hygiene.check_images import CheckImages
from curation.stages.hygiene.find_duplicates import FindDuplicates
from curation.stages.hygiene.hash_images import HashImages
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.curation.listed_columns import ListedColumns
from tests.planted_copies import with_typo


def noise(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Return a grey picture with structure of every size."""
    draws = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cells in (3, 6, 12, 24):
        small = Image.fromarray((draws.random((cells, cells)) * 255).astype(np.uint8))
        total += np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    return np.clip(total / 4, 0, 255).astype(np.uint8)


def png(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    return buffer.getvalue()


def within(images: ImageSignatures, detectors: Detectors) -> list[Match]:
    return candidates_within(images, detectors).matches(detectors)


def between(images: ImageSignatures, other: ImageSignatures) -> list[Match]:
    every = np.arange(len(images.uids))
    return candidates_between(images, every, lambda: other, len(other.uids), Detectors()).matches(Detectors())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), radius=st.integers(0, 15), near=st.integers(0, 40))
def test_hash_search_equals_a_full_comparison(seed: int, radius: int, near: int) -> None:
    draws = np.random.default_rng(seed)
    known = draws.integers(0, 2**64, 50, dtype=np.uint64)
    queries = np.concatenate([draws.integers(0, 2**64, 10, dtype=np.uint64), draws.choice(known, near)])
    for at in range(len(queries)):
        for bit in draws.integers(0, 64, draws.integers(0, 20)).tolist():
            queries[at] ^= np.uint64(1 << bit)
    table = np.bitwise_count(queries[:, None] ^ known[None, :])
    wanted = [(q, k, table[q, k]) for q, k in np.argwhere(table <= radius).tolist()]
    assert list(zip(*(part.tolist() for part in near_pairs(queries, known, radius)), strict=True)) == wanted


def test_hash_search_of_no_hashes_and_with_too_large_a_radius() -> None:
    empty, some = np.zeros(0, np.uint64), np.ones(3, np.uint64)
    assert [len(part) for part in near_pairs(empty, some, 5)] == [0, 0, 0]
    assert [len(part) for part in near_pairs(some, empty, 5)] == [0, 0, 0]
    with pytest.raises(ValueError, match="radius 16"):
        near_pairs(some, some, 16)


@pytest.mark.parametrize(("height", "width"), [(120, 160), (97, 211), (33, 31), (5, 7)])
def test_a_mirrored_image_has_the_mirrored_hash(height: int, width: int) -> None:
    grey = noise(3, height, width)
    here, there = hash_grey(grey), hash_grey(grey[:, ::-1])
    wrong = int(np.bitwise_count(there.windows[0] ^ here.windows[0] ^ np.uint64(MIRROR)))
    assert wrong <= 2, "more than coefficients that are zero but for rounding down"
    assert abs(there.thumbnail[:, ::-1].astype(int) - here.thumbnail).max() <= 1


def test_the_hash_does_not_depend_on_the_file_format() -> None:
    grey = noise(1)
    found = hash_image(png(grey), "it")
    assert np.array_equal(found.windows, hash_grey(grey).windows) and found.windows.shape == (NUM_WINDOWS,)
    double = Image.fromarray(grey).resize((320, 240), Image.Resampling.BOX)
    assert np.bitwise_count(hash_grey(np.asarray(double)).windows ^ found.windows).max() <= 1
    for mode in ("RGBA", "CMYK", "L", "P"):
        buffer = io.BytesIO()
        picture = Image.fromarray(grey).convert("RGB").convert(mode)
        picture.save(buffer, format="JPEG" if mode in ("CMYK", "L") else "PNG", quality=95)
        other = hash_image(buffer.getvalue(), mode)
        assert np.bitwise_count(other.windows[0] ^ found.windows[0]) <= 4, mode


def test_a_strip_is_hashed_in_little_memory() -> None:
    strip = noise(4, 2, 2**20)
    tracemalloc.start()
    wide, tall = hash_grey(strip), hash_grey(strip.T)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(wide.thumbnail, tall.thumbnail.T) and wide.windows.shape == (NUM_WINDOWS,)
    assert peak < 24 * strip.nbytes, "more than one number of eight bytes for each pixel, twice"


def test_flat_images_match_nothing() -> None:
    flat = hash_grey(np.full((64, 64), 200, np.uint8))
    assert flat.windows.size == 0 and flat.thumbnail.shape == (GRID, GRID)
    pictures = ImageSignatures(["a", "b"], ["", ""], np.stack([flat.thumbnail] * 2))
    assert within(pictures, Detectors(neighbours=0)) == []


def test_pixel_check_distinguishes_a_copy_from_another_image() -> None:
    one, other = Image.fromarray(noise(1)), Image.fromarray(noise(2))
    window = one.crop((5, 2, 152, 115)).resize((90, 70))
    seen = [hash_grey(np.asarray(picture)).thumbnail for picture in (one, window, ImageOps.mirror(window), other)]
    images = np.stack([*seen, np.zeros((GRID, GRID), np.uint8)])
    pairs = np.array([(0, 0), (0, 1), (0, 2), (1, 0), (0, 3), (0, 4)])
    same, *copies, other_image, flat = agreements(images, images, pairs).tolist()
    assert same == 1.0
    assert min(copies) > 0.75
    assert other_image < 0.5
    assert flat <= 0.0


def test_the_pixel_check_of_a_pair_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.stack([hash_grey(noise(seed)[3 * seed :, : 160 - seed]).thumbnail for seed in (1, 1, 2, 2, 3)])
    pairs = np.array(list(combinations(range(5), 2)))
    found = agreements(images, images, pairs)
    assert (found > 0.7).sum() == 2
    assert np.array_equal(agreements(images, images, pairs[::-1])[::-1], found)
    monkeypatch.setattr("curation.dedup.pixel_check._PAIRS_AT_ONCE", 1)
    assert np.array_equal(agreements(images, images, pairs), found)


def test_matches_are_found_within_and_across() -> None:
    greys = [noise(seed) for seed in range(12)]
    greys[7] = greys[2][3:115, 4:156]
    greys[9] = greys[4][:, ::-1]
    hashes = [hash_grey(grey) for grey in greys]
    pictures = ImageSignatures(
        [f"{at:032x}" for at in range(12)],
        [item.windows.astype(">u8").tobytes().hex() for item in hashes],
        np.stack([item.thumbnail for item in hashes]),
    )
    assert [(item.left, item.right) for item in within(pictures, Detectors())] == [(2, 7), (4, 9)]
    few = ImageSignatures(pictures.uids[7:], pictures.windows[7:], pictures.thumbnails[7:])
    found = {(item.left, item.right + 7) for item in between(pictures, few)}
    assert found == {(2, 7), (4, 9)} | {(at, at) for at in range(7, 12)}
    again = ImageSignatures(
        [*pictures.uids, "f" * 32], [*pictures.windows, pictures.windows[2]], pictures.thumbnails[[*range(12), 2]]
    )
    assert [(item.left, item.right) for item in within(again, Detectors())] == [(2, 7), (2, 12), (4, 9)]
    assert (12, 0) in {(item.left, item.right) for item in between(again, few)}
    vectors = np.eye(12, 16, dtype=np.float32)
    vectors[11] = vectors[3] * 0.98 + vectors[11] * 0.199
    embedded = ImageSignatures(pictures.uids, pictures.windows, pictures.thumbnails, vectors)
    alone = within(embedded, Detectors(similarity_alone=0.95))
    assert [(item.left, item.right) for item in alone] == [(2, 7), (3, 11), (4, 9)]
    assert alone[1].evidence()["by"] == ["embedding"]


def edit_distance(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for down, letter in enumerate(left, start=1):
        now = [down]
        for at, other in enumerate(right, start=1):
            now.append(min(row[at - 1] + (letter != other), row[at] + 1, now[-1] + 1))
        row = now
    return row[-1]


@settings(max_examples=200, deadline=None)
@given(left=st.text("abc ", max_size=12), right=st.text("abc ", max_size=12), limit=st.integers(0, 4))
def test_edits_within_equals_the_full_levenshtein_table(left: str, right: str, limit: int) -> None:
    assert edits_within(left, right, limit) == (edit_distance(left, right) <= limit)


def test_near_duplicate_captions_are_found_and_others_are_not() -> None:
    draw = random.Random(1)
    captions = [record.captions for record in ScenesSource("120@3").records()]
    originals = list(map(plain_texts, captions))
    copies = [[with_typo(text, draw) for text in each] for each in originals[:40]]
    pairs = same_caption_pairs([*originals, *map(plain_texts, copies)])
    found = {pair for pair, share in pairs.items() if share >= 0.5}
    planted = {(at, at + 120) for at in range(40)}
    assert len(planted & found) >= 38
    few = [["A dog."], ["a DOG"], ["a cat"], ["!!"]]
    assert same_caption_pairs(list(map(plain_texts, few))) == {(0, 1): 1.0}
    shared = [["A dog."], ["a dog", "x"], ["x"], ["y"], ["a dog"]]
    assert shared_caption_groups(list(map(plain_texts, shared))) == [0, 0, -1, -1, 0]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 20), seed=st.integers(0, 1000), largest=st.integers(2, 6))
def test_groups_are_stars_within_their_size(size: int, seed: int, largest: int) -> None:
    draws = np.random.default_rng(seed)
    pairs = [pair for pair in combinations(range(size), 2) if draws.random() < 0.2]
    groups = star_groups(size, pairs, largest)
    members = [at for group in groups for at in group]
    assert len(members) == len(set(members))
    assert groups == star_groups(size, [(two, one) for one, two in pairs[::-1]], largest)
    for group in groups:
        assert 2 <= len(group) <= largest
        assert any(all(hub == at or tuple(sorted((hub, at))) in pairs for at in group) for hub in group)


def test_a_chain_does_not_become_one_group() -> None:
    groups = star_groups(6, [(at, at + 1) for at in range(5)], 100)
    assert groups == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("richer", [0, 1])
def test_of_equally_large_copies_the_one_with_more_captions_stays(richer: int, tmp_path: Path) -> None:
    grey = noise(4)
    files = [png(grey), png(np.clip(grey.astype(int) + 2, 0, 255).astype(np.uint8))]
    captions = [("A wall .", "A wall .") for _ in files]
    captions[richer] = ("A wall .", "A grey wall .")
    samples = []
    for at, (data, texts) in enumerate(zip(files, captions, strict=True)):
        path = tmp_path / f"{at}.png"
        path.write_bytes(data)
        samples.append(Sample(image_uid(data), path.name, ImageRef(str(path)), texts))
    for stage in (CheckImages(), HashImages()):
        made = stage.process(samples)
        samples = [one.adding(row) for one, row in zip(samples, made, strict=True) if isinstance(row, dict)]
    thinned, columns = FindDuplicates(keep="one"), ListedColumns(samples)
    dropped = [
        uid
        for uid, row in zip(columns.uids, thinned.results(columns, thinned.update(columns, None)), strict=True)
        if isinstance(row, Drop)
    ]
    assert dropped == [samples[1 - richer].uid]


def test_settings_out_of_range_are_rejected() -> None:
    for make in (
        lambda: FindDuplicates(keep="some"),
        lambda: FindDuplicates(radius=16),
        lambda: FindDuplicates(largest_group=1),
    ):
        with pytest.raises(InputError, match="allowed"):
            make()
    assert "image_embedding" in FindDuplicates(embeddings=True).required_fields()


@pytest.mark.parametrize(("height", "width"), [(1, 1000), (1000, 1), (1, 1), (2, 3)])
def test_very_narrow_images_have_hashes(height: int, width: int) -> None:
    found = hash_grey(noise(3, 120, 160)[: max(1, height % 120), : max(1, width % 160)])
    assert found.windows.size in (0, NUM_WINDOWS) and found.thumbnail.shape == (GRID, GRID)
