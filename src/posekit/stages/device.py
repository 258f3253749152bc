"""Which device a stage works on."""

from __future__ import annotations

import torch

from posekit import parallel
from posekit.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device of a setting: `auto` is the first CUDA device when there is one, and the CPU otherwise.

    Several processes on one machine each get a device of their own where a setting names none.
    Raises ConfigError for a name that is no device, or for a CUDA device that is not there.
    """
    if name == "auto":
        return _own(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError("unknown device", got=name, accepted="auto, cpu, cuda, cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError("posekit does not run on this device", got=name, accepted="auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            "this CUDA device is not there",
            got=name,
            accepted=f"one of {torch.cuda.device_count()} CUDA devices",
            hint="Use --device cpu, or see `posekit doctor`",
        )
    return _own(device)


def _own(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None and parallel.world_size() > 1:
        return torch.device("cuda", parallel.local_rank() % max(1, torch.cuda.device_count()))
    return device
