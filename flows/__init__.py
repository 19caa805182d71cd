"""Recipes, the command line and Prefect flows: the composition root.

Prefect reads its settings when it is first imported, so they are made here, before any flow.
"""

from __future__ import annotations

import os

import training  # noqa: F401 - makes torchvision importable beside a CPU torch, in worker processes too

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("DISTRIBUTED_LOGGING__DISTRIBUTED", "error")
