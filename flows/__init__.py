"""Recipes, the command line and Prefect flows: the composition root.

Prefect reads its settings when it is first imported, so they are made here, before any flow.
"""

from __future__ import annotations

import os

import training  # noqa: F401 - makes torchvision importable beside a CPU torch, in worker processes too

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
if "PREFECT_LOGGING_LEVEL" not in os.environ:  # the pages show the logs of runs, commands only warnings
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")


def _keep_proxies_from_localhost() -> None:
    """Let no HTTP client of this process and its children ask a proxy for this machine: the proxy would look at its own."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""  # the first is what clients prefer
    if "*" not in hosts:
        hosts = ",".join(dict.fromkeys([*filter(None, hosts.split(",")), "localhost", "127.0.0.1", "::1"]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = hosts


_keep_proxies_from_localhost()
