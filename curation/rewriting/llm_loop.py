"""What stages that ask a language model share: how requests are sampled, asked for, and put on the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from curation.llm.interface import Answer, CompletionClient, Failure
from curation.rewriting.prompts import Prompting, read_answer
from curation.rewriting.text_checks import Verdict

CHUNK = 64
"""Answers that are parsed together: parsing one by one is several times slower."""
SHOWN_CHARS = 500
"""How much of a refused text is kept on the record."""
Order = tuple[int, int, int]
Wanted = TypeVar("Wanted")


@dataclass
class Found:
    """What one sample has got so far, each record with what it is sorted by."""

    accepted: list[tuple[Order, dict[str, Any]]] = field(default_factory=list)
    rejected: list[tuple[Order, dict[str, Any]]] = field(default_factory=list)
    wanted: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def read(self, outcome: Answer | Failure, family: str, prompting: Prompting) -> tuple[str, Verdict | None]:
        """Count an outcome; return the text it holds, and what can be said against it before looking at the text."""
        self.requests += 1
        if isinstance(outcome, Failure):
            return "", Verdict(f"no_answer_{outcome.reason}", outcome.detail)
        self.prompt_tokens += outcome.prompt_tokens
        self.completion_tokens += outcome.completion_tokens
        text, reason, detail = read_answer(outcome.text, family, prompting)
        if outcome.finish_reason == "length":
            reason, detail = "truncated", "stopped by its length"
        return text, Verdict(reason, detail) if reason else None

    def reject(self, order: Order, text: str, index: int, rule: str, verdict: Verdict) -> None:
        """Put a refused text on the record."""
        record = {
            "text": text[:SHOWN_CHARS], "caption": index, "reason": verdict.reason, "rule": rule, "detail": verdict.detail,
        }  # fmt: skip
        self.rejected.append((order, record))

    def refused(self) -> list[dict[str, Any]]:
        """Return what was refused, in order."""
        return [record for _, record in sorted(self.rejected, key=lambda item: item[0])]

    def usage(self, accepted: Sequence[object]) -> dict[str, int]:
        """Return the counts that the manifest sums up."""
        return {
            "wanted": self.wanted, "requests": self.requests, "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens, "accepted": len(accepted), "rejected": len(self.rejected),
        }  # fmt: skip


def ask_all(
    line: CompletionClient,
    wanted: Iterable[Wanted],
    ask: Callable[[Wanted], None],
    refused: Callable[[list[tuple[Wanted, Answer | Failure]]], Iterable[Wanted]],
) -> None:
    """Ask for everything at once, judge answers in chunks as they arrive, ask again for what was refused.

    Args:
        line: Where requests are under way; their tags are what was wanted.
        wanted: What to ask for.
        ask: Submits one request.
        refused: Judges outcomes and returns the next draws of those that were refused.
    """
    for one in wanted:
        ask(one)
    waiting: list[tuple[Wanted, Answer | Failure]] = []
    under_way = True
    while under_way:
        under_way = False
        for request, outcome in line.outcomes():
            waiting.append((request.tag, outcome))
            if len(waiting) >= CHUNK:
                for one in refused(waiting):
                    ask(one)
                waiting = []
        for one in refused(waiting):
            ask(one)
            under_way = True
        waiting = []
