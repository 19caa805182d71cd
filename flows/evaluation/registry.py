"""Opens ``--on KIND:SRC``: a kind is the name of a module of `flows.evaluation.benchmarks`, imported when it is used."""

from __future__ import annotations

import importlib
import pkgutil
import re

from data_manifests.errors import InputError, nearest
from flows.evaluation import benchmarks
from flows.evaluation.interface import Benchmark, EvalOptions, Target

KINDS = tuple(sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__)))

_OPTION = re.compile(r"[a-z_]+=.*")


def check_kind(text: str, option: str = "--on") -> tuple[str, str]:
    """Return kind and source of ``KIND:SRC``.

    Raises:
        InputError: unknown kind, or no source.
    """
    kind, _, source = text.partition(":")
    if kind not in KINDS or not source:
        problem = "the source is empty" if kind in KINDS else f"unknown kind '{kind}'; {nearest(kind, KINDS)}"
        raise InputError(
            f"{option} {text!r}: {problem}".rstrip("; "),
            allowed="KIND:SRC, KIND one of " + ", ".join(KINDS),
            fix=f"for example {option} retrieval:flickr:/data/flickr8k or {option} scenes:500@7",
        )
    return kind, source


def open_benchmark(text: str, eval_options: EvalOptions) -> Benchmark:
    """Open ``KIND:SRC``.

    Raises:
        InputError: unknown kind or option, or the benchmark cannot read its source.
    """
    kind, source = check_kind(text)
    found = benchmark_class(kind)
    if eval_options.blind and not found.has_blind:
        allowed = "--blind with " + ", ".join(name for name in KINDS if benchmark_class(name).has_blind)
        raise InputError(f"--blind with --on {text}: this benchmark needs images", allowed=allowed)
    return found(_target(text, kind, source, found.options), eval_options)


def benchmark_class(kind: str) -> type[Benchmark]:
    """Return the class that a kind's module defines."""
    module = importlib.import_module(f"{benchmarks.__name__}.{kind}")
    own = (value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__)
    return next(value for value in own if isinstance(value, type) and issubclass(value, Benchmark))


def _target(text: str, kind: str, source: str, allowed: tuple[str, ...]) -> Target:
    """Split options off a source; a question mark that no option follows belongs to the path."""
    path, mark, after = source.rpartition("?")
    parts = after.split("&")
    if not allowed or not mark or not all(_OPTION.fullmatch(part) for part in parts):
        return Target(kind, source)
    options = dict(part.split("=", 1) for part in parts)
    unknown = sorted(set(options) - set(allowed))
    if unknown or not all(options.values()):
        raise InputError(
            f"--on {text!r}: " + (f"unknown option '{unknown[0]}'" if unknown else "an option without a value"),
            allowed=f"{kind}:SRC?" + "&".join(f"{name}=..." for name in allowed),
            fix=nearest(unknown[0], allowed) if unknown else "write the value after the equals sign",
        )
    return Target(kind, path, options)
