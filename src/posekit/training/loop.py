"""The training loop of all methods."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Shaped
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim import Optimizer

from posekit import parallel
from posekit.config.training import Decay, Precision, TrainingConfig
from posekit.errors import ArtifactError, ConfigError
from posekit.progress import track
from posekit.training.checkpoints import (
    Checkpoint,
    module_tensors,
    optimizer_state,
    restore_optimizer,
    tensors_below,
)
from posekit.training.devices import place_constant, set_up, start_fabric
from posekit.training.loading import BatchLoader
from posekit.training.logs import RunLog, read_log
from posekit.training.meter import Meter
from posekit.training.method import Batch, BatchSource, Method
from posekit.training.runs import RunFolder
from posekit.training.sampling import Schedule, process_seed, step_seed

logger = logging.getLogger(__name__)

_STEP = 0.1
"""What a step of the learning rate multiplies it by."""

_EPOCH = 0.99
"""What an epoch of the exponential decay multiplies it by (Cha et al. 2021)."""

_ROUNDING = 1e-9

Monitor = Callable[[int], dict[str, float]]
"""Measures the networks after an epoch (its argument: epochs done); they are in evaluation mode, gradients are off."""


@dataclass(frozen=True)
class LoopSettings:
    """How the loop runs; the meanings are those of `TrainingConfig`."""

    epochs: int
    batch: int
    lr: float
    decay: Decay = "none"
    precision: Precision = "32-true"
    seed: int = 0
    workers: int = 2
    log_every: int = 50
    checkpoint_every: int = 500
    decay_epochs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if (self.decay == "steps") != bool(self.decay_epochs):
            raise ConfigError(
                "the learning rate is lowered in steps at given epochs",
                got=f"decay {self.decay}, decay epochs {self.decay_epochs or 'none'}",
                accepted="--decay steps and --decay-epochs together, or neither",
            )

    @staticmethod
    def from_config(config: TrainingConfig) -> LoopSettings:
        """The settings that a training's config holds."""
        return LoopSettings(
            epochs=config.epochs,
            batch=config.batch,
            lr=config.lr,
            decay=config.decay,
            decay_epochs=config.decay_epochs,
            precision=config.precision,
            seed=config.seed,
            workers=config.workers,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
        )

    def lr_share(self, progress: float) -> float:
        """What the learning rate is multiplied by after this share of the training."""
        if self.decay == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        if self.decay == "exponential":
            return _EPOCH ** math.floor(progress * self.epochs + _ROUNDING)
        passed = sum(progress * self.epochs >= epoch - _ROUNDING for epoch in self.decay_epochs)
        return _STEP**passed if self.decay == "steps" else 1.0


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training came to.

    `steps` counts those of the whole training, `first_step` those that an earlier, interrupted command had taken, and
    `losses` are means since the log's last line but one. `waiting_share` is the share of the time that went by waiting
    for data. `notes` are for the user.
    """

    steps: int
    first_step: int = 0
    skipped: bool = False
    losses: Mapping[str, float] = field(default_factory=dict)
    monitored: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waiting_share: float = 0.0
    notes: tuple[str, ...] = ()


def train(
    method: Method[Batch],
    source: BatchSource[Batch],
    settings: LoopSettings,
    run: RunFolder,
    device: torch.device,
    *,
    monitor: Monitor | None = None,
) -> TrainingOutcome:
    """Trains the modules of `method` in place and stores them in `run`.

    Goes on from the checkpoint of an interrupted training with the same header. A run that is finished already is only
    loaded. Raises ConfigError for settings that do not go together, TrainingError when the losses are no numbers any
    more, OutputError where the folder cannot be written, and whatever the source raises.
    """
    schedule = Schedule(
        len(source), settings.batch, settings.epochs, settings.seed, parallel.rank(), parallel.world_size()
    )
    if run.is_finished():
        return _load_finished(method, run, schedule.steps)
    began = time.perf_counter()
    session = _Session(method, settings, schedule, start_fabric(device, settings.precision))
    checkpoint, note = run.last_checkpoint()
    first = session.restore(checkpoint) if checkpoint is not None else 0
    if note and parallel.is_main():
        logger.log(logging.INFO if first else logging.WARNING, note)
    run.begin()
    with (
        torch.random.fork_rng(devices=[session.device] if session.device.type == "cuda" else []),
        RunLog(run.path, first) as log,
        BatchLoader(source, schedule, settings.workers) as loader,
    ):
        steps = loader.batches(first)
        for step, batch in _shown(steps, schedule.steps - first):
            session.begin_step(step)
            losses = method.step(batch.to(session.device), session)
            session.meter.add(losses)
            done = step + 1
            if done % settings.log_every == 0 or done == schedule.steps:
                log.write(done, session.line(done, loader.waited))
            if monitor is not None and done % schedule.steps_per_epoch == 0:
                log.write(done, session.monitor(monitor, done))
            if done % settings.checkpoint_every == 0 and done < schedule.steps:
                session.meter.require_numbers(done)
                with session.meter.paused():
                    run.save_checkpoint(session.checkpoint(done))
        waited = loader.waited
    run.finish(module_tensors(session.modules))
    seconds = time.perf_counter() - began
    return TrainingOutcome(
        schedule.steps,
        first,
        losses=session.meter.last,
        monitored=session.monitored,
        seconds=seconds,
        waiting_share=waited / seconds,
        notes=(note,) if note else (),
    )


class _Session:
    """The state of one training: what a step needs (`Worker`), and what is logged and stored."""

    def __init__(self, method: Method[Any], settings: LoopSettings, schedule: Schedule, fabric: Fabric) -> None:
        self.settings, self.schedule, self.fabric = settings, schedule, fabric
        self.modules: dict[str, nn.Module] = method.modules()
        self.optimizers: dict[str, Optimizer] = method.optimizers()
        self._steady = method.steady()
        _check_names(self.modules, self.optimizers)
        for constant in method.constants().values():
            place_constant(fabric, constant.eval())
        self._ready = set_up(fabric, self.modules, fabric.device)
        self._first_rates = {
            name: [float(group["lr"]) for group in optimizer.param_groups]
            for name, optimizer in self.optimizers.items()
        }
        self.meter = Meter(fabric.device, settings.batch)
        self.monitored: dict[str, float] = {}
        self._step = 0
        self._generator: torch.Generator | None = None
        self._stale = True

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def progress(self) -> float:
        return self._step / self.schedule.steps

    @property
    def generator(self) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(step_seed(self.settings.seed, self._step))
        return self._generator

    def module(self, name: str) -> nn.Module:
        return self._ready[name]

    def backward(self, loss: Tensor) -> None:
        if self._stale:
            for optimizer in self.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            self._stale = False
        self.fabric.backward(loss)

    @contextmanager
    def through(self, name: str) -> Iterator[nn.Module]:
        module = self._ready[name]
        own = [parameter for parameter in self.modules[name].parameters() if parameter.requires_grad]
        for parameter in own:
            parameter.requires_grad_(False)
        # DDP would wait for gradients that do not come.
        synced = isinstance(module, _FabricModule) and parallel.world_size() > 1
        try:
            with self.fabric.no_backward_sync(cast(_FabricModule, module)) if synced else nullcontext():
                yield module
        finally:
            for parameter in own:
                parameter.requires_grad_(True)

    def mean(self, value: Tensor) -> Tensor:
        if parallel.world_size() == 1:
            return value
        whole = self.fabric.all_reduce(value, reduce_op="mean")
        return cast(Tensor, whole)

    def step(self, name: str, most: float | None = None) -> None:
        if most is not None:
            self.fabric.clip_gradients(self.modules[name], self.optimizers[name], max_norm=most)
        self.fabric.strategy.optimizer_step(self.optimizers[name])
        self.optimizers[name].zero_grad(set_to_none=True)
        self._stale = True

    def mine(self, whole: Shaped[Tensor, "whole *shape"]) -> Shaped[Tensor, "mine *shape"]:
        return whole[self.schedule.rank :: self.schedule.world]

    def begin_step(self, step: int) -> None:
        """Fixes everything that depends on the number of the step."""
        self._step, self._generator, self._stale = step, None, True
        # Networks may draw from torch's own generators (dropout). `torch.manual_seed` would seed all devices, and where
        # CUDA sleeps keep each seed with a stack trace for its awakening: half a millisecond, and memory that grows.
        seed = process_seed(self.settings.seed, step, self.schedule.rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        share = self.settings.lr_share(self.progress)
        for name, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._first_rates[name], strict=True):
                group["lr"] = rate if name in self._steady else rate * share

    def line(self, done: int, waited: float) -> dict[str, Any]:
        """A line of the log after `done` steps."""
        rate = self.settings.lr * self.settings.lr_share(self.progress)
        return {"epoch": self.schedule.epoch(done - 1), **self.meter.take(done, waited), "lr": rate}

    def monitor(self, measure: Monitor, done: int) -> dict[str, Any]:
        """A line of the log with what `measure` finds; the main process alone measures."""
        epochs = done // self.schedule.steps_per_epoch
        with self.meter.paused():
            if parallel.is_main():
                for module in self.modules.values():
                    module.eval()
                with torch.no_grad():
                    self.monitored = measure(epochs)
                for module in self.modules.values():
                    module.train()
            parallel.wait_for_all()
        return {"epoch": epochs - 1, "monitor": self.monitored}

    def checkpoint(self, done: int) -> Checkpoint:
        """All that is needed to go on after `done` steps; every process must call it."""
        tensors = {f"module.{name}": tensor for name, tensor in module_tensors(self.modules).items()}
        tensors |= {f"meter.{name}": total for name, total in self.meter.whole().items()}
        values: dict[str, Any] = {}
        for owner, optimizer in self.optimizers.items():
            state, values[owner] = optimizer_state(optimizer)
            tensors |= {f"optimizer.{owner}.{name}": tensor for name, tensor in state.items()}
        precision = self.fabric.strategy.precision.state_dict()
        return Checkpoint(
            done, tensors, {"optimizers": values, "precision": precision, "counts": dict(self.meter.counts)}
        )

    def restore(self, checkpoint: Checkpoint) -> int:
        """Takes over the state of a checkpoint; returns the number of steps done."""
        with _fitting("the checkpoint does not fit the networks", "Delete it to start over"):
            for name, module in self.modules.items():
                module.load_state_dict(tensors_below(checkpoint.tensors, f"module.{name}"))
            for name, optimizer in self.optimizers.items():
                state = tensors_below(checkpoint.tensors, f"optimizer.{name}")
                restore_optimizer(optimizer, state, checkpoint.values["optimizers"][name])
            self.fabric.strategy.precision.load_state_dict(checkpoint.values["precision"])
            self.meter.restore(tensors_below(checkpoint.tensors, "meter"), checkpoint.values["counts"])
        return checkpoint.step


def _shown(steps: Iterator[tuple[int, Batch]], total: int) -> Iterator[tuple[int, Batch]]:
    return track(steps, "train", total=total, unit="step") if parallel.is_main() else steps


def _load_finished(method: Method[Any], run: RunFolder, steps: int) -> TrainingOutcome:
    loaded = run.load()
    with _fitting(f"the weights in {run.path} do not fit the networks", "Train again with --force"):
        for name, module in method.modules().items():
            module.load_state_dict(loaded.module(name))
    last: dict[str, Any] = {}
    for line in read_log(run.path):
        last |= line
    return TrainingOutcome(steps, steps, True, last.get("losses", {}), last.get("monitor", {}))


@contextmanager
def _fitting(what: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ArtifactError(what, got=error, hint=hint) from error


def _check_names(modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> None:
    dotted = [name for name in modules if "." in name or not name]
    strangers = sorted(set(optimizers) - set(modules))
    if dotted or strangers:
        raise ValueError(f"modules need names without dots {dotted}, optimisers the names of modules {strangers}")
