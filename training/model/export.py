"""A model in the layouts of other libraries: open_clip's folder, transformers' `CLIPModel`, peft's adapter.

| format | files | who reads it |
| --- | --- | --- |
| `open_clip` | `open_clip_config.json`, `open_clip_model.safetensors` | `open_clip.create_model_and_transforms("local-dir:DIR")`, `--model DIR` |
| `hf` | `config.json`, `model.safetensors`, tokenizer, `preprocessor_config.json` | `transformers.CLIPModel.from_pretrained(DIR)` |
| `adapter` | `adapter_config.json`, `adapter_model.safetensors`, `head.safetensors` | `peft.PeftModel.from_pretrained(base, DIR)` |

Weights are those that a run is loaded with: adapters folded in, float32. A layout that cannot hold the architecture is
refused before anything is loaded or written.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_manifests.errors import InputError
from training.model import checkpoint_files, run_folder
from training.model.context_tokens import context_of

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import ClipModel

FORMATS = ("open_clip", "hf", "adapter")
OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"

_NOT_OPEN_CLIP = ("preprocess_cfg", "notes", "lora")
"""Entries of our configs that open_clip does not know."""
_TOWER_FIELDS: Mapping[str, frozenset[str]] = {
    "vision_cfg": frozenset(
        ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout")
    ),
    "text_cfg": frozenset(("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")),
}
"""Settings of open_clip's towers that transformers' CLIP has too, or that change nothing after training."""
_SPECIAL_TOKENS = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}

_BLOCK_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.*?)[._](weight|bias)")
_OTHER_PARTS = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}


def write_export(run: Path, layout: str, folder: Path) -> None:
    """Write a run's model into an empty folder.

    Args:
        run: A run folder.
        layout: One of `FORMATS`.
        folder: Where its files go.

    Raises:
        InputError: the run is damaged, or the layout cannot hold its architecture.
    """
    record = run_folder.read_record(run)
    if layout == "adapter":
        _write_adapter(run, record, folder)
        return
    checks: Mapping[str, Callable[[Mapping[str, Any]], str]] = {"open_clip": _not_open_clip, "hf": _not_transformers}
    if problem := checks[layout](record["config"]):
        raise _unfit(run, record, layout, problem)
    model = run_folder.load_run_model(run)
    context = context_of(model)
    if context is not None:
        raise InputError(
            f"{run}: cannot be written as '{layout}': its texts begin with {len(context)} learned context tokens",
            allowed="runs without --tune prompt in their history: other libraries' tokenizers write no context tokens",
            fix="give the run folder itself to who needs the model; --model RUN reads it",
        )
    checkpoint_files.check_finite(model.module.state_dict(), f"run {run}")
    (_write_open_clip if layout == "open_clip" else _write_transformers)(model, folder)


def _unfit(run: Path, record: Mapping[str, Any], layout: str, problem: str) -> InputError:
    others = [
        name
        for name, fits in (
            ("open_clip", not _not_open_clip(record["config"])),
            ("hf", not _not_transformers(record["config"])),
            ("adapter", record["tune"] == "lora"),
        )
        if fits and name != layout
    ]
    return InputError(
        f"{run}: cannot be written as '{layout}': {problem}",
        allowed=f"--format {' or '.join(others)} for this run" if others else "--model RUN, which reads the run itself",
        fix=f"--format {others[0]}" if others else "give the run folder itself to who needs the model",
    )


def _not_open_clip(config: Mapping[str, Any]) -> str:
    """Return why open_clip cannot build a config; empty if it can."""
    if config.get("kind") == "two_tower":
        return "open_clip has no architecture of two separate towers with heads of their own (kind two_tower)"
    return ""


def _not_transformers(config: Mapping[str, Any]) -> str:
    """Return why transformers' CLIPModel cannot have the weights of a config; empty if it can."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    if problem := _not_open_clip(config):
        without = problem.replace("open_clip has", "transformers' CLIP has")
        return (
            f"{without}, and VisionTextDualEncoder passes a text's first token "
            f"through a tanh (BERT) or has no pooling (DistilBERT), where this text tower pools by '{config['text']['pooling']}'"
        )
    known = {"embed_dim", "quick_gelu", "custom_text", "vision_cfg", "text_cfg", *_NOT_OPEN_CLIP}
    if odd := sorted(set(config) - known):
        return f"transformers' CLIP has no '{odd[0]}'"
    for part, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        usual, given = asdict(kind()), config[part]
        for name, value in given.items():
            if name not in _TOWER_FIELDS[part] and value != usual.get(name):
                return f"transformers' CLIP has no {part}.{name} = {value!r}"
    if not isinstance(config["vision_cfg"].get("layers", 12), int):
        return "transformers' CLIP has no ResNet as image tower"
    return ""


def _write_open_clip(model: ClipModel, folder: Path) -> None:
    """Write open_clip's folder."""
    from safetensors.torch import save_file

    config = {name: value for name, value in model.config.items() if name not in _NOT_OPEN_CLIP}
    preprocess: dict[str, Any] = dict(model.module.visual.preprocess_cfg)  # type: ignore[union-attr, arg-type]
    shown = {name: preprocess[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in preprocess}
    _write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": shown})
    state = {name: value.contiguous().clone() for name, value in model.module.state_dict().items()}
    save_file(state, str(folder / OPEN_CLIP_WEIGHTS), metadata={"format": "pt"})
    own: Any = getattr(model.tokenizer, "tokenizer", None)
    if hasattr(own, "save_pretrained"):
        own.save_pretrained(str(folder))


def _write_transformers(model: ClipModel, folder: Path) -> None:
    """Write what `transformers.CLIPModel`, `CLIPTokenizer` and `CLIPImageProcessor` read."""
    from transformers import CLIPConfig, CLIPModel

    vision, text = model.config["vision_cfg"], model.config["text_cfg"]
    act, width = "quick_gelu" if model.config.get("quick_gelu") else "gelu", vision.get("width", 768)
    text_width = text.get("width", 512)
    config = CLIPConfig(
        projection_dim=model.embed_dim,
        vision_config={
            "hidden_size": width,
            "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": vision.get("layers", 12),
            "num_attention_heads": width // vision.get("head_width", 64),
            "image_size": model.image_size_px,
            "patch_size": vision.get("patch_size", 16),
            "hidden_act": act,
            "projection_dim": model.embed_dim,
        },
        text_config={
            "vocab_size": text.get("vocab_size", 49408),
            "hidden_size": text_width,
            "intermediate_size": int(text_width * text.get("mlp_ratio", 4.0)),
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 8),
            "max_position_embeddings": model.context_length,
            "hidden_act": act,
            "projection_dim": model.embed_dim,
        },
    )
    other = CLIPModel(config)
    with checkpoint_files.library_errors(
        "the weights do not fit transformers' CLIPModel", "--format open_clip", RuntimeError
    ):
        other.load_state_dict(transformers_state(model.module.state_dict()), strict=True)
    other.save_pretrained(str(folder))
    _write_tokenizer(model, folder)
    _write_json(folder / "preprocessor_config.json", _image_processor(model))


def transformers_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an open_clip model by the names, and in the shapes, of transformers' `CLIPModel`."""
    found: dict[str, Tensor] = {}
    for long_name, value in state.items():
        name = long_name.removeprefix("text.")
        if block := _BLOCK.fullmatch(name):
            where = f"{'vision' if block[1] else 'text'}_model.encoder.layers.{block[2]}"
            if block[3] == "attn.in_proj":
                for part, piece in zip("qkv", value.chunk(3), strict=True):
                    found[f"{where}.self_attn.{part}_proj.{block[4]}"] = piece.contiguous()
            else:
                found[f"{where}.{_BLOCK_PARTS[block[3]]}.{block[4]}"] = value
        elif name in _TRANSPOSED:
            found[_TRANSPOSED[name]] = value.T.contiguous()
        elif name != "attn_mask":
            found[_OTHER_PARTS.get(name, name)] = value
    return found


def _write_tokenizer(model: ClipModel, folder: Path) -> None:
    """Write open_clip's byte-pair vocabulary as transformers' `CLIPTokenizer`."""
    from transformers import CLIPTokenizer

    own: Any = model.tokenizer
    vocabulary = {_SPECIAL_TOKENS.get(token, token): number for token, number in own.encoder.items()}
    merges = list(own.bpe_ranks)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=model.context_length).save_pretrained(str(folder))


def _image_processor(model: ClipModel) -> dict[str, Any]:
    """Return the settings of `CLIPImageProcessor` that stand for the model's own preprocessing."""
    preprocess: Any = dict(model.module.visual.preprocess_cfg)  # type: ignore[union-attr, arg-type]
    side = {"height": model.image_size_px, "width": model.image_size_px}
    shortest = preprocess.get("resize_mode", "shortest") == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": model.image_size_px} if shortest else side,
        "resample": {"bilinear": 2, "bicubic": 3}[preprocess.get("interpolation", "bicubic")],
        "do_center_crop": shortest,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess["mean"]),
        "image_std": list(preprocess["std"]),
    }


def _write_adapter(run: Path, record: Mapping[str, Any], folder: Path) -> None:
    """Copy a LoRA run's adapter, and what it trained beside it."""
    if record["tune"] != "lora":
        raise _unfit(run, record, "adapter", f"the run was tuned '{record['tune']}' and has no adapter")
    for name in run_folder.ADAPTER_FILES:
        shutil.copyfile(run / name, folder / Path(name).name)
    shutil.copyfile(run / "head.safetensors", folder / "head.safetensors")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_bytes(json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")
