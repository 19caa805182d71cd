"""What stages and publication take, from a trial on a few images: what `plan` says before a first run."""

from __future__ import annotations

import resource
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from curation.blind.image_sample import ImageSample
from curation.engine.engine import samples_after
from curation.engine.intake import Snapshot
from curation.engine.replay import Replay
from curation.engine.stage import Stage
from curation.engine.store import ALL_SAMPLES
from curation.rewriting.llm_stage import LlmStage
from curation.rewriting.rules import RuleWriter
from curation.versions.layout import Layout
from curation.versions.publish import DEFAULT_SHARD_BYTES, write_contents
from curation.versions.tables import fit_file
from data_manifests.sample import REQUIRABLE

FIRST, SECOND, MOST = 8, 24, 200
"""Images of the three passes: the first loads models, the second says how many images the third can take."""

BUDGET_S = 20.0
"""What a trial may take in all, about."""

_LEAST_SLOPE = 0.2
_PUBLICATION = "(publication)"

_SECOND_CORE = 0.6
"""What each further process adds to the speed of the first: two on the halves of one core add less, on two cores more."""


@dataclass(frozen=True)
class StageTime:
    """What a stage takes.

    Attributes:
        start_s: Seconds that it takes once, such as to load a model.
        seconds_per_sample: Seconds of each image, in one process.
    """

    start_s: float
    seconds_per_sample: float

    def seconds(self, num_samples: int, workers: int) -> float:
        """Return what so many images take in so many processes."""
        return self.start_s + num_samples * self.seconds_per_sample / speed_of(workers)


@dataclass(frozen=True)
class TrialRun:
    """What was measured on a few images.

    Attributes:
        num_samples: Images of the last pass.
        stages: What each stage takes, by name. Those that ask a language model, and those that need its answers, are missing.
        publication: What publishing takes.
        text_bytes: Published bytes of an image's texts, vectors and index.
        store_bytes: Bytes of its results in the store.
        peak_bytes: Memory of this process at most, with all models in it.
    """

    num_samples: int
    stages: Mapping[str, StageTime]
    publication: StageTime
    text_bytes: float
    store_bytes: float
    peak_bytes: int


def speed_of(workers: int) -> float:
    """Return how many times as fast so many processes are as one."""
    return 1.0 + _SECOND_CORE * (workers - 1)


def try_stages(stages: Sequence[Stage], snapshot: Snapshot) -> TrialRun:
    """Run stages over a few images, in a store that is thrown away, and return what they took.

    The images are those with the smallest hashes, 232 or fewer: fewer where stages are slow. What a stage learns from all
    samples costs a little more for each of many than for each of a few.

    Args:
        stages: A recipe's stages.
        snapshot: The source.
    """
    started = time.perf_counter()
    runnable = _without_answers(stages)
    drawn: ImageSample[str] = ImageSample("trial_run", FIRST + SECOND + MOST)
    for batch in snapshot.batches(ALL_SAMPLES):
        for uid in batch["uid"].to_pylist():
            drawn.add(uid, uid, 1)
    uids = drawn.items()
    with TemporaryDirectory(prefix="clipcurate-plan-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run itself gives them
        passes = [_Pass(runnable, snapshot, Path(folder) / "first", uids[:FIRST])]
        if len(uids) > FIRST:
            passes.append(_Pass(runnable, snapshot, Path(folder) / "second", uids[FIRST : FIRST + SECOND]))
            left = BUDGET_S - (time.perf_counter() - started)
            most = min(MOST, int(left * SECOND / max(passes[-1].seconds, 1e-3)))
            if rest := uids[FIRST + SECOND : FIRST + SECOND + max(most, 0)]:
                passes.append(_Pass(runnable, snapshot, Path(folder) / "third", rest))
        return _summed(passes)


class _Pass:
    """Stages run over some images, and what that took.

    Args:
        stages: The stages.
        snapshot: The source.
        folder: A new folder.
        uids: The images, sorted.
    """

    def __init__(self, stages: Sequence[Stage], snapshot: Snapshot, folder: Path, uids: Sequence[str]) -> None:
        self.count = len(uids)
        started = time.perf_counter()
        part = snapshot.part(folder / "snapshot", uids)
        samples, reports = samples_after(stages, part, folder / "store")
        self.times = {report.stage.name: report.wall_s for report in reports}
        staged = time.perf_counter()
        fits = {fit_file(one.stage.name) for one in samples.finished}
        self.text_bytes = _publish(samples, folder / "version", fits) - part.num_image_bytes()
        self.times[_PUBLICATION] = time.perf_counter() - staged
        self.store_bytes = _size_of(folder / "store")
        self.seconds = time.perf_counter() - started


def _publish(samples: Replay, folder: Path, uncounted: Collection[str]) -> int:
    """Write a version that nobody finds; return its size in bytes without some files: those that hardly grow with the data."""
    folder.mkdir()
    with TemporaryFile(dir=folder) as records:
        write_contents(folder, samples, Layout(DEFAULT_SHARD_BYTES, "cluster"), records)
    return _size_of(folder, uncounted)


def _size_of(folder: Path, uncounted: Collection[str] = ()) -> int:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if str(path.relative_to(folder)) not in uncounted)


def _summed(passes: Sequence[_Pass]) -> TrialRun:
    """Return times from passes."""
    last = passes[-1]
    return TrialRun(
        num_samples=last.count,
        stages={name: _time_of(name, passes) for name in last.times if name != _PUBLICATION},
        publication=_time_of(_PUBLICATION, passes),
        text_bytes=_slope([(one.count, one.text_bytes) for one in passes]),
        store_bytes=_slope([(one.count, one.store_bytes) for one in passes]),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _time_of(name: str, passes: Sequence[_Pass]) -> StageTime:
    """Return what a stage takes: by the line through the last two passes, with what the first took longer than it says."""
    slope = _slope([(one.count, one.times[name]) for one in passes])
    fixed = passes[-1].times[name] - slope * passes[-1].count
    first = passes[0].times[name] - fixed - slope * passes[0].count if len(passes) > 1 else 0.0
    return StageTime(max(fixed, 0.0) + max(first, 0.0), slope)


def _slope(points: Sequence[tuple[int, float]]) -> float:
    """Return what an image adds: by the line through the last two points, of which the first loads models and is none.

    At least `_LEAST_SLOPE` of the last mean: of two short times, the second may be the shorter one by chance.
    """
    count, value = max(points[-1][0], 1), points[-1][1]
    if len(points) < 3 or count <= points[-2][0]:
        return value / count
    line = (value - points[-2][1]) / (count - points[-2][0])
    return min(max(line, _LEAST_SLOPE * value / count), value / count)


def _without_answers(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages that ask no language model, and need nothing of one that does."""
    fields, runnable = {*REQUIRABLE}, list[Stage]()
    for stage in stages:
        asks = isinstance(stage, LlmStage) and not isinstance(stage.writer, RuleWriter)
        if not asks and fields.issuperset(stage.required_fields()):
            runnable.append(stage)
            fields |= {field.name for field in stage.provides}
    return runnable
