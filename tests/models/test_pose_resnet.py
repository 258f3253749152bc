"""Pose ResNet: sizes, weights, and what its switches change (conformance check 1 of the method)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from posekit.errors import FormatError
from posekit.models.backbone import Backbone
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm

SMALL = PoseResNetForm(backbone="resnet10", depth_bins=8, deconv_width=16)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def network(form: PoseResNetForm, seed: int = 0) -> PoseResNet:
    return PoseResNet(Backbone(form.backbone, seed), form, seed)


def test_parameters_of_the_paper_s_network() -> None:
    full = network(PoseResNetForm())
    assert count(full.backbone) == 23_508_032
    assert (count(full.early), count(full.late), count(full.pool)) == (680, 526_564, 3_148_800)
    assert count(full) == 30_594_508
    assert count(network(PoseResNetForm(cbam=False, pool="none"))) == 34_258_496


@pytest.mark.parametrize(
    ("changes", "side", "shape"),
    [
        ({}, 64, (16, 8, 16, 16)),
        ({"output_stride": 16}, 64, (16, 8, 16, 16)),
        ({"pool": "aspp"}, 96, (16, 8, 24, 24)),
        ({"pool": "none", "cbam": False, "joints": 3, "depth_bins": 5}, 64, (3, 5, 16, 16)),
    ],
)
def test_the_volume_has_a_fourth_of_the_image_s_sides(
    changes: dict[str, object], side: int, shape: tuple[int, ...]
) -> None:
    logits = network(replace(SMALL, **changes)).logits(torch.randn(2, 3, side, side))
    assert logits.shape == (2, *shape)


def test_the_seed_alone_decides_the_weights_and_nothing_else_is_drawn() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (network(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert all(value.isfinite().all() for value in one.values())
    assert 0.8e-3 < one["head.weight"].std() < 1.2e-3 and (one["head.bias"] == 0).all()
    assert 0.8e-3 < one["deconvolutions.3.weight"].std() < 1.2e-3


def test_a_fresh_network_says_the_middle() -> None:
    found = network(SMALL).eval()(torch.randn(2, 3, 64, 64))
    assert found.shape == (2, 16, 3)
    assert found.abs().max() < 0.02


def test_weights_of_imagenet_load_unchanged() -> None:
    torch.manual_seed(0)
    theirs = resnet18().state_dict()
    backbone = Backbone("resnet18")
    backbone.load(theirs, "torchvision")
    ours = PoseResNet(backbone, replace(SMALL, backbone="resnet18")).backbone.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_dilated_last_stage_is_torchvision_s() -> None:
    torch.manual_seed(0)
    theirs = resnet50(replace_stride_with_dilation=[False, False, True]).eval()
    backbone = Backbone("resnet50")
    backbone.load(theirs.state_dict(), "torchvision")
    backbone.dilate_last_stage()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
        found = backbone.eval().feature_map(x)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0.0)


def test_predictions_come_with_confidences() -> None:
    model = network(SMALL).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        points, confidence = model.predict(x)
        torch.testing.assert_close(points, model(x))
    assert confidence.shape == (2, 16) and (confidence > 0).all() and (confidence <= 1).all()


def test_every_parameter_learns() -> None:
    model = network(SMALL)
    (model(torch.randn(4, 3, 64, 64)) * torch.randn(16, 3)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_form_survives_its_description() -> None:
    form = PoseResNetForm(rates=(18, 12, 6), pool="aspp", half_cell=False)
    assert PoseResNetForm.of(form.plain()) == form
    for broken in ({}, form.plain() | {"more": 1}):
        with pytest.raises(FormatError, match="does not describe a Pose ResNet"):
            PoseResNetForm.of(broken)
