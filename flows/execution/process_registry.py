"""Work that a command of this process hands to its flow run, by key.

A flow's parameters are serialised with its context when a task goes to a Dask worker, so they must be plain values. This
is a module of its own because Dask ships the functions of the flow's module by value, with the module's globals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from curation.engine.engine import Executor

WORK: dict[int, Callable[[Executor], Any]] = {}
"""What `run_job` gave its executor, while the flow runs."""
