"""Images of published classification sets where their archives, or torchvision, put them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_manifests.errors import InputError
from flows.evaluation.cifar import find_cifar, read_cifar
from flows.evaluation.class_names import IMAGENET, imagenet_folders, load_class_names
from training.evaluate.image_files import ImageFile
from training.evaluate.small_files import read_lines

TRAIN = "train"
"""The split that is not the test images."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of a published data set.

    Attributes:
        name: The data set's, as in `class_names`.
        images: (class's folder, name of the image, image), in the data set's order.
    """

    name: str
    images: Sequence[tuple[str, str, ImageFile]]


@dataclass(frozen=True)
class FolderOfClasses:
    """A folder of a published data set that has one subfolder of images for each class.

    Attributes:
        name: The data set's, as in `class_names`.
        folder: The folder.
        left_out: Subfolders that are no classes.
    """

    name: str
    folder: Path
    left_out: tuple[str, ...] = ()


def find_labelled_images(folder: Path, split: str | None) -> LabelledImages | FolderOfClasses | None:
    """Return a published data set in its own layout; None for any other folder.

    Known are CIFAR-10 and CIFAR-100 (binary and Python version), Food-101, Oxford-IIIT Pet, Caltech-101 and ImageNet. Test
    images, ImageNet's validation images, or with the split ``train`` those for training; Caltech-101 has no splits.

    Raises:
        InputError: a file of it cannot be read.
    """
    train = split == TRAIN
    if found := find_cifar(folder, train=train):
        images, labels = read_cifar(found)
        classes = list(load_class_names(found.name).classes)
        named = [(classes[label], "/".join(image.path.parts[-2:])) for image, label in zip(images, labels, strict=True)]
        return LabelledImages(found.name, [(*name, image) for name, image in zip(named, images, strict=True)])
    for root in (folder, folder / "food-101"):
        listed = root / "meta" / ("train.txt" if train else "test.txt")
        if listed.is_file() and (root / "images").is_dir():
            lines = [line.rpartition("/") for _, line in read_lines(listed)]
            return _listed("food101", root, listed, [(label, f"{label}/{name}.jpg") for label, _, name in lines])
    for root in (folder, folder / "oxford-iiit-pet"):
        listed = root / "annotations" / ("trainval.txt" if train else "test.txt")
        if listed.is_file() and (root / "images").is_dir():
            names = [line.split()[0] for _, line in read_lines(listed) if not line.startswith("#")]
            return _listed("pets", root, listed, [(name.rpartition("_")[0], f"{name}.jpg") for name in names])
    for root in (folder, folder / "caltech101", folder / "caltech-101"):
        if (inner := root / "101_ObjectCategories").is_dir():
            return FolderOfClasses("caltech101", inner, ("BACKGROUND_Google",))
    inner = folder / (TRAIN if train else "val")
    for root in (folder, inner):
        if _is_imagenet(root):
            return FolderOfClasses(IMAGENET, root)
    return None


def _listed(name: str, root: Path, listed: Path, entries: Sequence[tuple[str, str]]) -> LabelledImages:
    """Return images that a list names, of known classes and below the folder.

    Raises:
        InputError: an entry of the list is neither.
    """
    known = load_class_names(name).classes
    for number, (label, path) in enumerate(entries, start=1):
        if label not in known or ".." in path.split("/"):
            raise InputError(
                f"{listed} entry {number}: {path!r} is of no class of {name}",
                allowed=f"{next(iter(known))} and {len(known) - 1} others",
                fix="unpack the data set's own archives, all into one folder",
            )
    return LabelledImages(name, [(label, path, ImageFile(root / "images" / path)) for label, path in entries])


def _is_imagenet(folder: Path) -> bool:
    """Return whether a folder's subfolders, two or more, are classes of ImageNet: all of them, or 100 as in ImageNet-100."""
    if not folder.is_dir():
        return False
    names = {entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."}
    return (
        len(names) > 1
        and all(name[:1] == "n" and name[1:].isdecimal() for name in names)
        and names <= imagenet_folders()
    )
