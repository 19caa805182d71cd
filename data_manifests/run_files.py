"""Names of the files in a run's folder: training writes them; pages, comparisons and later curations read them."""

from __future__ import annotations

RUN_FILE = "run.json"
"""What was trained: recipe, config, model, manifest, plan."""
PLAN_FILE = "plan.parquet"
"""Which samples each step saw."""
LOG_FILE = "log.jsonl"
"""One record for each step."""
CHECKPOINT_FILE = "checkpoint/state.pt"
"""Where an interrupted run resumes."""
FEEDBACK_FILE = "feedback.parquet"
"""What the run learned about each negative."""
DONE_FILE = "done.json"
"""How the run ended; only finished runs have it."""
