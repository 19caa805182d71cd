"""Texts through a text tower without doing any work twice: the same features, in less time.

- *Each distinct text once.* Equal rows of tokens go through the trunk together; gradients add up at the gather.
- *Lengths.* Texts are grouped so that short ones do not pay for the longest of the batch.
- *Shared beginnings.* In a causal tower a place is a function of what stands before it, so the texts of a batch are laid
  out as tries: "a red cube" and "a red ball" cost four places, not six. Each place sees its own ancestors only.

All are exact up to the order of sums. Where dropout is at work in the trunk, equal texts must not share its draws, so there
only the lengths are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP
from torch import Tensor, nn

from training.model import two_tower as cut
from training.model.two_tower import TextTower

if TYPE_CHECKING:
    from training.model.clip_model import ClipModel

GROUP_TOKENS = 64
"""What a further pass costs besides its tokens, in tokens; only the speed depends on it."""

TRIE_PLACES = 48
"""Places of a row of tries, unless one text alone is longer."""


def encode_text(model: ClipModel, tokens: Tensor) -> Tensor:
    """Return unit-norm features [n, d] of token ids [n, length]: `ClipModel.encode_text`, without work done twice."""
    return nn.functional.normalize(model.text_head(text_activations(model, tokens)), dim=-1)


def text_activations(model: ClipModel, tokens: Tensor) -> Tensor:
    """Return activations [n, width] of token ids [n, length]: `ClipModel.text_trunk`, without work done twice."""
    if len(tokens) < 2:
        return model.text_trunk(tokens)
    if drops(model, "text_trunk"):
        return _by_length(model, tokens)
    distinct, back = torch.unique(tokens, dim=0, return_inverse=True)
    ends = cut.causal_end(model.module, distinct)
    if ends is not None and not getattr(_text_tower(model.module), "use_pad_mask", False):
        return _as_tries(model, distinct, ends)[back]
    return _by_length(model, distinct)[back]


def drops(model: ClipModel, *groups: str) -> bool:
    """Say whether dropout is at work in some of `two_tower.GROUPS`, so that equal texts give different features."""
    for name, module in model.module.named_modules():
        rate = getattr(module, "p", 0.0) if isinstance(module, nn.Dropout) else getattr(module, "dropout", 0.0)
        active = module.training and isinstance(rate, float) and rate > 0
        if active and cut.group_of(model.module, name) in groups:
            return True
    return False


def group_lengths(lengths: Sequence[int], cost: int = GROUP_TOKENS) -> list[int]:
    """Return the lengths to pad to, ascending, that make places to compute plus `cost` a group fewest.

    Args:
        lengths: Each text's own length; it is padded to the first returned one that holds it.
        cost: What a group costs besides, in places.
    """
    sizes = sorted(set(lengths))
    below = [sum(length <= size for length in lengths) for size in sizes]
    best: list[tuple[int, list[int]]] = [(0, [])]
    for at, size in enumerate(sizes):
        options = [
            (best[start][0] + (below[at] - (below[start - 1] if start else 0)) * size + cost, start)
            for start in range(at + 1)
        ]
        total, start = min(options)
        best.append((total, [*best[start][1], size]))
    return best[-1][1]


def _by_length(model: ClipModel, tokens: Tensor) -> Tensor:
    """Return activations [n, width], one pass for each group of lengths."""
    text = _text_tower(model.module)
    if isinstance(text, (TextTower, HFTextEncoder)) or cut.causal_end(model.module, tokens) is not None:
        lengths = cut.padded_lengths(model.module, tokens, pad_id=model.pad_id, bucket=1)
    else:
        return model.text_trunk(tokens)
    groups = group_lengths(lengths.tolist())
    which = torch.bucketize(lengths, torch.tensor(groups, device=lengths.device))
    rows = [torch.nonzero(which == at)[:, 0] for at in range(len(groups))]
    found = torch.cat([model.text_trunk(tokens[row, :size]) for row, size in zip(rows, groups, strict=True)])
    return found[torch.cat(rows).argsort()]


@dataclass(frozen=True)
class Tries:
    """Texts laid out as tries, several to a row. R rows of L places, n texts.

    Attributes:
        tokens: The token at each place, int64 [R, L]; 0 in places that are not used.
        place: Its position in its text, int64 [R, L].
        seen: True where the row's place may look at the column's, bool [R, L, L].
        row: The row of each text, int64 [n].
        end: The place at which it ends, int64 [n].
    """

    tokens: Tensor
    place: Tensor
    seen: Tensor
    row: Tensor
    end: Tensor

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], places: int = TRIE_PLACES) -> Tries:
        """Lay texts out; neighbours in their alphabetical order share a row while it has room.

        Args:
            texts: Token ids, none empty.
            places: A row takes no further text that would make it longer.
        """
        rows: list[_Row] = []
        row, end = [0] * len(texts), [0] * len(texts)
        for at in sorted(range(len(texts)), key=lambda at: tuple(texts[at])):
            if not rows or rows[-1].grown_by(texts[at]) > places:
                rows.append(_Row())
            row[at], end[at] = len(rows) - 1, rows[-1].add(texts[at])
        size = max(len(found.token) for found in rows)
        seen = torch.eye(size, dtype=torch.bool).repeat(len(rows), 1, 1)
        for number, found in enumerate(rows):
            for at, parent in enumerate(found.parent):
                if parent >= 0:
                    seen[number, at] |= seen[number, parent]
        tokens = torch.tensor([found.token + [0] * (size - len(found.token)) for found in rows])
        place = torch.tensor([found.depth + [0] * (size - len(found.depth)) for found in rows])
        return cls(tokens, place, seen, torch.tensor(row), torch.tensor(end))


class _Row:
    """One row of tries while it is filled."""

    def __init__(self) -> None:
        self.token: list[int] = []
        self.parent: list[int] = []
        self.depth: list[int] = []
        self._child: dict[tuple[int, int], int] = {}

    def grown_by(self, text: Sequence[int]) -> int:
        """Return how many places the row would have with this text."""
        at, known = -1, 0
        while known < len(text) and (at, text[known]) in self._child:
            at, known = self._child[at, text[known]], known + 1
        return len(self.token) + len(text) - known

    def add(self, text: Sequence[int]) -> int:
        """Add a text; return the place at which it ends."""
        at = -1
        for depth, token in enumerate(text):
            found = self._child.setdefault((at, token), len(self.token))
            if found == len(self.token):
                self.token.append(token)
                self.parent.append(at)
                self.depth.append(depth)
            at = found
        return at


def _as_tries(model: ClipModel, tokens: Tensor, ends: Tensor) -> Tensor:
    """Return activations [n, width] of a causal tower."""
    device = tokens.device
    lists = [row[: end + 1] for row, end in zip(tokens.tolist(), ends.tolist(), strict=True)]
    tries = Tries.of(lists)
    text = _text_tower(model.module)
    hidden = text.token_embedding(tries.tokens.to(device)) + text.positional_embedding[tries.place.to(device)]
    heads = text.transformer.resblocks[0].attn.num_heads
    mask = torch.zeros(tries.seen.shape, dtype=hidden.dtype).masked_fill_(~tries.seen, float("-inf")).to(device)
    # torch's attention takes one mask for each head of each row
    hidden = text.transformer(hidden, attn_mask=mask.repeat_interleave(heads, dim=0))
    # the norm works place by place: only those that are read need it
    return cast("Tensor", text.ln_final(hidden[tries.row.to(device), tries.end.to(device)]))


def _text_tower(model: nn.Module) -> Any:
    # an open_clip.CLIP keeps the parts of its text tower on itself
    return model if isinstance(model, CLIP) else cast("Any", model).text
