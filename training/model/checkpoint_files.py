"""Configs and weight files: which names exist, what a file is by content, and how foreign weights are read safely."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from data_manifests.errors import InputError
from data_manifests.seeds import canonical
from training.model import weight_packages

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SHIPPED = Path(__file__).parent / "model_configs"
MODEL_FILE = "model.json"
MAX_JSON_BYTES = 4 << 20
TWO_TOWER_FIELDS = {"kind", "embed_dim", "image", "text", "projection", "lora", "notes"}
IMAGE_FIELDS = {"timm", "size_px", "mean", "std", "interpolation", "weights", "pool"}
TEXT_FIELDS = {"model_type", "config", "weights", "tokenizer", "context_length", "pooling"}
PROJECTION_FIELDS = {"kind", "hidden", "dropout"}


@functools.cache
def shipped_names() -> tuple[str, ...]:
    """Return the names of the configs in `training/model/model_configs`."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.json")))


@functools.cache
def _open_clip_configs() -> Mapping[str, Path]:
    """Return open_clip's architecture files by name, without importing open_clip."""
    found = importlib.util.find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        return {}
    folder = Path(found.submodule_search_locations[0]) / "model_configs"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


@functools.cache
def known_names() -> tuple[str, ...]:
    """Return every bare name a spec may use: shipped configs, then open_clip architectures."""
    return (*shipped_names(), *(name for name in _open_clip_configs() if name not in shipped_names()))


def architecture_file(name: str) -> Path:
    """Return the config file behind one of `known_names`."""
    return SHIPPED / f"{name}.json" if name in shipped_names() else _open_clip_configs()[name]


def read_config(path: Path) -> dict[str, Any]:
    """Return the checked config of a file: one of ours, open_clip's own, or the config of an open_clip folder.

    Raises:
        InputError: not JSON, too big, or a field is missing or unknown.
    """
    config = read_json(path)
    if isinstance(config.get("model_cfg"), dict):
        config = {**config["model_cfg"], "preprocess_cfg": config.get("preprocess_cfg", {})}
    return check_config(config, f"model config {path}")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a small file.

    Raises:
        InputError: missing, over 4 MiB, not JSON or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes", allowed=f"at most {MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})", fix="check the file") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}", allowed="a JSON object")
    return value


def check_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the config when its fields are known and complete.

    Raises:
        InputError: naming the field.
    """
    if config.get("kind") != "two_tower":
        missing = [name for name in ("embed_dim", "vision_cfg", "text_cfg") if name not in config]
        if missing:
            raise InputError(
                f"{where}: no '{missing[0]}'",
                allowed='an open_clip config (embed_dim, vision_cfg, text_cfg), or "kind": "two_tower"',
            )
        if "multimodal_cfg" in config:
            raise InputError(f"{where}: a captioning model (multimodal_cfg)", allowed="contrastive two-tower models")
        return config
    optional = {"lora", "notes", "pool"}
    for name, fields in (
        ("", TWO_TOWER_FIELDS), ("image", IMAGE_FIELDS), ("text", TEXT_FIELDS), ("projection", PROJECTION_FIELDS)
    ):  # fmt: skip
        part = config.get(name) if name else config
        if not isinstance(part, dict):
            raise InputError(
                f"{where}: '{name}' is not an object", allowed=f"an object with {', '.join(sorted(fields))}"
            )
        wrong = sorted(set(part) - fields) or sorted(fields - set(part) - optional)
        if wrong:
            raise InputError(
                f"{where}: field '{name + '.' if name else ''}{wrong[0]}' is unknown or missing",
                allowed=", ".join(sorted(fields)),
                fix="write it as image.pool" if wrong[0] == "pool" else "",
            )
    if config["image"].get("pool") not in (None, "attention"):
        raise InputError(
            f"{where}: image.pool {config['image']['pool']!r}",
            allowed="'attention', or null for the image tower's own pooling",
        )
    known = [f"package:{name}" for name in weight_packages.PACKAGES]
    for source in _sources(config):
        if source.startswith("package:") and source not in known:
            raise InputError(f"{where}: '{source}' is not a package of weights we can read", allowed=", ".join(known))
    return config


def _sources(config: Mapping[str, Any]) -> list[str]:
    """Return where a two-tower config takes its weights and its tokenizer from."""
    sources = (config["image"]["weights"], config["text"]["weights"], config["text"]["tokenizer"])
    return [str(source) for source in sources if source]


def is_pretrained(config: Mapping[str, Any]) -> bool:
    """Return whether both towers of a two-tower config have pretrained weights, so that only projections are random."""
    return config.get("kind") == "two_tower" and bool(config["image"]["weights"] and config["text"]["weights"])


def uses_hub(config: Mapping[str, Any]) -> bool:
    """Return whether a two-tower config takes weights or its tokenizer from the hub."""
    return config.get("kind") == "two_tower" and any(source.startswith("hub") for source in _sources(config))


def file_hash(path: Path) -> str:
    """Return BLAKE3-128 (hex) of a file's bytes; remembered until its size or time changes.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        stat = path.stat()
        return _file_hash(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror}", fix="check the path") from error


@functools.lru_cache(maxsize=64)
def _file_hash(path: str, *_changes: int) -> str:
    return blake3().update_mmap(path).hexdigest(length=16)


def state_hash(tensors: Mapping[str, Tensor] | torch.nn.Module) -> str:
    """Return BLAKE3-128 (hex) of named tensors: names, types, shapes and bits, in the names' order."""
    state: Mapping[str, Tensor] = tensors if isinstance(tensors, Mapping) else tensors.state_dict()
    digest = blake3()
    for name in sorted(state):
        array: np.ndarray[Any, Any] = state[name].detach().cpu().contiguous().numpy()
        digest.update(canonical([name, str(array.dtype), list(array.shape)]))
        digest.update(np.atleast_1d(array).view(np.uint8).data)
    return digest.hexdigest(length=16)


def random_identity(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return what a model drawn from a config is made of: config, seed and the package files it starts from."""
    identity: dict[str, Any] = {"config": {key: config[key] for key in config if key != "notes"}, "seed": seed}
    if config.get("kind") == "two_tower":
        sources = [source for source in (config["image"]["weights"], config["text"]["weights"]) if source]
        identity["files"] = {source: file_hash(weight_packages.package_file(source)) for source in sorted(set(sources))}
        tokenizer = config["text"]["tokenizer"]
        if tokenizer.startswith("package:"):
            identity["tokenizer"] = file_hash(weight_packages.package_file(tokenizer, "tokenizer"))
    return identity


def find_checkpoint(folder: Path) -> Path:
    """Return the weights file of an open_clip folder.

    Raises:
        InputError: none, or several with none of open_clip's names.
    """
    names = ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")
    for name in names:
        for suffix in (".safetensors", ".bin", ".pth", ".pt"):
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    raise InputError(
        f"model folder {folder}: no weights in it", allowed=f"{', '.join(names)} + .safetensors, .bin, .pt"
    )


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by the names that the file has; nothing in it is executed.

    Raises:
        InputError: damaged, or holds more than tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        if "TorchScript" in str(error):
            raise InputError(
                f"weights {path}: a TorchScript archive: it holds code",
                allowed="a state dict that torch.load(weights_only=True) reads, or .safetensors",
                fix="OpenAI's own models are ARCH:openai, such as ViT-B-32:openai; save others' state_dict() as .safetensors",
            ) from error
        raise InputError(
            f"weights {path}: cannot be read ({first_line(error)})", fix="fetch or save the file again"
        ) from error
    except Exception as error:  # torch raises pickle.UnpicklingError for code, KeyError for junk
        raise InputError(
            f"weights {path}: not a plain file of tensors ({first_line(error)})",
            allowed="a state dict that torch.load(weights_only=True) reads, or .safetensors",
            fix="save it again as .safetensors",
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(hasattr(value, "shape") for value in state.values()):
        held = f"a dict of {', '.join(map(str, state))}" if isinstance(state, dict) else f"a {type(loaded).__name__}"
        raise InputError(
            f"weights {path}: not a state dict but {held[:200]}", allowed="names to tensors, or {'state_dict': ...}"
        )
    return state


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without what torch.compile (``_orig_mod.``) and data-parallel training (``module.``) put into names."""
    return {_WRAPPED.sub("", name.replace("_orig_mod.", "")): value for name, value in state.items()}


_WRAPPED = re.compile(r"^(module\.)+")
TRANSFORMERS_FIX = "take the same model in open_clip's format (open_clip_model.safetensors, or ARCH:TAG from the hub), or rename the tensors"
_FOREIGN = (
    (r"(^|\.)(vision_model|text_model)\.", "a state dict of Hugging Face transformers", TRANSFORMERS_FIX),
    (r"\.lora_[AB]\.", "a LoRA adapter without its model", "merge it into its model and save that one's state dict"),
)


def check_layout(state: Mapping[str, Tensor], path: Path) -> None:
    """Check that a state dict is not of a library whose names open_clip cannot read.

    Raises:
        InputError: it is; the message says whose.
    """
    for pattern, what, fix in _FOREIGN:
        found = next((name for name in state if re.search(pattern, name)), None)
        if found is not None:
            raise InputError(
                f"weights {path}: {what} (it has '{found}')",
                allowed="the names of open_clip and OpenAI's CLIP, such as 'visual.conv1.weight'",
                fix=fix,
            )


def check_finite(state: Mapping[str, Tensor], what: str) -> None:
    """Check that weights are finite numbers.

    Raises:
        InputError: they are not; the message names the first such tensor.
    """
    bad = [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        number = int((~state[bad[0]].isfinite()).sum())
        more = f", and some in {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise InputError(
            f"{what}: {number:,} of {state[bad[0]].numel():,} weights in '{bad[0]}' are NaN or infinite{more}",
            allowed="finite weights",
            fix="take an earlier checkpoint: the training that wrote this one most likely diverged",
        )


@contextlib.contextmanager
def library_errors(message: str, fix: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors of a library into an `InputError` with the first line of what it says."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        raise InputError(f"{message} ({first_line(error)})", fix=fix) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, with the next one after a colon, or its type when it has none."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200]
