"""The trainer: one page, read from top to bottom in the order it happens.

A run is a pure function of (data set version, recipe, model, config). It can be killed at any moment and resumed to
the same bytes: batches come from a saved plan, every draw has its own seed, and all state is in the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from data_manifests.errors import InputError
from data_manifests.run_files import PLAN_FILE
from data_manifests.seeds import draw_seed
from data_manifests.shards import check_file
from training import checkpoint
from training.batches.batch import Batch
from training.batches.loader import PlannedBatches
from training.config import TrainConfig
from training.device import check_batch_norm, deterministic, on_device
from training.distributed import GatheredChooser, Ranks, gather_step, share_facts
from training.features import FeatureNeeds, make_features, negative_stats, with_labels
from training.feedback import FeedbackLog
from training.log import Clock, Display, RunLog
from training.log_hook import LogHook
from training.model import lora
from training.model.checkpoint_files import state_hash
from training.model.context_tokens import match_context
from training.model.run_folder import save_run_model
from training.model.wise_ft import step_back
from training.online_plan import GrowingPlan, embed_images, plan_ahead
from training.precompute import FrozenPrefixes
from training.train_parts import (
    TrainParts,
    check_groups,
    check_ingredients,
    check_model_needs,
    check_needs,
    check_texts,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from data_manifests.manifest import DatasetVersion
    from training.batches.plan import BatchPlan
    from training.checkpoint import RunResult
    from training.hard_negatives import NegativeChooser
    from training.model.clip_model import ClipModel
    from training.model.spec import ModelSpec
    from training.objectives.interface import Objective, Term


def train(  # noqa: PLR0913 - the ninth is the one that a user's own code comes in by
    dataset: DatasetVersion,
    parts: TrainParts,
    spec: ModelSpec,
    config: TrainConfig,
    run: Path,
    *,
    resume: bool = False,
    cache: Path | None = None,
    replay: Path | None = None,
    log_to: LogHook | None = None,
) -> RunResult:
    """Train a model on a data set version, with the other ranks if torchrun started several.

    Args:
        dataset: The training data.
        parts: The recipe's planner, objectives and choice of negatives.
        spec: The model to start from.
        config: The numbers.
        run: The run's folder, new or empty; filled with run.json, plan.parquet, log.jsonl, tensorboard/, checkpoint/,
            the model's files, and last done.json. All ranks see it, rank 0 writes.
        resume: Continue the run in the folder; a finished one is returned as it is.
        cache: Folder that keeps activations of frozen prefixes for later runs; None keeps them in memory.
        replay: A plan.parquet whose order is followed instead of the planner's.
        log_to: Told of each step, on rank 0.

    Raises:
        InputError: the data, recipe, model or folder cannot be used, or the loss is no longer a number.
    """
    # 1. device and ranks, the order of the data, and whether it has what the objectives need
    config, ranks = on_device(config), Ranks.join()
    ranks.batch_slice(config.batch_size)
    check_file(dataset.folder / "index.parquet", dataset.records)
    index, plan = plan_ahead(dataset, parts.planner, config, replay, ranks)
    check_needs(parts, dataset.index(), index.rows)
    with (
        ranks.context_on_rank_zero(checkpoint.run_folder(run, resume)),
        deterministic(config.num_threads),
        Display(quiet=not ranks.first).shown() as display,
    ):
        # 2. the run's folder, new or that of the run to continue
        ranks.on_rank_zero(lambda: checkpoint.begin_run(run, identify(dataset, parts, spec, config, plan), plan))
        if finished := checkpoint.finished_run(run):
            return finished
        # 3. the model, tuned as the config says, from the last checkpoint if there is one
        statistics = dataset.manifest.body.get("statistics", {})
        trainer = Trainer.start(parts, spec, config, run, display.say, statistics, ranks)
        if resume:
            display.say(f"resumes after step {trainer.step} of {config.steps}")
        prefixes = FrozenPrefixes(trainer.model, trainer.needs, config, cache, ranks, display.report, display.say)
        growing = GrowingPlan(parts.planner, index, config, run / PLAN_FILE, ranks)
        embed = partial(embed_images, dataset, index, prefixes, config, ranks)
        # 4. step by step: batch, optimiser step, log, checkpoint
        run_steps(
            trainer, [plan] if plan else growing.plans(trainer.step, embed), dataset, prefixes, run, display, log_to
        )
        # 5. the model's files
        ranks.on_rank_zero(lambda: trainer.finish(dataset, spec, run))
        return checkpoint.result_of(run)


def run_steps(
    trainer: Trainer,
    plans: Iterable[BatchPlan],
    dataset: DatasetVersion,
    prefixes: FrozenPrefixes,
    run: Path,
    display: Display,
    log_to: LogHook | None,
) -> None:
    """Make every step that is left; batches are read ahead, and frozen prefixes compute theirs before the first step.

    Ctrl-C ends it after the step that is being made, with a checkpoint.
    """
    config, ranks, clock, start, said = trainer.config, trainer.ranks, Clock(), trainer.step, False
    facts = {"run": str(run), "recipe": trainer.parts.name, **config.to_json()}
    ranks.on_rank_zero(lambda: log_to.begin(start, facts, display.say) if log_to else None)
    with RunLog(run, start, log_to) if ranks.first else nullcontext() as log:
        try:
            for plan in plans:
                own, sampling = ranks.own_slice(plan), trainer.parts.text_sampling
                if trainer.step == start:
                    ranks.on_rank_zero(partial(check_plan, plan, trainer, dataset, display.say))
                with closing(PlannedBatches(dataset, own, trainer.model, config, sampling, trainer.step)) as batches:
                    prefixes.precompute(batches)
                    for batch in clock.timed(batches):
                        with checkpoint.interrupted_afterwards():
                            record = {"epoch": int(plan.epoch[batch.step]), **trainer.make_step(batch), **clock.lap()}
                            said = said or say_left_out(record, trainer.model.context_length, display.say)
                            if log:
                                log.write(batch.step, record)
                                trainer.save_when_due(run, log)
                        display.report("training", trainer.step, config.steps, f"loss {trainer.loss:.4f}")
        except KeyboardInterrupt:
            if log and trainer.step > start:
                log.sync()
                checkpoint.save_checkpoint(run, trainer.state())
                display.say(f"checkpoint written after step {trainer.step} of {config.steps}")
            raise
        display.say(f"waited for data: {100 * clock.stall:.2f} % of the time")


def check_plan(plan: BatchPlan, trainer: Trainer, dataset: DatasetVersion, say: Callable[[str], None]) -> None:
    """Check texts and groups of the steps ahead, see `train_parts`; they rarely read more than the first step's."""
    model, sampling, start = trainer.model, trainer.parts.text_sampling, trainer.step
    with closing(PlannedBatches(dataset, plan, model, trainer.config, sampling, start)) as batches:
        ahead = range(start, plan.num_steps)
        check_groups(trainer.parts, (batches.texts(step).tags for step in ahead))
        check_ingredients(trainer.parts, (batches.texts(step) for step in ahead))
        if warning := check_texts(trainer.parts, (batches.texts(step) for step in ahead), model.context_length):
            say(f"warning: {warning}")


def say_left_out(record: Mapping[str, Any], context_length: int, say: Callable[[str], None]) -> bool:
    """Say that a step left out texts that equal their caption, if it did; return whether it did."""
    negatives, views = record.get("negatives", {}).get("equal_to_caption", 0), record.get("equal_views", 0)
    if negatives or views:
        say(
            f"left out: {negatives} negatives and {views} views of this step equal their caption in the {context_length} tokens that the "
            "model reads; log.jsonl counts them at every step"
        )
    return bool(negatives or views)


@dataclass
class Trainer:
    """Everything that changes from step to step.

    Attributes:
        model: The model, tuned in place.
        optimizer: AdamW over its trainable parameters and those of the terms.
        chooser: Chooses negatives; None takes all that were drawn.
        terms: The objectives' loss terms by name.
        needs: What they need besides images, captions and negatives.
        parts: The recipe's training half.
        config: The numbers.
        ranks: Who trains together.
        feedback: How hard each negative and sample was.
        step: Steps done.
        loss: Loss of the last one.
        start_state: What training changes, before the first step; kept if the end goes back part of the way.
        turns: The objectives of each step, from the first to the last and again.
    """

    model: ClipModel
    optimizer: torch.optim.Optimizer
    chooser: NegativeChooser | None
    terms: Mapping[str, Term]
    needs: FeatureNeeds
    parts: TrainParts
    config: TrainConfig
    ranks: Ranks = field(default_factory=Ranks)
    feedback: FeedbackLog = field(default_factory=FeedbackLog)
    step: int = 0
    loss: float = math.nan
    start_state: dict[str, Tensor] = field(default_factory=dict)
    turns: tuple[tuple[Objective, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        """Take the turns from the recipe."""
        self.turns = self.parts.turns

    @classmethod
    def start(
        cls,
        parts: TrainParts,
        spec: ModelSpec,
        config: TrainConfig,
        run: Path,
        say: Callable[[str], None],
        statistics: Mapping[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> Trainer:
        """Load and tune the model, and restore the run's last checkpoint if it has one."""
        import torch

        config, model, ranks = on_device(config), spec.load(), ranks or Ranks()
        check_model_needs(parts, model)
        torch.manual_seed(draw_seed(config.seed, "tuning"))
        report = lora.apply_tuning(
            model,
            config.tune,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            targets=config.lora_targets or None,
            layers=list(config.lora_layers) or None,
            prompt_tokens=config.prompt_tokens,
        )
        for line in report.lines():
            say(line)
        model.module.to(config.device)
        model.train()
        check_batch_norm(model, config, ranks.size)
        chooser = parts.negatives.start() if parts.negatives else None
        if chooser and ranks.size > 1:
            chooser = GatheredChooser(chooser, ranks)
        terms = {objective.name: objective.start() for objective in parts.objectives}
        needs = parts.feature_needs(spec.load, statistics or {})
        if needs.teacher:
            match_context(needs.teacher, model)
            needs.teacher.module.to(config.device)
            needs.teacher.cuts = dict(model.cuts)  # it reads the same cached activations
        optimizer = make_optimizer(model, config, [item for term in terms.values() for item in term.parameters()])
        trainer = cls(model, optimizer, chooser, terms, needs, parts, config, ranks)
        if config.wise_ft < 1:
            trainer.start_state = lora.trainable_state(model)
        if (state := checkpoint.load_checkpoint(run)) is not None:
            trainer.load_state(state)
        ranks.check_equal("weights", state_hash(lora.trainable_state(model)))
        return trainer

    def make_step(self, batch: Batch) -> dict[str, Any]:
        """Make one optimiser step and return its record for the log.

        Raises:
            InputError: the loss is not a finite number.
        """
        import torch

        from training.model.clip_model import StepEncoder

        config, ranks, objectives = self.config, self.ranks, self.turns[batch.step % len(self.turns)]
        # a generator's state need not be saved when every step starts from its own seed
        rank_seed = ("rank", ranks.rank) if ranks.size > 1 else ()
        torch.manual_seed(draw_seed(config.seed, "step", batch.step, *rank_seed))
        self.model.train()
        # features: encode the batch, choose negatives, label the pairs
        encoder = StepEncoder(self.model, config.micro_batch_size, config.precision == "bf16")
        if ranks.size > 1 and "triplets" in self.needs.names:
            batch = share_facts(ranks, batch)
        features, choice = make_features(encoder, batch, self.chooser, batch.step / config.steps, self.needs)
        if ranks.size > 1:
            batch, features, choice = gather_step(ranks, batch, features, choice)
        equal = config.ignore_equal_captions
        features = with_labels(features, batch, choice, self.needs.gate, ignore_equal_captions=equal)
        # loss: the weighted sum of the objectives
        losses = {item.name: self.terms[item.name](features) for item in objectives}
        loss = torch.stack([objective.weight * losses[objective.name] for objective in objectives]).sum()
        lr = learning_rate(config, batch.step)
        if not bool(torch.isfinite(loss)):
            raise InputError(
                f"step {batch.step}: the loss is {loss.item()}",
                allowed="a finite number",
                fix=f"a lower learning rate than {lr:g}: --set train.lr=VALUE",
            )
        # gradients, and the optimiser's step
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        encoder.backward()
        trained = [parameter for parameter in self.model.module.parameters() if parameter.requires_grad]
        if ranks.size > 1:
            ranks.sum_gradients(trained, [item for term in self.terms.values() for item in term.parameters()])
        norm = torch.nn.utils.clip_grad_norm_(trained, config.grad_clip or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        with torch.no_grad():
            cast("Tensor", self.model.module.logit_scale).clamp_(0.0, math.log(config.logit_scale_max))
        # record: what the log says about this step
        hardness = self.feedback.record(batch, features, choice) if ranks.first else {}
        self.step, self.loss = batch.step + 1, loss.item()
        record = {"loss": self.loss, "objective": {name: value.item() for name, value in losses.items()}, "lr": lr}
        record |= {"logit_scale": features.logit_scale.item(), "grad_norm": norm.item(), "hardness": hardness}
        record |= {"negatives": negative_stats(batch, choice)} if choice else {}
        drawn = self.parts.views is not None or self.parts.positives is not None
        return record | ({"equal_views": sum(batch.texts.equal_views)} if drawn else {})

    def save_when_due(self, run: Path, log: RunLog) -> None:
        """Save a checkpoint if one is due; the log is on disk before."""
        if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
            log.sync()
            checkpoint.save_checkpoint(run, self.state())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: plain tensors and numbers."""
        return {
            "step": self.step,
            "loss": self.loss,
            "towers": lora.trainable_state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "negatives": self.chooser.state_dict() if self.chooser else {},
            "feedback": self.feedback.state_dict(),
            "objectives": {name: term.state_dict() for name, term in self.terms.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        lora.load_trainable_state(self.model, state["towers"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.chooser:
            self.chooser.load_state_dict(state["negatives"])
        self.feedback.load_state_dict(state["feedback"])
        for name, term in self.terms.items():
            term.load_state_dict(state["objectives"][name])
        self.step, self.loss = state["step"], state["loss"]

    def finish(self, dataset: DatasetVersion, spec: ModelSpec, run: Path) -> None:
        """Write the model, the feedback, and that the run is done. The last checkpoint keeps the tuned weights."""
        if self.start_state:
            step_back(lora.changing(self.model), self.start_state, self.config.wise_ft)
        save_run_model(run, self.model, spec.describe(), spec.content_hash(), self.config.tune)
        self.feedback.save(run, {"version": dataset.ref, "fingerprint": dataset.manifest.fingerprint})
        checkpoint.finish_run(run, self.step, self.loss)


def make_optimizer(
    model: ClipModel, config: TrainConfig, learned: Sequence[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return AdamW; vectors and scalars (norms, biases, the logit scale) do not decay.

    Fused: one pass over each tensor without temporary ones; a table of word vectors is most of a small model's weights.

    Args:
        model: Its trainable weights are optimised.
        config: The numbers.
        learned: Parameters of objectives.
    """
    import torch

    trained = [*(parameter for _, parameter in lora.trainable_parameters(model)), *learned]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step (0-based): linear warm-up, then cosine to zero or constant."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def identify(
    dataset: DatasetVersion, parts: TrainParts, spec: ModelSpec, config: TrainConfig, plan: BatchPlan | None
) -> dict[str, Any]:
    """Return run.json: all that is needed to repeat the run. Without a plan, it is made epoch by epoch."""
    order = {"online": True} if plan is None else {"fingerprint": plan.fingerprint, "num_steps": plan.num_steps}
    return {
        "manifest": {"name": dataset.manifest.name, "version": dataset.manifest.version}
        | {"fingerprint": dataset.manifest.fingerprint},
        "model": {"spec": spec.describe(), "hash": spec.content_hash()},
        "recipe": parts.to_json(),
        "config": config.to_json(),
        "plan": order,
        "versions": checkpoint.package_versions(),
    }
