"""A trained run as a folder that stands alone: what the trainer writes and `--model RUN` reads.

```
model.json          how to rebuild it: config, seed, tuning, and by content what it started from; written last
adapter/            a standard peft adapter (tune lora)
head.safetensors    trained tensors outside the adapter: projections, logit scale, context tokens, the last blocks (lora, projection, prompt, top:N)
model.safetensors   everything (tune full)
base.safetensors    frozen tensors that no public file holds (lora, projection, prompt, top:N)
```

A frozen tensor is left out only while it lies unchanged in a file that the config names: weights from the hub or
from a package of the registry; their hash is recorded and checked. So a run never points at another folder: a run on
a run holds the merged weights of the first, and stays whole when that one is deleted. Random towers that
stay frozen are written too, for another torch or processor may draw other numbers from the same seed.

Scaling: bytes follow the frozen tensors without a public home; for `lite0_minilm` with LoRA that is none.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.seeds import canonical
from training.model import build, checkpoint_files, lora
from training.model.checkpoint_files import library_errors
from training.model.clip_model import group_of
from training.model.context_tokens import add_context, stored_context

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import ClipModel

FORMAT = 1
TENSOR_FILES = ("base.safetensors", "head.safetensors", "model.safetensors")
ADAPTER_FILES = ("adapter/adapter_model.safetensors", "adapter/adapter_config.json")
FIELDS = {"format", "base", "base_hash", "config", "seed", "hub", "public", "public_hash", "tune"}


def save_run_model(run: Path, model: ClipModel, base: str, base_hash: str, tune: str) -> None:
    """Write a tuned model into its run folder.

    Args:
        run: The run folder; other files in it are left alone.
        model: The tuned model, not merged.
        base: Name of what it started from, for people.
        base_hash: Content hash of what it started from.
        tune: How it was tuned.

    Raises:
        InputError: the model was tuned another way.
    """
    from safetensors.torch import save_file

    if model.tune != tune:
        raise InputError(f"the model was tuned '{model.tune}', not '{tune}'")
    run.mkdir(parents=True, exist_ok=True)
    for name in (checkpoint_files.MODEL_FILE, *TENSOR_FILES):
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / "adapter", ignore_errors=True)
    parts = _split(model)
    public = sorted({group_of(model.module, name) for name in parts["public"]})
    if tune == "full":
        save_file({**parts["base"], **parts["head"], **parts["public"]}, str(run / "model.safetensors"))
    else:
        save_file(parts["head"], str(run / "head.safetensors"))
        if parts["base"]:
            save_file(parts["base"], str(run / "base.safetensors"))
    if model.peft is not None:
        model.peft.save_pretrained(str(run / "adapter"), save_embedding_layers=False)
        # a form full of "more information needed", with this machine's versions
        (run / "adapter" / "README.md").unlink(missing_ok=True)
    record = {
        "format": FORMAT,
        "base": base,
        "base_hash": base_hash,
        "config": model.config,
        "seed": model.seed,
        "hub": list(model.hub),
        "public": public,
        "public_hash": checkpoint_files.state_hash(parts["public"]) if public else "",
        "tune": tune,
    }
    write_atomically(run / checkpoint_files.MODEL_FILE, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")


def _split(model: ClipModel) -> dict[str, dict[str, Tensor]]:
    """Return the model's tensors under their original names, adapters left out.

    `public` holds those that training left as their public files have them, `head` the trained ones, `base` the others.
    """
    trained = {name for name, parameter in model.module.named_parameters() if parameter.requires_grad}
    # with everything trained, running statistics have changed as well
    public = set() if model.tune == "full" else model.public
    parts: dict[str, dict[str, Tensor]] = {"public": {}, "base": {}, "head": {}}
    for name, tensor in model.module.state_dict().items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        part = "head" if name in trained else "public" if group_of(model.module, plain) in public else "base"
        parts[part][plain] = tensor.detach().clone().contiguous()
    return parts


def load_run_model(run: Path) -> ClipModel:
    """Return the model of a run folder, adapters merged, eval mode.

    Raises:
        InputError: the folder is incomplete or was edited, or what it was trained on has changed.
    """
    record = read_record(run)
    # the architecture, with its public weights when the run counts on any
    if record["hub"] and record["public"]:
        model = build.load_hub(*record["hub"])
    else:
        model = build.build(record["config"], record["seed"], pretrained=bool(record["public"]))
    tensors: dict[str, Tensor] = {}
    for name in TENSOR_FILES:
        if (run / name).is_file():
            tensors |= checkpoint_files.load_state(run / name)
    if num_tokens := stored_context(tensors):
        add_context(model, num_tokens)
    state = model.module.state_dict()
    public = {
        name: value
        for name, value in state.items()
        if name not in tensors and group_of(model.module, name) in record["public"]
    }
    if record["public"] and checkpoint_files.state_hash(public) != record["public_hash"]:
        raise InputError(
            f"{run}: trained on other weights of {', '.join(record['public'])} than '{record['base']}' has here",
            fix="install the versions of the weight packages it was trained with",
        )
    _fill(model, tensors, public, run)
    changed = {group_of(model.module, name) for name in tensors if name in state}
    if record["tune"] == "lora":
        model.module = _merge_adapter(model.module, run / "adapter")
        names = checkpoint_files.load_state(run / "adapter" / "adapter_model.safetensors")
        changed |= {group_of(model.module, name.removeprefix("base_model.model.")) for name in names}
    model.module.requires_grad_(requires_grad=True)
    model.module.eval()
    model.public = frozenset(record["public"]) - changed
    return model


def run_hash(run: Path) -> str:
    """Return BLAKE3-128 (hex) of a run's model: its record, tensors and adapter settings; not where it lies.

    Raises:
        InputError: the folder is incomplete.
    """
    record = read_record(run)
    files = sorted(path for path in run.glob("*.safetensors")) + sorted(run.glob("adapter/*.safetensors"))
    identity: dict[str, Any] = {
        "record": record,
        "files": {path.name: checkpoint_files.file_hash(path) for path in files},
    }
    if record["tune"] == "lora":
        adapter = checkpoint_files.read_json(run / "adapter" / "adapter_config.json")
        identity["adapter"] = {key: value for key, value in adapter.items() if key != "peft_version"}
    return blake3(canonical(identity)).hexdigest(length=16)


def read_record(run: Path) -> dict[str, Any]:
    """Return a run's checked `model.json`.

    Raises:
        InputError: missing, damaged or of another format.
    """
    record = checkpoint_files.read_json(run / checkpoint_files.MODEL_FILE)
    if record.get("format") != FORMAT or set(record) != FIELDS:
        raise InputError(
            f"{run / checkpoint_files.MODEL_FILE}: not format {FORMAT} of a run", fix="train it again with this version"
        )
    checkpoint_files.check_config(record["config"], str(run / checkpoint_files.MODEL_FILE))
    needed = {
        "lora": ("head.safetensors", *ADAPTER_FILES),
        "projection": ("head.safetensors",),
        "prompt": ("head.safetensors",),
        "top": ("head.safetensors",),
        "full": ("model.safetensors",),
    }
    kind = "top" if lora.is_top(str(record["tune"])) else record["tune"]
    for name in needed.get(kind, ("",)):
        if not name or not (run / name).is_file():
            raise InputError(f"{run}: tune '{record['tune']}' without '{name}'", fix="train it again")
    return record


def _fill(model: ClipModel, tensors: Mapping[str, Tensor], public: Mapping[str, Tensor], run: Path) -> None:
    state = model.module.state_dict()
    missing = sorted(state.keys() - tensors.keys() - public.keys())
    if missing or tensors.keys() - state.keys():
        odd = (missing or sorted(tensors.keys() - state.keys()))[0]
        raise InputError(f"{run}: its files and its config disagree about the tensor '{odd}'", fix="train it again")
    with library_errors(f"{run}: its tensors do not fit its config", "train it again", RuntimeError):
        model.module.load_state_dict({**state, **tensors}, strict=True)


def _merge_adapter(model: Any, folder: Path) -> Any:
    from peft import LoraConfig, PeftModel

    # a settings file from elsewhere may also name modules to import; only the numbers and names are taken from it
    found = checkpoint_files.read_json(folder / "adapter_config.json")
    known = {key: found[key] for key in ("r", "lora_alpha", "lora_dropout", "target_modules") if key in found}
    if found.get("peft_type") != "LORA" or len(known) != 4:
        raise InputError(f"{folder}: not a LoRA adapter", allowed="peft_type LORA with r, lora_alpha, target_modules")
    checkpoint_files.load_state(folder / "adapter_model.safetensors")
    errors = (ValueError, RuntimeError, KeyError, TypeError, UserWarning)
    with library_errors(f"{folder}: peft cannot load it", "train it again", *errors):
        with warnings.catch_warnings():
            # peft only warns when tensors of the adapter are missing
            warnings.simplefilter("error", UserWarning)
            adapted = PeftModel.from_pretrained(model, str(folder), config=LoraConfig(**known))
        return adapted.merge_and_unload()
