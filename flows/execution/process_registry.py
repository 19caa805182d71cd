"""What lives in this process only and is found by key, because flow and task arguments are serialised.

A module of its own: Dask ships functions of the flow's module by value, with the module's own globals.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from curation.engine.engine import Events

POOLS: dict[int, ProcessPoolExecutor] = {}
"""Process pools of flow runs in this process."""

LISTENERS: dict[int, tuple[Events, Callable[[int], None]]] = {}
"""Callers that show progress."""
