"""Networks set up by Lightning Fabric for a device, a precision and several processes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import DoublePrecision, MixedPrecision, Precision
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from posekit import parallel
from posekit.config.training import Precision as PrecisionName
from posekit.errors import ConfigError
from posekit.training.synced_norm import synced


class _Double(DoublePrecision):
    """float64 throughout, without Fabric's change of torch's default type, which loader threads would see."""

    def forward_context(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def convert_output(self, data: Any) -> Any:
        return data


class _Mixed(MixedPrecision):
    """Autocast, which lowers the precision of what can bear it; inputs (coordinates, too) arrive whole."""

    def convert_input(self, data: Any) -> Any:
        return data


def require_precision(precision: PrecisionName, device: torch.device) -> None:
    """Raises ConfigError for arithmetic that the device does not have."""
    if precision == "16-mixed" and device.type != "cuda":
        raise ConfigError(
            "16-mixed needs a CUDA device", got=f"device {device.type}", accepted="32-true, bf16-mixed, 64-true"
        )


def start_fabric(device: torch.device, precision: PrecisionName) -> Fabric:
    """Fabric for this process; on several, connected with the others.

    Raises ConfigError where a precision does not go with the device, or there are fewer CUDA devices than processes.
    """
    require_precision(precision, device)
    for name in ("lightning_fabric", "lightning.fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fabric = _alone(device, precision) if parallel.world_size() == 1 else _among_others(device, precision)
        fabric.launch()
    return fabric


def _alone(device: torch.device, precision: PrecisionName) -> Fabric:
    return Fabric(
        accelerator="cpu" if device.type == "cpu" else "cuda",
        devices=1 if device.type == "cpu" else [device.index or 0],
        plugins=[_arithmetic(device, precision), LightningEnvironment()],
    )


def _among_others(device: torch.device, precision: PrecisionName) -> Fabric:
    here = parallel.local_world_size()
    if device.type == "cuda":
        if torch.cuda.device_count() < here:
            raise ConfigError(
                "each process needs a CUDA device of its own",
                got=f"{here} processes, {torch.cuda.device_count()} devices",
                hint="Start fewer processes, or use --device cpu",
            )
        torch.cuda.set_device(parallel.local_rank())
    parallel.join()
    return Fabric(
        accelerator="cpu" if device.type == "cpu" else "cuda",
        devices=here,
        num_nodes=parallel.world_size() // here,
        # Buffers need no broadcast: running statistics are those of the global batch in every process.
        strategy=DDPStrategy(broadcast_buffers=False),
        plugins=[_arithmetic(device, precision), TorchElasticEnvironment()],
    )


def _arithmetic(device: torch.device, precision: PrecisionName) -> Precision:
    if precision == "64-true":
        return _Double()
    if precision == "32-true":
        return Precision()
    return _Mixed(precision, device.type)


def arithmetic(precision: PrecisionName, device: str) -> AbstractContextManager[object]:
    """What a network that is not trained runs in: autocast for the mixed precisions."""
    lower = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return nullcontext() if lower is None else torch.autocast(device, lower)


def set_up(fabric: Fabric, modules: Mapping[str, nn.Module], device: torch.device) -> dict[str, nn.Module]:
    """The modules to call: on the device of `fabric`, in its precision, with gradients averaged over processes."""
    ready: dict[str, nn.Module] = {}
    for name, module in modules.items():
        module.train()
        if parallel.world_size() > 1 and not any(parameter.requires_grad for parameter in module.parameters()):
            # Nothing to average, and DDP refuses such modules.
            ready[name] = place_constant(fabric, module)
            continue
        own = module if parallel.world_size() == 1 else synced(module, device)
        with warnings.catch_warnings():
            # Newer versions of torch spell `broadcast_buffers` differently.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")
            ready[name] = fabric.setup_module(own)
    return ready


def place_constant(fabric: Fabric, module: nn.Module) -> nn.Module:
    """A module that is not trained, on the device and with the numbers of `fabric`."""
    converted: nn.Module = fabric.strategy.precision.convert_module(module)
    return converted.to(fabric.device)
