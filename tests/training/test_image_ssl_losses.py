"""The losses against numpy and by hand, their gradients, and what they leave out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.training.image_ssl_losses import (
    InPaintingWeights,
    accuracy,
    classification_loss,
    discriminator_loss,
    inpainting_loss,
    joint_loss,
    joints_loss,
    keypoint_loss,
    mask_loss,
    realness_loss,
    rgb_loss,
)


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_classes_are_scored_by_cross_entropy() -> None:
    logits, classes = values(5, 24), torch.tensor([0, 3, 23, 7, 7])
    x = logits.numpy()
    expected = -np.mean([x[i, c] - np.log(np.exp(x[i]).sum()) for i, c in enumerate(classes.tolist())])
    assert classification_loss(logits, classes).item() == pytest.approx(expected)
    assert classification_loss(torch.zeros(2, 4), torch.tensor([0, 1])).item() == pytest.approx(math.log(4))


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0])).item() == 0.75


def test_the_in_painting_loss_weighs_likeness_and_realness() -> None:
    given, target, scores = values(2, 3, 8, 8), values(2, 3, 8, 8, seed=1), values(2, seed=2)
    likeness = float(np.mean((given.numpy() - target.numpy()) ** 2))
    realness = float(np.mean((scores.numpy() - 1) ** 2))
    assert inpainting_loss(given, target, scores).item() == pytest.approx(0.999 * likeness + 0.001 * realness)
    other = inpainting_loss(given, target, scores, InPaintingWeights(0.5, 2.0), "bce").item()
    assert other == pytest.approx(0.5 * likeness + 2 * float(-np.log(scores.numpy()).mean()))
    assert inpainting_loss(target, target, torch.ones(2)).item() == 0


@pytest.mark.parametrize("form", ["lsgan", "bce"])
def test_discriminator_and_generator_want_opposite_things(form) -> None:
    perfect = discriminator_loss(torch.ones(3), [torch.zeros(3), torch.zeros(2)], form)
    assert perfect.item() == pytest.approx(0, abs=1e-6)
    scores = torch.full((3,), 0.4, requires_grad=True)
    (fooling,) = torch.autograd.grad(realness_loss(scores, form), scores)
    (telling,) = torch.autograd.grad(discriminator_loss(torch.ones(1), [scores], form), scores)
    assert (fooling < 0).all() and (telling > 0).all()


def test_every_kind_of_imitation_counts_by_itself() -> None:
    real, rendered, painted = values(4), values(4, seed=1), values(2, seed=2)
    expected = ((real - 1) ** 2).mean() + (rendered**2).mean() + (painted**2).mean()
    torch.testing.assert_close(discriminator_loss(real, [rendered, painted]), expected)
    torch.testing.assert_close(discriminator_loss(real, [painted]), expected - (rendered**2).mean())


@pytest.mark.parametrize(("loss", "shape"), [(rgb_loss, (3, 3, 8, 8)), (mask_loss, (3, 8, 8))])
def test_samples_without_masks_count_for_nothing(loss, shape) -> None:
    found, wanted = values(*shape).requires_grad_(), values(*shape, seed=1)
    valid = torch.tensor([True, False, True])
    expected = (found[valid] - wanted[valid]).square().mean()
    spoilt = wanted.clone()
    spoilt[1] = torch.nan
    torch.testing.assert_close(loss(found, wanted, valid), expected)
    torch.testing.assert_close(loss(found, spoilt, valid), expected)
    torch.testing.assert_close(loss(found, wanted), (found - wanted).square().mean())
    (gradient,) = torch.autograd.grad(loss(found, wanted, valid), found)
    assert gradient[1].abs().sum() == 0 and gradient[0].abs().sum() > 0
    nothing = loss(found, wanted, torch.zeros(3, dtype=torch.bool))
    assert nothing.item() == 0
    nothing.backward()


def test_keypoints_are_weighed_by_confidence_over_all_joints() -> None:
    found, wanted = values(2, 3, 2).requires_grad_(), values(2, 3, 2, seed=1)
    confidences = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    wanted[0, 2] = torch.nan
    squares = (found.detach() - wanted).square().sum(-1)
    expected = (squares[0, 0] + 0.5 * squares[0, 1]) / 12
    loss = keypoint_loss(found, wanted, confidences)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert found.grad.isfinite().all() and found.grad[1].abs().sum() == 0


def test_joints_are_compared_from_the_middle_of_the_hips() -> None:
    found, wanted = values(3, 4, 3).requires_grad_(), values(3, 4, 3, seed=1)
    confidences = torch.ones(3, 4, dtype=torch.float64)
    confidences[2, 1] = 0
    hips = (1, 2)
    a, b = (x.detach().numpy() for x in (found, wanted))
    a, b = (x - (x[:, 1:2] + x[:, 2:3]) / 2 for x in (a, b))
    expected = float(((a - b)[:2] ** 2).mean())
    loss = joint_loss(found, wanted, confidences, hips)
    assert loss.item() == pytest.approx(expected)
    moved = joint_loss(found + values(3, 1, 3, seed=5), wanted, confidences, hips)
    torch.testing.assert_close(moved, loss)
    wanted[2] = torch.nan
    (gradient,) = torch.autograd.grad(joint_loss(found, wanted, confidences, hips), found)
    assert gradient.isfinite().all() and gradient[2].abs().sum() == 0
    assert joint_loss(found, wanted, 0 * confidences, hips).item() == 0


def test_supervision_is_weighed_as_in_spin() -> None:
    assert joints_loss(torch.tensor(2.0), torch.tensor(3.0)).item() == 60 * (5 * 2 + 5 * 3)
    assert joints_loss(torch.tensor(2.0)).item() == 600


def test_losses_of_two_processes_with_their_mean_count_have_the_mean_of_one() -> None:
    rendered, target = values(4, 3, 6, 6), values(4, 3, 6, 6, seed=1)
    valid = torch.tensor([True, True, False, True])
    hips, confidences = (0, 1), torch.ones(4, 3)
    confidences[0, 0] = 0
    found, wanted = values(4, 3, 3, seed=2), values(4, 3, 3, seed=3)
    whole = [
        rgb_loss(rendered, target, valid),
        mask_loss(rendered[:, 0], target[:, 0], valid),
        joint_loss(found, wanted, confidences, hips),
    ]
    halves = []
    for mine in (slice(0, 2), slice(2, 4)):
        count = torch.tensor(1.5)  # three of four samples have a mask, and three both hips
        halves.append(
            [
                rgb_loss(rendered[mine], target[mine], valid[mine], count),
                mask_loss(rendered[mine, 0], target[mine, 0], valid[mine], count),
                joint_loss(found[mine], wanted[mine], confidences[mine], hips, count),
            ]
        )
    for one, first, second in zip(whole, *halves, strict=True):
        torch.testing.assert_close((first + second) / 2, one)
