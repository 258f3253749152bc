"""What a step of Pose ResNet minimises, and what of it is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from posekit.artifacts.provenance import Header
from posekit.errors import FormatError
from posekit.models.backbone import Backbone
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm
from posekit.skeleton.catalog import MPII16
from posekit.training.pose_resnet import (
    NETWORK,
    STAGE_2D,
    STAGE_3D,
    PoseFacts,
    PoseLoss,
    heat_map_loss,
    joint_loss,
    load_pose_resnet,
    take_over,
)
from posekit.training.runs import KIND, RunFolder

FORM = PoseResNetForm(backbone="resnet10", depth_bins=8, deconv_width=8, pool="none", cbam_reduction=8)
CPU = torch.device("cpu")


def by_hand(predicted: Tensor, labelled: Tensor, weights: Tensor, gamma: float) -> list[float]:
    """Smooth L1 in plain Python."""
    result = []
    for sample in range(len(predicted)):
        total, count = 0.0, 0.0
        for joint in range(predicted.shape[1]):
            count += max(weights[sample, joint].tolist())
            for axis in range(3):
                error = gamma * float(predicted[sample, joint, axis] - labelled[sample, joint, axis])
                smooth = 0.5 * error * error if abs(error) < 1 else abs(error) - 0.5
                total += float(weights[sample, joint, axis]) * smooth
        result.append(total / count if count else 0.0)
    return result


@pytest.mark.parametrize("gamma", [1.0, 64.0])
def test_the_loss_is_the_paper_s(gamma: float) -> None:
    random = torch.Generator().manual_seed(0)
    predicted, labelled = torch.rand(2, 4, 5, 3, generator=random, dtype=torch.float64) - 0.5
    weights = (torch.rand(4, 5, 1, generator=random, dtype=torch.float64) > 0.3).double().repeat(1, 1, 3)
    weights[3] = 0.0
    weights[1, :, 2] = 0.0
    loss = joint_loss(predicted, labelled, weights, PoseLoss("smooth-l1", gamma))
    torch.testing.assert_close(loss, torch.tensor(by_hand(predicted, labelled, weights, gamma), dtype=torch.float64))
    assert loss[3] == 0.0


def test_l1_counts_errors_in_the_image_alone_where_depths_have_no_weight() -> None:
    predicted, labelled = torch.zeros(1, 2, 3), torch.full((1, 2, 3), 0.25)
    weights = torch.tensor([1.0, 1.0, 0.0]).repeat(1, 2, 1)
    assert joint_loss(predicted, labelled, weights, PoseLoss("l1", 64.0)).item() == 2 * 0.25 * 64


@pytest.mark.parametrize("half_cell", [True, False])
def test_heat_maps_are_best_as_gaussians_about_the_labels(half_cell: bool) -> None:
    """The cross-entropy of each joint, by hand; least where the map is the Gaussian, and there its entropy."""
    random = torch.Generator().manual_seed(1)
    plane = torch.rand(2, 3, 6, 5, generator=random, dtype=torch.float64).flatten(2).softmax(2).view(2, 3, 6, 5)
    depth = torch.rand(2, 3, 4, generator=random, dtype=torch.float64).softmax(2)
    labelled = torch.rand(2, 3, 3, generator=random, dtype=torch.float64) - 0.5
    weights = torch.tensor([[[1.0, 1, 1], [1, 1, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1], [1, 1, 0]]]).double()

    def wanted(place: float, cells: int) -> list[float]:
        shift = 0.5 if half_cell else 0.0
        each = [math.exp(-0.5 * (((cell + shift) / cells - 0.5 - place) * cells / 1.5) ** 2) for cell in range(cells)]
        return [value / sum(each) for value in each]

    best, best_depth, expected, least = torch.zeros_like(plane), torch.zeros_like(depth), [], []
    for sample in range(2):
        total = floor = 0.0
        for joint in range(3):
            x, y, z = (wanted(float(labelled[sample, joint, a]), n) for a, n in enumerate((5, 6, 4)))
            best[sample, joint] = torch.tensor(y)[:, None] * torch.tensor(x)
            best_depth[sample, joint] = torch.tensor(z)
            for weight, given, right in (
                (weights[sample, joint, 0], plane[sample, joint], best[sample, joint]),
                (weights[sample, joint, 2], depth[sample, joint], best_depth[sample, joint]),
            ):
                total -= float(weight * (right * given.log()).sum())
                floor -= float(weight * torch.special.xlogy(right, right).sum())
        count = float(weights[sample].amax(1).sum())
        expected.append(total / count)
        least.append(floor / count)
    loss = heat_map_loss(plane, depth, labelled, weights, 1.5, half_cell)
    torch.testing.assert_close(loss.tolist(), expected)
    lowest = heat_map_loss(best, best_depth, labelled, weights, 1.5, half_cell)
    torch.testing.assert_close(lowest.tolist(), least)
    assert (lowest < loss).all()


def test_a_heat_map_of_zeros_has_a_finite_loss_and_gradient() -> None:
    plane = torch.zeros(1, 1, 4, 4, requires_grad=True)
    loss = heat_map_loss(plane, torch.ones(1, 1, 4), torch.zeros(1, 1, 3), torch.ones(1, 1, 3)).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(plane.grad).all()


def stored(
    path: Path, form: PoseResNetForm, stage: str = STAGE_2D, changes: dict[str, object] | None = None
) -> PoseResNet:
    network = PoseResNet(Backbone(form.backbone, 5), form, 5)
    facts = PoseFacts(64, 1.25, form, MPII16, 2, "crop").plain() | (changes or {})
    run = RunFolder(path, Header(KIND, stage, settings={}, inputs={}, seed=0, facts=facts))
    run.begin()
    run.finish({f"{NETWORK}.{name}": tensor for name, tensor in network.state_dict().items()})
    return network


def test_what_was_trained_can_be_used_and_taken_over(tmp_path: Path) -> None:
    network = stored(tmp_path, FORM).eval()
    loaded, facts = load_pose_resnet(tmp_path, CPU)
    assert (facts.form, facts.skeleton, facts.dimensions, facts.input_size) == (FORM, MPII16, 2, 64)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(images).joints, loaded(images).joints)
    other = PoseResNet(Backbone("resnet10"), replace(FORM, half_cell=False))
    take_over(other, RunFolder(tmp_path, Header(KIND, STAGE_2D)).load())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())


def test_networks_of_another_form_are_refused(tmp_path: Path) -> None:
    stored(tmp_path / "plain", replace(FORM, cbam=False))
    with pytest.raises(FormatError, match="cbam False; accepted: cbam True"):
        take_over(PoseResNet(Backbone("resnet10"), FORM), RunFolder(tmp_path / "plain", Header(KIND, STAGE_2D)).load())


@pytest.mark.parametrize(
    ("changes", "stage", "message"),
    [
        ({}, "train regressor", "holds no Pose ResNet"),
        ({"skeleton": "nobody"}, STAGE_3D, "unknown joints"),
        ({"form": {"backbone": "resnet10"}}, STAGE_3D, "does not describe a Pose ResNet"),
    ],
)
def test_other_runs_are_refused(changes: dict[str, object], stage: str, message: str, tmp_path: Path) -> None:
    stored(tmp_path, FORM, stage, changes)
    with pytest.raises(FormatError, match=message):
        load_pose_resnet(tmp_path, CPU)
