"""Small random models of every kind of tower, as configs."""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings
from pathlib import Path
from typing import Any

from data_manifests.seeds import canonical
from training.model import checkpoint_files
from training.model.clip_model import ClipModel
from training.model.spec import ModelSpec

KINDS = ("tiny", "assembly", "hybrid", "lite", "pooled", "patches", "resnet")


def write_config(folder: Path, kind: str) -> str:
    """Return the model spec of a small model.

    `tiny`: open_clip's own ViT and text transformer. `assembly`: a timm ViT and a DistilBERT. `hybrid`: a ResNet with batch
    normalisation and a BERT, the shape of lite0_minilm; `lite`: its own image tower; `pooled`: with an attention pool;
    `patches`: an attention pool over a ViT. `resnet`: open_clip's own ResNet.
    """
    if kind == "tiny":
        return kind
    config = {"resnet": _resnet, "assembly": _assembly, "patches": _assembly}.get(kind, _hybrid)()
    if kind in ("pooled", "patches"):
        config["image"] |= {"pool": "attention", "size_px": 64}
    if kind == "lite":
        config["image"]["timm"] = "tf_efficientnet_lite0"
    path = folder / f"{kind}.json"
    path.write_bytes(canonical(config))
    return str(path)


def _assembly() -> dict[str, Any]:
    config = checkpoint_files.read_json(checkpoint_files.SHIPPED / "vit_small_distilbert.json")
    config["image"] |= {"timm": "vit_tiny_patch16_224", "size_px": 32}
    config["text"]["config"] |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    return config | {"embed_dim": 24}


def _hybrid() -> dict[str, Any]:
    config = checkpoint_files.read_json(checkpoint_files.SHIPPED / "lite0_minilm.json")
    config["image"] |= {"timm": "resnet10t", "size_px": 32, "weights": None}
    config["text"] |= {"weights": None}
    config["text"]["config"] |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                                 "intermediate_size": 64}  # fmt: skip
    config["projection"]["hidden"] = 16
    return config | {"embed_dim": 24}


def _resnet() -> dict[str, Any]:
    config = checkpoint_files.read_json(checkpoint_files.SHIPPED / "tiny.json")
    config["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    return config


@functools.cache
def _built(spec: str) -> ClipModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ModelSpec.parse(spec).load()


def load(spec: str) -> ClipModel:
    """Return a model of its own each time; it is built once."""
    model = _built(spec)
    return dataclasses.replace(model, module=copy.deepcopy(model.module), cuts={})
