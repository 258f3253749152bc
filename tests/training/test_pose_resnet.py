"""What a step of Pose ResNet minimises, and what of it is kept."""

from __future__ import annotations

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
        assert torch.equal(network(images), loaded(images))
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
