"""The trainer: one page, read from top to bottom in the order it happens.

A run is a pure function of (data set version, recipe, model, config). It can be killed at any moment and resumed to
the same bytes: batches come from a saved plan, every draw has its own seed, and whatever adapts is in the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_manifests.errors import InputError
from data_manifests.run_files import PLAN_FILE
from data_manifests.seeds import draw_seed
from training import checkpoint
from training.batches.batch import Batch
from training.batches.loader import PlannedBatches
from training.batches.plan import Plan
from training.config import TrainConfig
from training.distributed import Ranks
from training.features import Needs, clamp_logit_scale, make_features
from training.feedback import FeedbackLog
from training.gather import GatheredChooser, check_batch_statistics, whole_batch
from training.gradient_cache import Passes, check_chunks, deterministic, on_device, place
from training.log import Clock, Display, RunLog
from training.model import lora
from training.model.checkpoint_files import state_hash
from training.model.run_folder import save_run_model
from training.model.wise_ft import step_back
from training.objectives import start_term
from training.online_plan import Embedder, GrowingPlan, plan_ahead
from training.precompute import CachedTrunks
from training.train_parts import TrainParts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from data_manifests.manifest import DatasetVersion
    from training.checkpoint import RunResult
    from training.hard_negatives import Chooser
    from training.model.clip_model import ClipModel
    from training.model.spec import ModelSpec
    from training.objectives import Term


def train(
    dataset: DatasetVersion,
    parts: TrainParts,
    spec: ModelSpec,
    config: TrainConfig,
    run: Path,
    *,
    resume: bool = False,
    cache: Path | None = None,
    replay: Path | None = None,
) -> RunResult:
    """Train a model on a data set version, with the other ranks if torchrun started several.

    Args:
        dataset: What is trained on.
        parts: The recipe's planner, objectives and choice of negatives.
        spec: The model to start from.
        config: The numbers.
        run: The run's folder, new or empty; filled with run.json, plan.parquet, log.jsonl, tensorboard/, checkpoint/,
            the model's files, and last done.json. All ranks see it, the first one writes.
        resume: Go on with the run in the folder; a finished one is returned as it is.
        cache: Keeps what frozen trunks compute for later runs; None forgets it.
        replay: A plan.parquet whose order is followed instead of the planner's.

    Raises:
        InputError: the data, model or folder cannot be used, or the loss is no longer a number.
    """
    config = on_device(config)
    ranks = Ranks.join()
    ranks.share(config.batch_size)
    index, plan = plan_ahead(dataset, parts.planner, config, replay, ranks)
    with (
        ranks.leading(checkpoint.run_folder(run, resume)),
        deterministic(config.num_threads),
        Display(quiet=not ranks.first).shown() as display,
    ):
        ranks.first_does(lambda: checkpoint.begin_run(run, identify(dataset, parts, spec, config, plan), plan))
        if finished := checkpoint.finished_run(run):
            return finished
        statistics = dataset.manifest.body.get("statistics", {})
        trainer = Trainer.start(parts, spec, config, run, display.say, statistics, ranks)
        filled = CachedTrunks(trainer.model, trainer.needs, config, cache, ranks, display.report)
        clock = Clock()
        growing = GrowingPlan(parts.planner, index, config, run / PLAN_FILE, ranks)
        embed = Embedder(dataset, index, trainer.model, config, ranks, filled.images)
        with RunLog(run, trainer.step) if ranks.first else nullcontext() as log:
            for known in [plan] if plan else growing.plans(trainer.step, embed):
                batches = PlannedBatches(dataset, ranks.own(known), trainer.model, config, parts.drawn, trainer.step)
                with closing(batches):
                    filled.both(batches)
                    for batch in clock.timed(batches):
                        record = {"epoch": int(known.epoch[batch.step]), **trainer.make_step(batch), **clock.lap()}
                        if log:
                            log.write(batch.step, record)
                            trainer.save_when_due(run, log)
                        display.report("training", trainer.step, config.steps, f"loss {trainer.loss:.4f}")
            display.say(f"waited for data: {100 * clock.stall:.2f} % of the time")
        ranks.first_does(lambda: trainer.finish(dataset, spec, run))
        return checkpoint.result_of(run)


@dataclass
class Trainer:
    """Everything that changes from step to step.

    Attributes:
        model: The model, tuned in place.
        optimizer: AdamW over its trainable parameters.
        chooser: Chooses negatives; None trains without.
        terms: The objectives at work, by name.
        needs: What they need besides images, captions and negatives.
        parts: The recipe's parts.
        config: The numbers.
        feedback: What was learned about each negative and sample.
        step: Steps done.
        loss: Loss of the last one.
        ranks: Who trains together.
        start_state: What training changes, as it was before the first step, if the end goes back part of the way.
    """

    model: ClipModel
    optimizer: torch.optim.Optimizer
    chooser: Chooser | None
    terms: Mapping[str, Term]
    needs: Needs
    parts: TrainParts
    config: TrainConfig
    feedback: FeedbackLog = field(default_factory=FeedbackLog)
    step: int = 0
    loss: float = math.nan
    ranks: Ranks = field(default_factory=Ranks)
    start_state: dict[str, Tensor] = field(default_factory=dict)

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
        """Load and tune the model, and go on from the run's last checkpoint if it has one."""
        import torch

        config, model = on_device(config), spec.load()
        torch.manual_seed(draw_seed(config.seed, "tuning"))
        report = lora.apply_tuning(
            model,
            config.tune,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            targets=config.lora_targets or None,
            layers=list(config.lora_layers) or None,
        )
        for line in report.lines():
            say(line)
        place(model.module, config.device)
        if config.micro_batch_size:
            lora.train_mode(model)
            check_chunks(model)
        ranks = ranks or Ranks()
        check_batch_statistics(model, ranks)
        chooser = GatheredChooser.around(parts.negatives.start(), ranks) if parts.negatives else None
        terms = {objective.name: start_term(objective) for objective in parts.objectives}
        needs = Needs.of(parts, spec.load, statistics or {})
        if needs.teacher:
            place(needs.teacher.module, config.device)
        learned = [parameter for term in terms.values() for parameter in term.parameters()]
        optimizer = make_optimizer(model, config, learned)
        trainer = cls(model, optimizer, chooser, terms, needs, parts, config, ranks=ranks)
        if config.wise_ft < 1:
            trainer.start_state = lora.trainable_state(model)
        state = checkpoint.load_checkpoint(run)
        if state is not None:
            lora.load_trainable_state(model, state["towers"])
            trainer.optimizer.load_state_dict(state["optimizer"])
            if chooser:
                chooser.load_state_dict(state["negatives"])
            trainer.feedback.load_state_dict(state["feedback"])
            for name, term in terms.items():
                term.load_state_dict(state["objectives"][name])
            trainer.step, trainer.loss = state["step"], state["loss"]
        ranks.agree("weights", state_hash(lora.trainable_state(model)))
        return trainer

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

    def save_when_due(self, run: Path, log: RunLog) -> None:
        """Save a checkpoint if it is time to; the log is on disk before."""
        if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
            log.sync()
            checkpoint.save_checkpoint(run, self.state())

    def finish(self, dataset: DatasetVersion, spec: ModelSpec, run: Path) -> None:
        """Write the model, the feedback, and that the run is done. The last checkpoint keeps the tuned weights."""
        if self.start_state:
            step_back(lora.changing(self.model), self.start_state, self.config.wise_ft)
        save_run_model(run, self.model, spec.describe(), spec.content_hash(), self.config.tune)
        self.feedback.save(run, {"version": dataset.ref, "fingerprint": dataset.manifest.fingerprint})
        checkpoint.finish_run(run, self.step, self.loss)

    def make_step(self, batch: Batch) -> dict[str, Any]:
        """Make one optimiser step and return what the log says of it.

        Raises:
            InputError: the loss is not a finite number.
        """
        import torch

        # a generator state need not be saved when every step starts from its own seed
        torch.manual_seed(draw_seed(self.config.seed, "step", batch.step, *self.ranks.seed))
        lr = self.config.lr_at(batch.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        lora.train_mode(self.model)
        progress = batch.step / self.config.steps
        equal = self.config.ignore_equal_captions
        batch = batch.to(self.config.device)
        passes = Passes(self.config.micro_batch_size, bf16=self.config.precision == "bf16")
        own = make_features(
            self.model, batch, self.chooser, progress, ignore_equal_captions=equal, needs=self.needs, passes=passes
        )
        batch, (features, stats, choice) = whole_batch(self.ranks, batch, own, self.needs.gate)
        terms = {name: term(features) for name, term in self.terms.items()}
        loss = torch.stack([objective.weight * terms[objective.name] for objective in self.parts.objectives]).sum()
        if not bool(torch.isfinite(loss)):
            raise InputError(
                f"step {batch.step}: the loss is {loss.item()}",
                allowed="a finite number",
                fix=f"a lower learning rate than {lr:g}: --set train.lr=VALUE",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        passes.backward()
        trained = [parameter for _, parameter in lora.trainable_parameters(self.model)]
        self.ranks.sum_gradients(trained, [item for term in self.terms.values() for item in term.parameters()])
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.grad_clip or math.inf)
        self.optimizer.step()
        clamp_logit_scale(self.model, self.config.logit_scale_max)
        hardness = self.feedback.record(batch, features, choice) if self.ranks.first else {}
        self.step, self.loss = batch.step + 1, loss.item()
        record = {"loss": self.loss, "objective": {name: term.item() for name, term in terms.items()}, "lr": lr}
        record |= {"logit_scale": features.logit_scale.item(), "grad_norm": norm.item(), "hardness": hardness}
        return record | ({"negatives": stats} if stats else {})


def make_optimizer(
    model: ClipModel, config: TrainConfig, learned: Sequence[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return AdamW; vectors and scalars (norms, biases, the logit scale) do not decay.

    Args:
        model: Whose trainable weights it moves.
        config: The numbers.
        learned: What objectives learn besides.
    """
    import torch

    trained = [*(parameter for _, parameter in lora.trainable_parameters(model)), *learned]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)


def identify(
    dataset: DatasetVersion, parts: TrainParts, spec: ModelSpec, config: TrainConfig, plan: Plan | None
) -> dict[str, Any]:
    """Return run.json: all that is needed to make the run again. No plan: it is made with the model as it goes."""
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
