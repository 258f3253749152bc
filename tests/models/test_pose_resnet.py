"""Pose ResNet: sizes, weights, and what its switches change (conformance check 1 of the method)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from posekit.errors import ConfigError, FormatError
from posekit.models.atrous import AtrousPooling
from posekit.models.attention import Cbam
from posekit.models.backbone import Backbone
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm
from posekit.models.soft_argmax import confidences, heat_maps, soft_argmax

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
    found = network(SMALL).eval()(torch.randn(2, 3, 64, 64)).joints
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


def test_every_parameter_learns() -> None:
    model = network(SMALL)
    (model(torch.randn(4, 3, 64, 64)).joints * torch.randn(16, 3)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_form_survives_its_description() -> None:
    form = PoseResNetForm(rates=(18, 12, 6), pool="aspp", half_cell=False)
    assert PoseResNetForm.of(form.plain()) == form
    for broken in ({}, form.plain() | {"more": 1}):
        with pytest.raises(FormatError, match="does not describe a Pose ResNet"):
            PoseResNetForm.of(broken)


def tiny(seed: int = 0, **changes: Any) -> PoseResNet:
    return network(replace(SMALL, **changes), seed)


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(7))


def test_layers_have_the_paper_s_order_and_shapes() -> None:
    full = network(PoseResNetForm())
    seen: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Any:
        return lambda _module, _given, found: seen.append((name, tuple(found.shape[1:])))

    watched = (Cbam, AtrousPooling, nn.MaxPool2d, nn.ConvTranspose2d)
    handles = [
        part.register_forward_hook(note(name))
        for name, part in full.named_modules()
        if isinstance(part, watched) or (name.startswith("backbone.layer") and name.count(".") == 1) or name == "head"
    ]
    full.eval().to("meta")
    try:
        assert full.logits(torch.empty(1, 3, 256, 256, device="meta")).shape == (1, 16, 64, 64, 64)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [
        ("backbone.maxpool", (64, 64, 64)),
        ("early", (64, 64, 64)),
        ("backbone.layer1", (256, 64, 64)),
        ("backbone.layer2", (512, 32, 32)),
        ("backbone.layer3", (1024, 16, 16)),
        ("backbone.layer4", (2048, 8, 8)),
        ("late", (2048, 8, 8)),
        ("pool", (256, 8, 8)),
        ("deconvolutions.0", (256, 16, 16)),
        ("deconvolutions.3", (256, 32, 32)),
        ("deconvolutions.6", (256, 64, 64)),
        ("head", (1024, 64, 64)),
    ]


def test_other_sides_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 48 x 64; accepted: multiples of 32"):
        tiny()(images(64, 48))


def test_predictions_are_the_soft_argmax_and_the_mass_about_the_mode() -> None:
    for half_cell in (True, False):
        model = tiny(half_cell=half_cell).eval()
        nn.init.normal_(model.head.weight, std=2.0, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = model.logits(images())
            found = model(images())
            points, sure = found.joints, found.confidences()
            torch.testing.assert_close(points, soft_argmax(logits, half_cell))
            torch.testing.assert_close(sure, confidences(heat_maps(logits)))
        assert (points.abs() < 0.5).all()
        assert ((sure > 0) & (sure <= 1)).all()


def test_all_weights_go_over_from_one_branch_to_the_other() -> None:
    upper, lower = tiny(1).eval(), tiny(2).eval()
    lower.load_state_dict(upper.state_dict())
    with torch.no_grad():
        assert torch.equal(upper(images()).joints, lower(images()).joints)


def test_every_gradient_is_more_than_zero() -> None:
    model = tiny()
    for attention in (model.early, model.late):
        nn.init.ones_(attention.places.norm.weight)  # they start where the convolution has no say yet
    model(images()).joints.square().sum().backward()
    still = [name for name, values in model.named_parameters() if values.grad is None or not values.grad.any()]
    assert still == []


def test_a_step_in_lower_precision_gives_coordinates_in_single() -> None:
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.logits(images()).dtype == torch.bfloat16
        points = model(images()).joints
    assert points.dtype == torch.float32
    points.square().sum().backward()
    assert model.head.weight.grad is not None
    assert model.head.weight.grad.isfinite().all()
    assert tiny().double().eval()(images().double()).joints.dtype == torch.float64


def test_another_trunk_is_refused() -> None:
    with pytest.raises(ConfigError, match="got resnet18; accepted: resnet10"):
        PoseResNet(Backbone("resnet18"), SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vgg16"}, "backbone 'vgg16'"),
        ({"joints": "16"}, "joints '16'"),
        ({"cbam": 1}, "cbam 1"),
        ({"rates": [2, 3]}, "rates"),
        ({"rates": None}, "rates"),
        ({"output_stride": 8}, "output_stride 8"),
        ({"joints": 0}, "joints"),
        ({"colour": "red"}, "colour"),
        ({"joints": object()}, "not JSON"),
    ],
)
def test_wrong_descriptions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=f"does not describe a Pose ResNet.*{message}"):
        PoseResNetForm.of(PoseResNetForm().plain() | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"joints": 0},
        {"depth_bins": -1},
        {"cbam_reduction": 0},
        {"deconv_width": 0},
        {"rates": (1, 0, 2)},
    ],
)
def test_layers_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"cannot have such layers.*{next(iter(changes))}"):
        replace(SMALL, **changes)


@pytest.mark.parametrize("pool", ["aspp", "none"])
def test_unipose_s_convolutions_need_the_waterfall(pool: Any) -> None:
    with pytest.raises(ConfigError, match=f"got pool {pool}; accepted: pool wasp"):
        PoseResNetForm(pool=pool, unipose_extra=True)


def test_a_form_survives_json_and_only_a_whole_one() -> None:
    form = replace(SMALL, rates=(18, 12, 6), output_stride=16)
    plain = json.loads(json.dumps(form.plain()))
    assert PoseResNetForm.of(plain) == form
    del plain["pool"]
    for wrong in (plain, [], None):
        with pytest.raises(FormatError, match="does not describe a Pose ResNet"):
            PoseResNetForm.of(wrong)


def test_channels_are_joints_first_and_images_may_be_oblong() -> None:
    model = tiny(joints=3, depth_bins=7).eval()
    given = images(64, 96)
    with torch.no_grad():
        late = model.late(model.backbone.stages(model.early(model.backbone.stem(given))))
        maps = model.head(model.deconvolutions(model.pool(late)))
        logits = model.logits(given)
    assert logits.shape == (2, 3, 7, 16, 24)
    torch.testing.assert_close(logits[:, 2, 4], maps[:, 2 * 7 + 4])
