"""Gradients of both stages of image-ssl: what learns, what only lets gradients through, and what stays (conformance check 5)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.models.backbone import Backbone
from posekit.models.discriminator import Discriminator
from posekit.models.mesh_estimator import MeshEstimator, MeshEstimatorForm
from posekit.models.pretext import InPainter, JigsawHead, RotationHead
from posekit.models.texture import TextureNetwork
from posekit.render.textured import TexturedRenderer
from posekit.skeleton.catalog import H36M17
from posekit.training.backgrounds import Backgrounds
from posekit.training.image_ssl import (
    HeadSettings,
    HeadsMethod,
    ImageSslMethod,
    Pretext,
    PretextHeads,
    PretextSettings,
    SslSettings,
    Studio,
    draw_tasks,
    overlap,
)
from posekit.training.mesh_estimator import JointsLoss, NamedJoints
from posekit.training.mesh_samples import MeshBatch
from posekit.training.method import Method

SIDE, COUNT = 32, 4
PRETEXT = PretextSettings(patch=8)
BODY = load_body()
JOINTS = NamedJoints(BODY, [H36M17])


class ByHand:
    """What `Worker` asks for, on one processor; `after` sees the gradients after each backward pass."""

    def __init__(self, method: Method[MeshBatch], after: Callable[[], None] | None = None) -> None:
        self.method, self.after, self.stale = method, after, True
        self.device, self.progress = torch.device("cpu"), 0.0
        self.generator = torch.Generator().manual_seed(5)
        for module in method.modules().values():
            module.train()
        for constant in method.constants().values():
            constant.eval()

    def module(self, name: str) -> nn.Module:
        return self.method.modules()[name]

    @contextmanager
    def through(self, name: str) -> Iterator[nn.Module]:
        module = self.module(name)
        module.requires_grad_(False)
        yield module
        module.requires_grad_(True)

    def mean(self, value: Tensor) -> Tensor:
        return value

    def mine(self, whole: Tensor) -> Tensor:
        return whole

    def backward(self, loss: Tensor) -> None:
        if self.stale:
            for optimizer in self.method.optimizers().values():
                optimizer.zero_grad(set_to_none=True)
        self.stale = False
        loss.backward()
        if self.after is not None:
            self.after()

    def step(self, name: str, most: float | None = None) -> None:
        self.method.optimizers()[name].step()
        self.method.optimizers()[name].zero_grad(set_to_none=True)
        self.stale = True


def batch(seed: int = 0) -> MeshBatch:
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (COUNT, SIDE, SIDE, 3), generator=random).to(torch.uint8)
    masks = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 4:28, 10:22] = 1
    joints = torch.rand(COUNT, len(JOINTS.names), 3, generator=random) - 0.5
    weights = torch.ones(COUNT, len(JOINTS.names))
    masked = torch.tensor([True, True, True, False])
    return MeshBatch(images, images, masks, masked, joints[..., :2], weights, joints, weights, torch.arange(COUNT))


def network() -> tuple[Backbone, MeshEstimator]:
    return Backbone("resnet10", 1), MeshEstimator(MeshEstimatorForm(features=512, joints=BODY.joint_count), seed=2)


def heads() -> PretextHeads:
    return PretextHeads(
        JigsawHead(512, seed=1),
        RotationHead(512, seed=2),
        InPainter(512, 8, seed=3),
        Discriminator(side=SIDE, seed=4),
        TextureNetwork(len(BODY.faces), None, 512, seed=5),
    )


def studio() -> Studio:
    body = BodyModel(BODY)
    return Studio(body, TexturedRenderer(body.faces, SIDE))


def stage_two(settings: SslSettings, **changes: Any) -> ImageSslMethod:
    settings = replace(settings, pretext=PRETEXT, lr=1e-4)
    return ImageSslMethod(*network(), heads(), studio(), settings, Backgrounds(SIDE), **changes)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_heads_learn_and_the_network_stays() -> None:
    backbone, estimator = network()
    made = heads()
    method = HeadsMethod(backbone, estimator, made, studio(), HeadSettings(PRETEXT))
    before = {name: weights(head) for name, head in made.named().items()}
    stay = weights(backbone), weights(estimator)
    losses = method.step(batch(), ByHand(method))  # type: ignore[arg-type]
    assert same(backbone, stay[0]) and same(estimator, stay[1])
    assert not any(parameter.requires_grad for parameter in (*backbone.parameters(), *estimator.parameters()))
    for name, head in made.named().items():
        moved = [key for key, value in head.named_parameters() if not torch.equal(value, before[name][key])]
        assert len(moved) == len(list(head.parameters())), name
    assert {"jigsaw", "rotation", "inpainting", "rgb", "discriminator", "jigsaw_accuracy", "verdict_real"} <= set(
        losses
    )
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_each_loss_of_the_heads_reaches_its_own_head_alone() -> None:
    """The first backward pass is of all heads but the discriminator, to which in-painting gives nothing."""
    made = heads()
    method = HeadsMethod(*network(), made, studio(), HeadSettings(PRETEXT))
    seen: list[dict[str, bool]] = []

    def note() -> None:
        seen.append({name: any(p.grad is not None for p in head.parameters()) for name, head in made.named().items()})

    method.step(batch(), ByHand(method, note))  # type: ignore[arg-type]
    assert [name for name, reached in seen[0].items() if not reached] == ["discriminator"]
    assert [name for name, reached in seen[1].items() if reached] == ["discriminator"]


def test_the_network_learns_and_the_heads_stay_bit_for_bit() -> None:
    method = stage_two(SslSettings())
    before = {name: weights(head) for name, head in method.heads.named().items()}
    trunk, estimator = weights(method.backbone), weights(method.estimator)
    losses = method.step(batch(), ByHand(method))  # type: ignore[arg-type]
    for name in ("jigsaw", "rotation", "inpainter", "texture"):
        assert same(getattr(method.heads, name), before[name]), name
    assert not same(method.heads.discriminator, before["discriminator"])
    moved = {name for name, value in method.backbone.named_parameters() if not torch.equal(value, trunk[name])}
    assert moved == {name for name, _ in method.backbone.named_parameters()}, "affine numbers of BatchNorm learn, too"
    still = [name for name, value in method.backbone.named_buffers() if not torch.equal(value, trunk[name])]
    assert not still and not method.backbone.training, "running statistics stay"
    assert not same(method.estimator, estimator)
    assert torch.equal(method.estimator.init_pose, estimator["init_pose"])
    assert {"jigsaw", "rotation", "inpainting", "rgb", "mask", "real", "discriminator", "total"} <= set(losses)
    parts = ("jigsaw", "rotation", "inpainting", "rgb", "mask", "real")
    assert float(losses["total"]) == pytest.approx(sum(float(losses[name]) for name in parts), rel=1e-5)


def test_pretext_tasks_alone_do_not_reach_the_estimator() -> None:
    method = stage_two(SslSettings(rgb=False, mask=False, real=False))
    before = weights(method.estimator)
    losses = method.step(batch(), ByHand(method))  # type: ignore[arg-type]
    assert same(method.estimator, before)
    assert all(parameter.grad is None for parameter in method.estimator.parameters())
    assert "camera_scale" not in losses and "verdict_rendered" not in losses and "verdict_inpainted" in losses


def test_how_real_bodies_look_reaches_the_network_and_not_the_discriminator() -> None:
    method = stage_two(SslSettings(jigsaw=False, rotation=False, inpainting=False, rgb=False, mask=False))
    seen: list[tuple[bool, bool]] = []

    def note() -> None:
        reached = [
            any(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
            for module in (method.estimator, method.heads.discriminator)
        ]
        seen.append((reached[0], reached[1]))

    losses = method.step(batch(), ByHand(method, note))  # type: ignore[arg-type]
    # Generator: the estimator alone; then the discriminator alone, on pictures without gradient.
    assert seen == [(True, False), (False, True)]
    assert {"real", "verdict_rendered"} <= set(losses) and "verdict_inpainted" not in losses


@pytest.mark.parametrize("loss", ["jigsaw", "rotation", "inpainting", "rgb", "mask", "real"])
def test_every_loss_can_be_left_out(loss: str) -> None:
    method = stage_two(replace(SslSettings(), **{loss: False}))
    losses = method.step(batch(), ByHand(method))  # type: ignore[arg-type]
    assert loss not in losses and torch.isfinite(losses["total"])
    if loss == "real":
        assert "verdict_rendered" not in losses and "verdict_inpainted" in losses


def test_a_judge_of_its_own_stays_and_inpainted_pictures_are_no_imitations() -> None:
    judge = Discriminator(side=SIDE, seed=4)
    before = weights(judge)
    method = stage_two(SslSettings(inpainted_fakes=False), judge=judge)
    losses = method.step(batch(), ByHand(method))  # type: ignore[arg-type]
    assert same(judge, before) and not same(method.heads.discriminator, before)
    assert "verdict_inpainted" not in losses and "verdict_rendered" in losses


def test_labels_are_learned_from_where_there_are_some() -> None:
    method = stage_two(SslSettings(), joints=JointsLoss(BodyModel(BODY), JOINTS))
    losses = method.step(batch(), ByHand(method))  # type: ignore[arg-type]
    without = copy.deepcopy(batch())
    none = replace(without, keypoint_weights=0 * without.keypoint_weights, joint_weights=0 * without.joint_weights)
    again = stage_two(SslSettings(), joints=JointsLoss(BodyModel(BODY), JOINTS))
    assert losses["joints"] > 0
    assert again.step(none, ByHand(again))["joints"] == 0  # type: ignore[arg-type]


def test_bodies_grow_into_the_mask() -> None:
    """Silhouettes alone, a few steps: too small bodies become larger and cover people better."""
    method = stage_two(SslSettings(jigsaw=False, rotation=False, inpainting=False, rgb=False, real=False))
    with torch.no_grad():
        method.estimator.init_cam[:, 0] = 0.4
    for optimizer in method.optimizers().values():
        optimizer.param_groups[0]["lr"] = 1e-5
    worker = ByHand(method)
    steps = [method.step(batch(), worker) for _ in range(12)]  # type: ignore[arg-type]
    assert float(steps[-1]["camera_scale"]) > float(steps[0]["camera_scale"]) + 0.05
    assert float(steps[-1]["silhouette_iou"]) > float(steps[0]["silhouette_iou"])


def test_tasks_do_not_depend_on_how_the_batch_is_shared() -> None:
    whole = draw_tasks(6, PRETEXT, torch.Generator().manual_seed(1))
    again = draw_tasks(6, PRETEXT, torch.Generator().manual_seed(1))
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    task = Pretext.set(batch(), PRETEXT, [part[:COUNT] for part in whole])
    torch.testing.assert_close(task.filled(task.patches), task.whole)
    assert task.tiles.shape == (COUNT, 4, 3, SIDE, SIDE)


def test_overlap_counts_masked_samples_alone() -> None:
    alpha, masks = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    alpha[0, :2], masks[0, 1:3] = 1, 1
    masked, count = torch.tensor([True, False]), torch.tensor(1.0)
    assert float(overlap(alpha, masks, masked, count)) == pytest.approx(4 / 12)
    assert float(overlap(alpha, masks, torch.tensor([False, False]), torch.tensor(0.0))) == 0.0


def test_backgrounds_come_out_of_pictures_or_noise(tmp_path: Any) -> None:
    for name, value in (("a.png", 40), ("b.png", 200)):
        cv2.imwrite(str(tmp_path / name), np.full((90, 150, 3), value, np.uint8))
    read = Backgrounds.read(tmp_path, SIDE)
    assert min(read.pictures[0].shape[1:]) == 48
    crops = read.crops(20, torch.Generator().manual_seed(0))
    assert crops.shape == (20, 3, SIDE, SIDE)
    assert {round(float(crop.mean() * 255)) for crop in crops} == {40, 200}
    noise = Backgrounds(SIDE).crops(2, torch.Generator().manual_seed(0))
    assert noise.shape == (2, 3, SIDE, SIDE) and noise.std() > 0.05
