from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.evaluation import metrics
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.geometry.transforms import Similarity

BONES = [(0, 1), (1, 2), (0, 3), (3, 4), (0, 5), (5, 6), (5, 7)]
CANONICAL = 4.15


def _poses(seed: int, count: int = 200, joints: int = 8) -> Tensor:
    return torch.randn(count, joints, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _similarity(count: int = 200) -> Similarity:
    generator = torch.Generator().manual_seed(9)
    return Similarity(
        torch.rand(count, dtype=torch.float64, generator=generator) * 4 + 0.2,
        matrix_from_axis_angle(2 * torch.randn(count, 3, dtype=torch.float64, generator=generator)),
        10 * torch.randn(count, 3, dtype=torch.float64, generator=generator),
        torch.zeros(count, dtype=torch.bool),
    )


def test_mpjpe_by_hand() -> None:
    prediction = torch.tensor([[[0.0, 0, 0], [3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]]) + 7.0
    target = torch.zeros(1, 3, 3)
    torch.testing.assert_close(metrics.mpjpe(prediction, target, [0]), torch.tensor([[0.0, 5.0, 1.0]]))


def test_mpjpe_ignores_translation_but_not_rotation() -> None:
    prediction, target = _poses(0), _poses(1)
    moved = prediction + torch.tensor([3.0, -2.0, 9.0], dtype=torch.float64)
    torch.testing.assert_close(metrics.mpjpe(moved, target, [0]), metrics.mpjpe(prediction, target, [0]))
    turned = target @ matrix_from_axis_angle(torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64)).mT
    assert metrics.mpjpe(turned, target, [0])[:, 1:].min().item() > 1e-3


def test_root_may_be_the_middle_of_joints() -> None:
    aligned = metrics.root_aligned(_poses(0), [2, 3])
    torch.testing.assert_close(aligned[:, 2], -aligned[:, 3])


def test_procrustes_never_increases_the_squared_error() -> None:
    prediction, target = _poses(0), _poses(1)
    before = metrics.mpjpe(prediction, target, range(8)).square().sum(-1)
    after = metrics.pa_mpjpe(prediction, target).square().sum(-1)
    assert bool((after <= before + 1e-9).all())


def test_pa_mpjpe_is_invariant_to_similarities_of_the_prediction() -> None:
    prediction, target = _poses(0), _poses(1)
    torch.testing.assert_close(
        metrics.pa_mpjpe(_similarity().apply(prediction), target),
        metrics.pa_mpjpe(prediction, target),
        rtol=0,
        atol=1e-8,
    )
    assert metrics.pa_mpjpe(_similarity().apply(target), target).max().item() < 1e-6


def test_mirrored_poses_keep_an_error() -> None:
    target = _poses(1)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert metrics.pa_mpjpe(mirrored, target).mean(-1).min().item() > 1e-2


def test_n_mpjpe_is_invariant_to_scale_and_not_above_mpjpe_in_squares() -> None:
    prediction, target = _poses(0), _poses(1)
    scaled = prediction * 7.3
    for kind in ("lsq", "procrustes"):
        torch.testing.assert_close(
            metrics.n_mpjpe(scaled, target, [0], scale=kind),
            metrics.n_mpjpe(prediction, target, [0], scale=kind),
            rtol=0,
            atol=1e-9,
        )
    best = metrics.n_mpjpe(prediction, target, [0]).square().sum(-1)
    assert bool((best <= metrics.mpjpe(prediction, target, [0]).square().sum(-1) + 1e-9).all())
    assert bool((best <= metrics.n_mpjpe(prediction, target, [0], scale="procrustes").square().sum(-1) + 1e-9).all())


def test_n_mpjpe_of_a_single_point_is_finite() -> None:
    prediction, target = torch.ones(1, 8, 3, dtype=torch.float64), _poses(1, 1)
    torch.testing.assert_close(metrics.n_mpjpe(prediction, target, [0]), metrics.root_aligned(target, [0]).norm(dim=-1))


def test_bone_rescaling_gives_the_canonical_length() -> None:
    rescaled = metrics.bone_rescaled(_poses(0), BONES, CANONICAL, [0])
    length = sum((rescaled[:, child] - rescaled[:, parent]).norm(dim=-1) for parent, child in BONES)
    torch.testing.assert_close(length, torch.full((200,), CANONICAL, dtype=torch.float64), rtol=0, atol=1e-9)
    assert rescaled[:, 0].abs().max().item() == 0.0
    small, target = _poses(0) * 0.01, _poses(1)
    torch.testing.assert_close(
        metrics.bone_rescaled_mpjpe(small, target, BONES, CANONICAL, [0]),
        metrics.bone_rescaled_mpjpe(_poses(0), target, BONES, CANONICAL, [0]),
    )


@pytest.mark.parametrize("metric", ["mpjpe", "pa", "n", "n-procrustes"])
def test_masked_joints_do_not_matter_and_come_back_as_nan(metric: str) -> None:
    def measure(prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        if metric == "mpjpe":
            return metrics.mpjpe(prediction, target, [0], valid)
        if metric == "pa":
            return metrics.pa_mpjpe(prediction, target, valid)
        kind = "procrustes" if metric.endswith("procrustes") else "lsq"
        return metrics.n_mpjpe(prediction, target, [0], valid, scale=kind)

    prediction, target = _poses(0), _poses(1)
    valid = torch.ones(200, 8, dtype=torch.bool)
    valid[:, 6] = False
    spoilt = prediction.clone()
    spoilt[:, 6] = torch.nan
    errors = measure(spoilt, target, valid)
    keep = [0, 1, 2, 3, 4, 5, 7]
    torch.testing.assert_close(errors[:, keep], measure(prediction[:, keep], target[:, keep], None))
    assert bool(errors[:, 6].isnan().all())
    torch.testing.assert_close(metrics.mean_over_joints(errors, valid), errors[:, keep].mean(-1))


def test_a_nan_that_is_not_masked_stays_visible() -> None:
    prediction, target = _poses(0, 3), _poses(1, 3)
    prediction[1, 4, 0] = torch.nan
    valid = torch.ones(3, 8, dtype=torch.bool)
    for errors in (
        metrics.mpjpe(prediction, target, [0], valid),
        metrics.pa_mpjpe(prediction, target, valid),
        metrics.n_mpjpe(prediction, target, [0], valid),
        metrics.pck3d(metrics.mpjpe(prediction, target, [0], valid)),
        metrics.auc(metrics.mpjpe(prediction, target, [0], valid)),
    ):
        assert metrics.mean_over_joints(errors, valid).isnan().tolist() == [False, True, False]


def test_sample_without_valid_joints_is_nan() -> None:
    valid = torch.zeros(1, 8, dtype=torch.bool)
    assert math.isnan(metrics.mean_over_joints(metrics.mpjpe(_poses(0, 1), _poses(1, 1), [0], valid), valid).item())


def test_per_vertex_error_is_zero_for_similar_meshes() -> None:
    mesh = _poses(3, 4, 500)
    similarity = Similarity(*(part[:4] for part in _similarity()))
    assert metrics.per_vertex_error(similarity.apply(mesh), mesh).max().item() < 1e-9


def test_pckh_by_hand() -> None:
    target = torch.zeros(1, 4, 2)
    head_box = torch.tensor([[10.0, 10.0, 40.0, 50.0]])  # diagonal 50, head size 30, threshold 15
    prediction = torch.tensor([[[15.0, 0.0], [15.01, 0.0], [0.0, 14.0], [3.0, 0.0]]])
    valid = torch.tensor([[True, True, True, False]])
    result = metrics.pckh(prediction, target, head_box, valid=valid)
    assert result[0, :3].tolist() == [1.0, 0.0, 1.0] and bool(result[0, 3].isnan())
    assert metrics.mean_over_joints(result, valid).item() == pytest.approx(2 / 3)


def test_pixel_errors_are_distances() -> None:
    target = torch.zeros(2, 3, 2)
    torch.testing.assert_close(
        metrics.per_pixel_error(target + torch.tensor([3.0, 4.0]), target), torch.full((2, 3), 5.0)
    )


def test_pck3d_and_auc_against_brute_force() -> None:
    errors = torch.rand(50, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 0.3
    assert metrics.pck3d(errors).mean().item() == pytest.approx(float((errors.numpy() < 0.15).mean()))
    thresholds = np.linspace(0, 0.15, 31)
    expected = np.mean([(errors.numpy() < threshold).mean() for threshold in thresholds])
    assert metrics.auc(errors).mean().item() == pytest.approx(expected)
    assert metrics.auc(torch.zeros(1, 1)).item() == pytest.approx(30 / 31)
