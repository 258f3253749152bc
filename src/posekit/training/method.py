"""What a training has of its own, and what the loop lends it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.optim import Optimizer


@runtime_checkable
class AnyBatch(Protocol):
    """What the loop asks of a batch."""

    def to(self, device: torch.device) -> Any:
        """The same batch on a device."""

    def __len__(self) -> int: ...


Batch = TypeVar("Batch", bound=AnyBatch)
Given = TypeVar("Given", bound=AnyBatch, covariant=True)


@runtime_checkable
class BatchSource(Protocol[Given]):
    """Samples that can be read in any order."""

    def __len__(self) -> int:
        """The number of samples."""

    def batch(self, samples: Int[np.ndarray, " B"], epoch: int) -> Given:
        """These samples. Called from several threads; must depend on `samples` and `epoch` alone, so that a training
        that was interrupted meets the same batches again."""


@runtime_checkable
class Worker(Protocol):
    """What the loop lends a method during a step."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    @property
    def progress(self) -> float:
        """How much of the whole training is done, 0 to 1."""

    @property
    def generator(self) -> torch.Generator:
        """A generator on the CPU, fresh for each step and the same in every process.

        Draw random numbers for the whole global batch from it and take `mine` of them: then several processes do what
        one would.
        """

    def module(self, name: str) -> nn.Module:
        """A module of the method as it is set up for the device, the precision and several processes; a step calls this
        one, with tensors in and tensors out."""

    def backward(self, loss: Tensor) -> None:
        """Adds to the gradients. The first call after a `step` begins with gradients of zero, in all modules."""

    def through(self, name: str) -> AbstractContextManager[nn.Module]:
        """A module of the method whose parameters are to get no gradient from what it is called with: gradients flow
        through it alone. It is called at once, and once, within the context."""

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number without gradient over all processes."""

    def step(self, name: str, most: float | None = None) -> None:
        """One step of the optimiser of a module; `most` bounds the norm of its gradient."""

    def mine(self, whole: Shaped[Tensor, "whole *shape"]) -> Shaped[Tensor, "mine *shape"]:
        """The rows of this process, of a tensor with one row for each sample of the global batch."""


class Method(ABC, Generic[Batch]):
    """What a training has of its own.

    Losses are means over the samples of a batch of values that depend on one sample each; then the mean over processes
    equals the mean over the global batch.
    """

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """What is trained and stored, by name (without dots); always the same objects.

        The loop puts them into training mode. What must not follow (a frozen BatchNorm) overrides `train`. On several
        processes each backward pass must reach all parameters that require gradients.
        """

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """The optimisers, by the name of the module that each steps."""

    @abstractmethod
    def step(self, batch: Batch, worker: Worker) -> dict[str, Tensor]:
        """One step on one batch; returns the losses to log (detached, of one element)."""

    def steady(self) -> frozenset[str]:
        """The optimisers whose learning rates stay what they are, whatever is done to those of the others."""
        return frozenset()

    def constants(self) -> dict[str, nn.Module]:
        """Modules that are moved to the device, but neither trained nor stored."""
        return {}
