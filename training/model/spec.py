"""What a model is called, what it is by content, and how it is loaded.

A *model spec* is what the user types after `--model`:

| spec | what it is |
| --- | --- |
| `ViT-B-32:openai` | an open_clip architecture with weights from the hub |
| `tiny`, `tiny@3`, `ViT-B-32` | a bare name: random weights from a seed (0, or the one after `@`), with a warning |
| `lite0_minilm` | a shipped two-tower config whose towers are pretrained and whose projections are random |
| `path/to/config.json` | the same for a config file of your own |
| `path/to/folder` | a run of our trainer, or an open_clip folder (`open_clip_config.json` and weights) |
| `ViT-B-32:file.safetensors` | a checkpoint file of a named architecture (`.pt`, `.pth`, `.bin`, `.safetensors`) |

This module imports neither torch nor open_clip until a model is loaded.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blake3 import blake3

from data_manifests.errors import InputError, nearest
from data_manifests.seeds import canonical
from training.model import checkpoint_files

if TYPE_CHECKING:
    from training.model.clip_model import ClipModel

ModelKind = Literal["random", "hub", "config", "checkpoint", "open_clip_dir", "run"]
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
OPEN_CLIP_FILE = "open_clip_config.json"


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model spec: light, picklable, comparable; nothing is loaded yet.

    Attributes:
        text: What the user typed.
        kind: Which of the table's rows it is.
        name: Architecture or config name (for people and for open_clip).
        path: File or folder, absolute; empty for `random` and `hub`.
        tag: The hub's name for the weights; empty otherwise.
        seed: Seed of whatever is drawn at random.
    """

    text: str
    kind: ModelKind
    name: str
    path: str = ""
    tag: str = ""
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Return the spec that a text names.

        Raises:
            InputError: no such config, architecture, file or folder; the nearest known name is suggested.
        """
        head, _, seed_text = text.rpartition("@")
        base, seed = (head, int(seed_text)) if head and seed_text.isdecimal() else (text, 0)
        # a known name wins over a folder of that name in the current folder: `./tiny` names the folder
        if base in checkpoint_files.known_names():
            return cls(text, "random", base, seed=seed)
        path = Path(text).expanduser()
        if text and path.is_dir():
            return cls(text, _folder_kind(path), path.resolve().name, str(path.resolve()))
        if base.endswith(".json"):
            return cls(text, "config", Path(base).stem, _existing(base), seed=seed)
        name, colon, rest = text.partition(":")
        if colon and name in checkpoint_files.known_names():
            if rest.endswith(CHECKPOINT_SUFFIXES) or "/" in rest:
                return cls(text, "checkpoint", name, _existing(rest))
            if name in checkpoint_files.shipped_names():
                raise InputError(
                    f"model '{text}': '{name}' is a config of this project; the hub has no weights '{rest}' for it",
                    allowed=f"'{name}', '{name}@SEED' or '{name}:FILE' with {', '.join(CHECKPOINT_SUFFIXES)}",
                )
            return cls(text, "hub", name, tag=rest)
        raise _unknown(text, name if colon else base)

    def content_hash(self) -> str:
        """Return BLAKE3-128 (hex) of what the model is: config and weights, or config and seed; never where it lies.

        Cheap: files are hashed, nothing is built. Only hub weights are loaded for it, once per process.

        Raises:
            InputError: a file is missing, or the hub cannot be reached.
        """
        if self.kind == "run":
            from training.model import run_folder

            return run_folder.run_hash(Path(self.path))
        config = checkpoint_files.read_config(self.config_file())
        if self.kind == "hub" or checkpoint_files.uses_hub(config):
            return _hub_hash(self)
        if self.kind in ("open_clip_dir", "checkpoint"):
            identity: dict[str, Any] = {"config": config, "file": checkpoint_files.file_hash(self.weights_file())}
        else:
            identity = checkpoint_files.random_identity(config, self.seed)
        return blake3(canonical(identity)).hexdigest(length=16)

    def describe(self) -> str:
        """Return a name for people and manifests: no folder of this machine."""
        if self.kind == "hub":
            return f"{self.name}:{self.tag}"
        if self.kind in ("random", "config"):
            config = checkpoint_files.read_config(self.config_file())
            drawn = "random projections" if checkpoint_files.is_pretrained(config) else "random weights"
            return f"{self.name} ({drawn}, seed {self.seed})"
        if self.kind == "checkpoint":
            return f"{self.name}:{Path(self.path).name}"
        if self.kind == "run":
            about = checkpoint_files.read_json(Path(self.path) / checkpoint_files.MODEL_FILE)
            return f"{about['base']} + {about['tune']}"
        return f"open_clip folder {self.content_hash()[:12]}"

    def load(self) -> ClipModel:
        """Build the model: eval mode, CPU, float32, every parameter trainable until `lora.apply_tuning` decides.

        Warns:
            UserWarning: some or all weights are random.

        Raises:
            InputError: weights are missing, damaged, not finite, of another architecture, or cannot be fetched.
        """
        model = self._load()
        checkpoint_files.check_finite(model.module.state_dict(), f"model '{self.text}'")
        return model

    def _load(self) -> ClipModel:
        from training.model import build, run_folder

        if self.kind == "run":
            return run_folder.load_run_model(Path(self.path))
        if self.kind == "hub":
            return build.load_hub(self.name, self.tag)
        config = checkpoint_files.read_config(self.config_file())
        if self.kind in ("random", "config"):
            drawn = "projections are" if checkpoint_files.is_pretrained(config) else "weights are"
            warnings.warn(f"model '{self.name}': its {drawn} random (seed {self.seed})", UserWarning, stacklevel=3)
            return build.build(config, self.seed)
        return build.load_checkpoint(config, self.weights_file())

    def config_file(self) -> Path:
        """Return the file that holds the config: of any kind but a run, which has its own record."""
        if self.kind == "config":
            return Path(self.path)
        if self.kind == "open_clip_dir":
            return Path(self.path) / OPEN_CLIP_FILE
        return checkpoint_files.architecture_file(self.name)

    def weights_file(self) -> Path:
        """Return the file that holds the weights of a checkpoint or an open_clip folder.

        Raises:
            InputError: the folder has none.
        """
        path = Path(self.path)
        return checkpoint_files.find_checkpoint(path) if self.kind == "open_clip_dir" else path


def _folder_kind(path: Path) -> ModelKind:
    if (path / checkpoint_files.MODEL_FILE).is_file():
        return "run"
    if (path / OPEN_CLIP_FILE).is_file():
        return "open_clip_dir"
    if (path / "config.json").is_file() and "model_type" in checkpoint_files.read_json(path / "config.json"):
        raise InputError(
            f"model folder {path}: a model of Hugging Face transformers (its config.json says so)",
            allowed="a run folder, or an open_clip folder",
            fix=checkpoint_files.TRANSFORMERS_FIX,
        )
    raise InputError(
        f"model folder {path}: neither '{checkpoint_files.MODEL_FILE}' nor '{OPEN_CLIP_FILE}' is in it",
        allowed="a run folder, or an open_clip folder",
        fix="check that the training run has ended",
    )


def _existing(text: str) -> str:
    path = Path(text).expanduser()
    if not path.is_file():
        raise InputError(f"model file {text}: no such file", fix="check the path")
    return str(path.resolve())


def _unknown(text: str, name: str) -> InputError:
    allowed = (
        f"{', '.join(checkpoint_files.shipped_names())}, an open_clip name such as ViT-B-32[:PRETRAINED], or a path"
    )
    fix = nearest(name, checkpoint_files.known_names()) or "clipcurate train --help says what --model takes"
    return InputError(f"model '{text}': no config, architecture, file or folder of that name", allowed=allowed, fix=fix)


@functools.lru_cache(maxsize=8)
def _hub_hash(spec: ModelSpec) -> str:
    identity = {
        "config": checkpoint_files.read_config(spec.config_file()),
        "state": checkpoint_files.state_hash(spec.load().module),
    }
    return blake3(canonical(identity)).hexdigest(length=16)
