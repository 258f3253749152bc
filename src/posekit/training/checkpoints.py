"""The state of an unfinished training, in one file that is whole or absent.

Everything random is a function of the seed and the step (see `sampling`), so that the weights, the optimisers' tensors and
the number of steps done are all that is needed to go on exactly. The file is a safetensors file: nothing in it can run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from posekit.atomic import replacing
from posekit.errors import FormatError, OutputError


@dataclass(frozen=True)
class Checkpoint:
    """What has to be known to go on after `step` steps: tensors by name, and plain values."""

    step: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def write_checkpoint(path: Path, checkpoint: Checkpoint, fingerprint: str) -> None:
    """Writes a checkpoint in the place of the one before; OutputError where the file system refuses."""
    state = {"step": checkpoint.step, "fingerprint": fingerprint, "values": dict(checkpoint.values)}
    save_tensors(path, checkpoint.tensors, {"state": json.dumps(state)})


def read_checkpoint(path: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint in a file, or None when it belongs to other settings or inputs; FormatError when it is damaged."""
    tensors, notes = load_tensors(path)
    try:
        state = json.loads(notes["state"])
        if state["fingerprint"] != fingerprint:
            return None
        return Checkpoint(int(state["step"]), tensors, dict(state["values"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is not a checkpoint of posekit", got=error) from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """A safetensors file, written beside `path` and renamed."""
    # Copies, because the format refuses tensors that share memory (tied weights).
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(plain, temporary, metadata=None if notes is None else dict(notes))
            # The library makes files that nobody else may read, whatever the umask says.
            temporary.chmod(mode)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}", got=error, hint="Check the free space") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and its notes; FormatError when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (the file is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"{path} is damaged or not a safetensors file", got=error) from error


def module_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The weights and buffers of modules, named `<module>.<name>`."""
    return {
        f"{owner}.{name}": tensor for owner, module in modules.items() for name, tensor in module.state_dict().items()
    }


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `<prefix>.`, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """The tensors of an optimiser, named `<number of the parameter>.<name>`, and its other values by the same keys.

    Settings (learning rate, momenta) are not among them: they come from the config that the fingerprint holds fixed.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for number, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{number}.{name}"] = value
            else:
                values.setdefault(str(number), {})[name] = value
    return tensors, values


def restore_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Mapping[str, Any]]
) -> None:
    """Gives an optimiser the state that `optimizer_state` took."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = _laid_out(tensor, parameters[int(number)])
    for number, entries in values.items():
        state.setdefault(int(number), {}).update(entries)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A moment in the memory layout of its parameter: fused optimisers walk through both as they lie in memory."""
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
