"""From a config to a model in memory: architectures, weights, tokenizers, image preprocessing."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from data_manifests.errors import InputError, nearest
from data_manifests.hub_access import asking_the_hub
from training.model import checkpoint_files, weight_packages
from training.model.checkpoint_files import library_errors
from training.model.clip_model import GROUPS, ClipModel
from training.model.image_transform import ImageTransform
from training.model.two_tower import AttentionPool, ImageTower, Projection, TextTower, TwoTowerCLIP, places_of

log = logging.getLogger(__name__)

_DROPOUT = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "distilbert": ("dropout", "attention_dropout"),
}
"""0 unless the config says otherwise, as in open_clip's own towers: equal texts stay equal, so each is encoded once."""


@dataclass(frozen=True)
class WordPiece:
    """A tokenizer file, padded to a fixed length; picklable, so that workers can have one.

    Attributes:
        source: A `tokenizers` JSON file, or `hub:NAME`.
        context_length: Tokens per text; longer texts are cut.
    """

    source: str
    context_length: int

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor:
        """Return int64 ids [n, context_length], padded with 0; another context than its own as open_clip's tokenizers."""
        tokenizer = _tokenizer(self.source, context_length or self.context_length)
        encoded = tokenizer.encode_batch([" ".join(text.split()) for text in texts])
        return torch.tensor([item.ids for item in encoded], dtype=torch.long)


@functools.cache
def _tokenizer(source: str, context_length: int) -> Any:
    # data workers are forked after the first call, and the library's own threads do not survive that
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    if source.startswith("hub:"):
        with _fetching(f"tokenizer '{source}'"):
            tokenizer = Tokenizer.from_pretrained(source.removeprefix("hub:"))
    else:
        tokenizer = Tokenizer.from_file(source)
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token="[PAD]")  # noqa: S106 - a token of text
    return tokenizer


@contextlib.contextmanager
def _fetching(what: str) -> Iterator[None]:
    """Turn any error of a hub client into one that names what was fetched; a hub that does not answer is left alone."""
    fix = "connect to the hub, or use a local checkpoint (ARCH:FILE) or 'lite0_minilm', which needs no hub"
    with asking_the_hub() as problem:
        message = f"{what}: could not be fetched from the hub" + (f": {problem}" if problem else "")
        with library_errors(message, fix, Exception):
            yield


def load_checkpoint(config: dict[str, Any], path: Path) -> ClipModel:
    """Build a config with the weights of a checkpoint file; open_clip's reader also knows older and foreign layouts.

    Raises:
        InputError: the file is damaged, holds more than tensors, is another library's, or does not fit the config.
    """
    stored = checkpoint_files.load_state(path)
    state = checkpoint_files.plain_names(stored)
    checkpoint_files.check_layout(state, path)
    model = build(config, 0, pretrained=False)
    message, fix = f"weights {path}: do not fit the architecture", "name the architecture they were trained with"
    with (
        tempfile.TemporaryDirectory() as folder,
        library_errors(message, fix, RuntimeError, KeyError, AttributeError, ValueError),
    ):
        if state.keys() != stored.keys():  # open_clip reads files, and knows only one of the prefixes
            path = Path(folder) / "plain.pt"
            torch.save(state, path)
        open_clip.load_checkpoint(model.module, str(path), strict=True, weights_only=True)
    return model


def load_hub(name: str, tag: str) -> ClipModel:
    """Build an open_clip architecture with weights from the hub (or its local cache).

    Raises:
        InputError: no such tag, or it could not be fetched.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise InputError(
            f"model '{name}:{tag}': '{name}' has no pretrained weights '{tag}'",
            allowed=", ".join(tags) or "none: use the bare name or ARCH:FILE",
            fix=nearest(tag, tags),
        )
    config = checkpoint_files.read_json(checkpoint_files.architecture_file(name))
    with _fetching(f"model '{name}:{tag}'"):
        module = open_clip.create_model(name, pretrained=tag)
    model = _finish(module, {**config, "preprocess_cfg": dict(module.visual.preprocess_cfg)})
    model.hub, model.public = (name, tag), frozenset(GROUPS)
    return model


def build(config: dict[str, Any], seed: int, *, pretrained: bool = True) -> ClipModel:
    """Return the model of a config, random where it names no weights.

    Args:
        config: See `training/models`; checked already.
        seed: Seed of everything drawn; the global generator is left as it was.
        pretrained: Whether to read the weights that a two-tower config names.

    Raises:
        InputError: an unknown architecture, or weights that are missing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _two_towers(config, pretrained) if config.get("kind") == "two_tower" else _open_clip_model(config)
    model = _finish(module, config)
    model.seed = seed
    if pretrained and config.get("kind") == "two_tower":
        model.public = frozenset(f"{side}_trunk" for side in ("image", "text") if config[side]["weights"])
    return model


def _open_clip_model(config: Mapping[str, Any]) -> nn.Module:
    fields = {key: copy.deepcopy(value) for key, value in config.items() if key not in ("preprocess_cfg", "notes")}
    hugging = fields["text_cfg"].get("hf_model_name")
    fields["text_cfg"]["hf_model_pretrained"] = False
    fields["vision_cfg"]["timm_model_pretrained"] = False
    kind = CustomTextCLIP if fields.pop("custom_text", False) or hugging else CLIP
    fetching = _fetching(f"config of the text model '{hugging}'") if hugging else contextlib.nullcontext()
    message, fix = "model config: open_clip refuses it", "compare it with tiny.json"
    with fetching, library_errors(message, fix, TypeError, KeyError, AssertionError):
        model: nn.Module = kind(**fields)
    return model


def _two_towers(config: Mapping[str, Any], pretrained: bool) -> nn.Module:
    image, text, projection = config["image"], config["text"], config["projection"]
    trunk = _timm_trunk(image, pretrained)
    transformer = _hugging_face(text, pretrained)
    width = transformer.config.hidden_size
    heads = [Projection(width, config["embed_dim"], **projection) for width in (trunk.num_features, width)]
    # drawn last: the other weights are those of the same seed without a pool
    pool = _attention_pool(trunk, image) if image.get("pool") else None
    return TwoTowerCLIP(ImageTower(trunk, heads[0], image["size_px"], pool), TextTower(transformer, heads[1], text))


def _attention_pool(trunk: Any, image: Mapping[str, Any]) -> AttentionPool:
    trunk.eval()
    with torch.no_grad():
        features = trunk.forward_features(torch.zeros(1, 3, image["size_px"], image["size_px"]))
    width = trunk.num_features
    if features.ndim not in (3, 4) or features.shape[1 if features.ndim == 4 else 2] != width:
        raise InputError(
            f"model config: image.pool 'attention' over features of the shape {tuple(features.shape)} ('{image['timm']}')",
            allowed=f"timm models that give [n, {width}, height, width] or [n, tokens, {width}]",
            fix="leave image.pool out",
        )
    return AttentionPool(width, places_of(features).shape[1])


def _timm_trunk(image: Mapping[str, Any], pretrained: bool) -> Any:
    import timm

    source, name = image["weights"] if pretrained else None, image["timm"]
    if not timm.is_model(name):
        raise InputError(f"model config: timm has no model '{name}'", fix=nearest(name, timm.list_models()))
    with _fetching(f"image tower '{name}'") if source == "hub" else contextlib.nullcontext():
        trunk: Any = timm.create_model(name, pretrained=source == "hub", num_classes=0)
    if hasattr(trunk, "set_input_size"):
        trunk.set_input_size(img_size=image["size_px"])
    if source and source != "hub":
        path = weight_packages.package_file(source)
        state = weight_packages.from_efficientnet_lite0(
            checkpoint_files.load_state(path), [len(stage) for stage in trunk.blocks]
        )
        _load_strictly(trunk, state, source)
    return trunk


def _hugging_face(text: Mapping[str, Any], pretrained: bool) -> Any:
    import transformers

    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "bert": (transformers.BertConfig, transformers.BertModel, {"add_pooling_layer": False}),
        "distilbert": (transformers.DistilBertConfig, transformers.DistilBertModel, {}),
    }
    if text["model_type"] not in kinds:
        raise InputError(f"model config: text.model_type '{text['model_type']}'", allowed=", ".join(kinds))
    make_config, make_model, options = kinds[text["model_type"]]
    source = text["weights"] if pretrained else None
    if source and source.startswith("hub:"):
        with _fetching(f"text tower '{source}'"):
            return make_model.from_pretrained(source.removeprefix("hub:"), **options)
    model = make_model(make_config(**{**dict.fromkeys(_DROPOUT[text["model_type"]], 0.0), **text["config"]}), **options)
    if source:
        state = checkpoint_files.load_state(weight_packages.package_file(source))
        unused = ("pooler.", "embeddings.position_ids")
        _load_strictly(model, {name: value for name, value in state.items() if not name.startswith(unused)}, source)
    return model


def _load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise InputError(
            f"weights '{source}': do not fit the config ({error})", fix="compare it with lite0_minilm.json"
        ) from error


def _finish(module: nn.Module, config: dict[str, Any]) -> ClipModel:
    """Return a built module with its preprocessing and tokenizer."""
    visual = cast("Any", module).visual
    two_tower = config.get("kind") == "two_tower"
    size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
    if two_tower:
        given = {key: config["image"][key] for key in ("mean", "std", "interpolation")}
    else:
        given = {key: value for key, value in config.get("preprocess_cfg", {}).items() if key != "size"}
    preprocess = PreprocessCfg(**{**asdict(PreprocessCfg()), **given, "size": size})
    set_model_preprocess_cfg(module, asdict(preprocess))
    tokenizer, pad_id = _two_tower_tokenizer(config["text"]) if two_tower else _open_clip_tokenizer(config["text_cfg"])
    module.eval()
    return ClipModel(
        module=module,
        preprocess=ImageTransform.of(preprocess, size),
        tokenizer=tokenizer,
        image_size_px=size,
        context_length=tokenizer.context_length,
        embed_dim=config["embed_dim"],
        pad_id=pad_id,
        config=config,
    )


def _two_tower_tokenizer(text: Mapping[str, Any]) -> tuple[Any, int]:
    source = text["tokenizer"]
    if source.startswith("package:"):
        if source != text["weights"]:
            log.info("tokenizer: the uncased BERT vocabulary of %s (DistilBERT's is the same)", source)
        source = str(weight_packages.package_file(source, "tokenizer"))
    return WordPiece(source, text["context_length"]), 0


@functools.cache
def _simple_tokenizer(context_length: int, options: tuple[tuple[str, Any], ...]) -> Any:
    # a second to build, and the same for every model
    return open_clip.SimpleTokenizer(context_length=context_length, **dict(options))


def _open_clip_tokenizer(text: Mapping[str, Any]) -> tuple[Any, int]:
    """Return open_clip's tokenizer of a text config and its padding token, chosen as `open_clip.get_tokenizer` does."""
    context_length, name = text.get("context_length", 77), text.get("hf_tokenizer_name")
    options = dict(text.get("tokenizer_kwargs") or {})
    if not name:
        return _simple_tokenizer(context_length, tuple(sorted(options.items()))), 0
    with _fetching(f"tokenizer '{name}'"):
        mode = text.get("tokenizer_mode")
        tokenizer = open_clip.HFTokenizer(name, context_length=context_length, tokenizer_mode=mode, **options)
    return tokenizer, tokenizer.tokenizer.pad_token_id or 0
