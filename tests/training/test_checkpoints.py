"""Checkpoints keep everything, and damage is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from posekit.errors import FormatError, OutputError
from posekit.training import checkpoints
from posekit.training.checkpoints import (
    Checkpoint,
    load_tensors,
    module_tensors,
    optimizer_state,
    read_checkpoint,
    restore_optimizer,
    save_tensors,
    tensors_below,
    write_checkpoint,
)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    tensors = {
        "a.b": torch.randn(3, 4),
        "n": torch.tensor(7),
        "half": torch.randn(2).bfloat16(),
        "empty": torch.zeros(0),
    }
    values = {"scale": 65536.0, "tiny": 1e-300, "none": None, "nested": {"0": {"step": 3}}}
    write_checkpoint(path, Checkpoint(12, tensors, values), "abc")
    back = read_checkpoint(path, "abc")
    assert back is not None
    assert (back.step, back.values) == (12, values)
    assert back.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back.tensors[name].dtype == tensor.dtype and torch.equal(back.tensors[name], tensor)
    assert read_checkpoint(path, "other") is None
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_files_can_be_read_by_those_whom_the_umask_lets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "tensors.safetensors", {"a": torch.zeros(1)})
    assert (tmp_path / "tensors.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_equal_tensors_make_equal_files(tmp_path: Path) -> None:
    first = {"b": torch.arange(3.0), "a": torch.ones(2)}
    save_tensors(tmp_path / "1.safetensors", first)
    save_tensors(tmp_path / "2.safetensors", dict(reversed(first.items())))
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_file_cut_short_is_noticed(tmp_path: Path, length: int) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, Checkpoint(1, {"a": torch.zeros(100)}), "abc")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError, match="damaged"):
        read_checkpoint(path, "abc")


@pytest.mark.parametrize("state", [None, "no json", "[]", json.dumps({"fingerprint": "abc"})])
def test_a_file_that_is_no_checkpoint(tmp_path: Path, state: str | None) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=None if state is None else {"state": state})
    with pytest.raises(FormatError, match="not a checkpoint"):
        read_checkpoint(path, "abc")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, Checkpoint(1), "abc")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise checkpoints.SafetensorError("No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        write_checkpoint(path, Checkpoint(2), "abc")
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_tied_weights_are_stored_under_both_names(tmp_path: Path) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    save_tensors(tmp_path / "m.safetensors", module_tensors({"net": nn.Sequential(first, second)}))
    tensors, _ = load_tensors(tmp_path / "m.safetensors")
    assert torch.equal(tensors["net.0.weight"], tensors["net.1.weight"])


def test_names_below_a_prefix() -> None:
    tensors = {"net.a": torch.zeros(1), "net.b.c": torch.zeros(2), "network.a": torch.zeros(3)}
    assert {name: len(tensor) for name, tensor in tensors_below(tensors, "net").items()} == {"a": 1, "b.c": 2}


@pytest.mark.parametrize("kind", ["adam", "amsgrad", "sgd", "adagrad", "fresh"])
def test_an_optimizer_goes_on_exactly(kind: str) -> None:
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        net = nn.Linear(3, 2)
        with torch.no_grad():
            net.weight.copy_(torch.arange(6.0).view(2, 3))
            net.bias.zero_()
        optimizers = {
            "adam": torch.optim.Adam,
            "fresh": torch.optim.Adam,
            "amsgrad": lambda p: torch.optim.AdamW(p, amsgrad=True),
            "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
            "adagrad": torch.optim.Adagrad,
        }
        return net, optimizers[kind](net.parameters())

    def steps(net: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            optimizer.zero_grad()
            (net(torch.full((4, 3), float(number + 1))) - number).square().mean().backward()
            optimizer.step()

    half = 0 if kind == "fresh" else 5
    whole, broken = make(), make()
    steps(*whole, range(10))
    steps(*broken, range(half))
    tensors, values = optimizer_state(broken[1])
    again = make()
    again[0].load_state_dict(broken[0].state_dict())
    restore_optimizer(again[1], tensors, json.loads(json.dumps(values)))
    steps(*again, range(half, 10))
    assert torch.equal(whole[0].weight, again[0].weight)


def test_moments_of_a_network_that_lies_channels_last_in_memory_keep_their_places() -> None:
    def convolution() -> tuple[nn.Module, torch.optim.Optimizer]:
        module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        nn.init.constant_(module.weight, 0.5)
        nn.init.zeros_(module.bias)
        return module, torch.optim.Adam(module.parameters(), lr=0.1, fused=True)

    def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        images = torch.arange(2.0 * 3 * 5 * 5).reshape(2, 3, 5, 5).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        module(images / 100).square().mean().backward()
        optimizer.step()

    first, taught = convolution()
    step(first, taught)
    second, other = convolution()
    second.load_state_dict(first.state_dict())
    tensors, values = optimizer_state(taught)
    restore_optimizer(other, {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, values)
    step(first, taught)
    step(second, other)
    assert torch.equal(first.weight, second.weight)
