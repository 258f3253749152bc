"""BatchNorm over processes against BatchNorm over the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, distributed, nn

from posekit.training.synced_norm import SyncedBatchNorm, synced

CPU = torch.device("cpu")


@pytest.fixture
def _twins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that have the same samples: sums over processes are twice one's own."""
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)


def norms(shape: tuple[int, ...], **options: object) -> tuple[nn.Module, nn.Module]:
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    plain = kind(shape[1], **options).double()
    if plain.affine:
        with torch.no_grad():
            plain.weight.uniform_(0.5, 2.0)
            plain.bias.uniform_(-1.0, 1.0)
    own = synced(nn.Sequential(plain), CPU)[0]
    assert isinstance(own, SyncedBatchNorm)
    other = kind(shape[1], **options).double()
    other.load_state_dict(plain.state_dict())
    return own, other


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 7), (4, 3, 5, 6), (2, 3, 2, 3, 4)])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}])
@pytest.mark.usefixtures("_twins")
def test_equals_batch_norm_over_the_whole_batch(shape: tuple[int, ...], options: dict[str, object]) -> None:
    own, plain = norms(shape, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        x = torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        both = x.detach().repeat(2, *[1] * (len(shape) - 1)).requires_grad_()
        mine, whole = own(x), plain(both)
        torch.testing.assert_close(mine, whole[: len(x)])
        mine.pow(3).sum().backward()
        whole.pow(3).sum().backward()
        assert x.grad is not None and both.grad is not None
        torch.testing.assert_close(x.grad, both.grad[: len(x)])
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], tensor)
    own.eval()
    plain.eval()
    torch.testing.assert_close(own(x), plain(x))


@pytest.mark.usefixtures("_twins")
def test_reduced_arithmetic_keeps_its_type() -> None:
    norm = SyncedBatchNorm(3)
    x = (100 + torch.randn(64, 3)).bfloat16()
    y: Tensor = norm(x)
    assert y.dtype == torch.bfloat16 and float(y.detach().float().std(0).max()) < 1.1
    assert norm.running_mean is not None and norm.running_mean.dtype == torch.float32


def test_parameters_and_names_stay_the_same() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    names, parameters = list(net.state_dict()), list(net.parameters())
    after = synced(net, CPU)
    assert list(after.state_dict()) == names
    assert all(one is other for one, other in zip(after.parameters(), parameters, strict=True))


def test_a_vector_is_no_batch() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        SyncedBatchNorm(3)._check_input_dim(torch.zeros(3))
