"""Coordinates from volumes (conformance check 11 of the method)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.models.soft_argmax import confidences, expected_cells, heat_maps, marginals, soft_argmax

SHAPE = (2, 3, 6, 5, 8)
"""Samples, joints, depth, rows, columns."""


def volume(seed: int = 0, scale: float = 4.0) -> torch.Tensor:
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(logits: np.ndarray, half_cell: bool) -> np.ndarray:
    """One cell after the other."""
    result = np.zeros((*logits.shape[:2], 3))
    depth, rows, columns = logits.shape[2:]
    for sample, joint in np.ndindex(*logits.shape[:2]):
        values = np.exp(logits[sample, joint] - logits[sample, joint].max())
        values /= values.sum()
        for z, y, x in np.ndindex(depth, rows, columns):
            place = np.array([x / columns, y / rows, z / depth]) - 0.5
            if half_cell:
                place += 0.5 / np.array([columns, rows, depth])
            result[sample, joint] += values[z, y, x] * place
    return result


@pytest.mark.parametrize("half_cell", [True, False])
def test_it_is_the_mean_of_all_cells_by_their_probability(half_cell: bool) -> None:
    logits = volume()
    np.testing.assert_allclose(soft_argmax(logits, half_cell).numpy(), by_hand(logits.numpy(), half_cell), atol=1e-12)


def test_one_cell_alone_gives_its_centre_and_all_alike_the_middle() -> None:
    logits = torch.zeros(SHAPE)
    assert soft_argmax(logits).abs().max() < 1e-6
    logits[:, :, 4, 1, 6] = 1e4
    expected = torch.tensor([6.5 / 8, 1.5 / 5, 4.5 / 6]) - 0.5
    torch.testing.assert_close(soft_argmax(logits), expected.expand(2, 3, 3), atol=1e-6, rtol=0.0)
    corner = soft_argmax(logits, half_cell=False)
    torch.testing.assert_close(soft_argmax(logits) - corner, torch.tensor([0.5 / 8, 0.5 / 5, 0.5 / 6]).expand(2, 3, 3))


def test_large_logits_overflow_nothing_in_any_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits = volume(scale=300.0).to(dtype)
        found = soft_argmax(logits + 5000.0)
        assert found.dtype == torch.float32 and found.isfinite().all()
        torch.testing.assert_close(found, soft_argmax((logits + 5000.0).double()).float(), atol=1e-5, rtol=0.0)


def test_gradients_are_those_of_finite_differences() -> None:
    small = volume()[:1, :2, :3, :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(soft_argmax, small)


def test_heat_maps_are_the_softmax_summed_over_depth() -> None:
    logits = volume()
    whole = logits.flatten(2).softmax(2).reshape(SHAPE).sum(2)
    torch.testing.assert_close(heat_maps(logits).double(), whole, atol=1e-6, rtol=1e-5)


def test_confidence_is_the_probability_near_the_mode() -> None:
    maps = heat_maps(volume(scale=2.0))
    for sample, joint in np.ndindex(*SHAPE[:2]):
        one = maps[sample, joint].numpy()
        row, column = np.unravel_index(one.argmax(), one.shape)
        near = one[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].sum()
        assert confidences(maps)[sample, joint].item() == pytest.approx(near, abs=1e-6)
    sure = torch.zeros(1, 1, 1, 9, 9)
    assert confidences(heat_maps(sure)).item() == pytest.approx(9 / 81, abs=1e-6)
    sure[..., 4, 4] = 1e3
    assert confidences(heat_maps(sure)).item() == pytest.approx(1.0)


def along_axis(cells: torch.Tensor, axis: int) -> torch.Tensor:
    """The mean place along one axis, half a cell inside."""
    count = cells.shape[axis]
    places = ((torch.arange(count).double() + 0.5) / count - 0.5).reshape([-1 if a == axis else 1 for a in range(5)])
    return (cells * places).sum((2, 3, 4))


def channels_last(logits: torch.Tensor) -> torch.Tensor:
    """The same numbers as the network lays them: joints and depths innermost."""
    return logits.flatten(1, 2).contiguous(memory_format=torch.channels_last).reshape(logits.shape)


def test_gradients_agree_with_the_softmax_s_and_keep_the_layout() -> None:
    logits = channels_last(volume().float()).requires_grad_()
    towards = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))
    (ours,) = torch.autograd.grad((soft_argmax(logits) * towards).sum(), logits)
    cells = logits.double().flatten(2).softmax(2).reshape(SHAPE)
    theirs_found = torch.stack([along_axis(cells, axis) for axis in (4, 3, 2)], dim=-1)
    (theirs,) = torch.autograd.grad((theirs_found * towards).sum(), logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    assert ours.stride() == logits.stride()


def test_under_autocast_only_the_logits_are_rounded() -> None:
    logits = volume().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = soft_argmax(logits)
        plane, depth = marginals(logits)
    assert {found.dtype, plane.dtype, depth.dtype} == {torch.float32}
    torch.testing.assert_close(
        found.double(), torch.from_numpy(by_hand(logits.detach().double().numpy(), True)), rtol=0, atol=1e-6
    )
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16
    assert logits.grad.abs().max() > 0


def test_logits_are_left_as_they_are() -> None:
    logits = volume()
    kept = logits.clone()
    soft_argmax(logits)
    assert torch.equal(logits, kept)


@pytest.mark.parametrize("half_cell", [True, False])
def test_the_layout_of_the_volume_changes_nothing(half_cell: bool) -> None:
    logits = volume()
    torch.testing.assert_close(soft_argmax(channels_last(logits), half_cell), soft_argmax(logits, half_cell))
    small = volume()[:1, :2, :3, :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: marginals(channels_last(values)), small)


def test_marginals_give_the_same_as_the_volume() -> None:
    plane, depth = marginals(volume())
    torch.testing.assert_close(expected_cells(plane, depth, False), soft_argmax(volume(), False))
    torch.testing.assert_close(plane, heat_maps(volume()))
    torch.testing.assert_close(depth.sum(dim=2), torch.ones(2, 3, dtype=torch.float64))
    assert heat_maps(volume()).dtype == torch.float64
