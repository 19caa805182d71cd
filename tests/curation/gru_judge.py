"""A judge for tests and benchmarks that learns its own features, so that refinement cannot have fitted it: a small GRU over words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.blind.judges import Pair
from curation.blind.tokens import Encoded, Float64s, Vocabulary, read_words

if TYPE_CHECKING:
    from torch import Tensor, nn

_WIDTH = 64
_MAX_TOKENS = 40
_BATCH = 128
_PADDING = 0


class GruJudge:
    """Word vectors, a bidirectional gated recurrent layer, the largest of each number, and one weight per number.

    Learns to give the caption of a pair the higher score. Words of fewer than two learning texts are one word.
    Computed on the processor with one thread; the last bits belong to the machine and library.

    Args:
        num_epochs: Passes over the pairs.
        max_pairs: Most pairs to learn from, drawn by the seed.
        seed: Seed of that draw, of the weights and of the order of the pairs.

    Source: Cho et al. 2014, arXiv 1406.1078 (the gated unit); Burges et al. 2005 (RankNet, the loss on pairs).
    """

    def __init__(self, num_epochs: int = 6, max_pairs: int = 6_000, seed: int = 0) -> None:
        self.num_epochs, self.max_pairs, self.seed = num_epochs, max_pairs, seed

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:
        """Return differences of score."""
        import torch

        generator = np.random.Generator(np.random.PCG64(self.seed))
        drawn = generator.permutation(len(train))[: self.max_pairs]
        learned = [train[k] for k in np.sort(drawn)]
        vocabulary = Vocabulary.of(read_words(text for pair in learned for text in (pair.caption, pair.negative)))
        sides = [_rows(vocabulary, learned, name) for name in ("caption", "negative")]
        asked = [_rows(vocabulary, test, name) for name in ("caption", "negative")]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            # a generator of its own: layers draw their weights from the global one
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                score = _network(len(vocabulary))
                self._learn(score, sides, generator)
            score.eval()
            with torch.no_grad():
                parts = [
                    (score(one) - score(other)).double().numpy()
                    for one, other in zip(*(torch.split(side, 1024) for side in asked), strict=True)
                ]
        finally:
            torch.set_num_threads(threads)
        return np.concatenate(parts)

    def _learn(self, score: nn.Module, sides: list[Tensor], generator: np.random.Generator) -> None:
        """Fit the network to pairs."""
        import torch

        optimiser = torch.optim.AdamW(score.parameters(), lr=3e-3, weight_decay=1e-2)
        for _ in range(self.num_epochs):
            for batch in torch.split(torch.from_numpy(generator.permutation(len(sides[0]))), _BATCH):
                right, wrong = score(torch.cat([sides[0][batch], sides[1][batch]])).chunk(2)
                loss = torch.nn.functional.softplus(wrong - right).mean()
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()


def _rows(vocabulary: Vocabulary, pairs: Sequence[Pair], side: str) -> Tensor:
    """Return texts as rows of 40 numbers, shorter ones padded, longer ones cut."""
    import torch

    texts: Encoded = vocabulary.encode(read_words(getattr(pair, side) for pair in pairs))
    rows: np.ndarray[Any, Any] = np.full((len(pairs), _MAX_TOKENS), _PADDING, np.int64)
    owner = np.repeat(np.arange(len(pairs)), texts.lengths)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(texts.lengths) - texts.lengths, texts.lengths)
    inside = place < _MAX_TOKENS
    rows[owner[inside], place[inside]] = texts.ids[inside]
    return torch.from_numpy(rows)


def _network(size: int) -> nn.Module:
    """Return a module from rows of numbers [texts, 40] to scores [texts]."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(size, _WIDTH, padding_idx=_PADDING)
            self.drop = nn.Dropout(0.3)
            self.read = nn.GRU(_WIDTH, _WIDTH, batch_first=True, bidirectional=True)
            self.last = nn.Linear(2 * _WIDTH, 1)

        def forward(self, rows: Tensor) -> Tensor:
            longest = max(1, int((rows != _PADDING).sum(dim=1).max()))
            rows = rows[:, :longest]
            read, _ = self.read(self.drop(self.words(rows)))
            read = read.masked_fill((rows == _PADDING).unsqueeze(-1), -1e4)
            scores: Tensor = self.last(self.drop(torch.amax(read, dim=1))).squeeze(-1)
            return scores

    return Network()
