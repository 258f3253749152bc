"""Batch normalisation over the samples of all processes, on CPUs.

Torch's SyncBatchNorm does the same on CUDA devices, and refuses CPUs.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm(_BatchNorm):
    """Batch normalisation whose statistics, in training, are those of the global batch (equal shares in all processes)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected samples and channels, got a tensor of {input.dim()} dimensions")

    def forward(self, input: Float[Tensor, "B C *space"]) -> Float[Tensor, "B C *space"]:
        """Normalises over samples and space."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        others = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = input.numel() // input.shape[1] * distributed.get_world_size()
        # Reduced arithmetic is for the networks' products; statistics are taken in float32 at least.
        values = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        mean = _SumOverProcesses.apply(values.sum(others)) / count
        centred = values - mean.view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(others)) / count
        self._remember(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synced(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with every BatchNorm in it replaced by one over all processes; parameters and names stay the same."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch's
        return converted
    if isinstance(module, _BatchNorm):
        return _synced_norm(module)
    for name, child in module.named_children():
        setattr(module, name, synced(child, device))
    return module


def _synced_norm(norm: _BatchNorm) -> SyncedBatchNorm:
    other = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    other.weight, other.bias = norm.weight, norm.bias
    other.running_mean, other.running_var = norm.running_mean, norm.running_var
    other.num_batches_tracked = norm.num_batches_tracked
    other.training = norm.training
    return other
