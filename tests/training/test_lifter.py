"""One step of the lifter's training: which network learns from what, and shares of a batch that add up to the whole."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from posekit.config.lifter import TrainLifter
from posekit.errors import ConfigError
from posekit.skeleton.catalog import COMMON14
from posekit.training.lifter import DISCRIMINATOR, GENERATOR, TURNTABLE, LifterMethod
from posekit.training.poses import PoseBatch, PoseSource

JOINTS, ROOT = len(COMMON14), COMMON14.index("pelvis")
EVERYTHING = {
    "width": 8, "random_angles": 3, "w_consistency": 0.5, "w_twist": 1.0, "twist": 5.0, "learn_tilt": True,
    "tilt": 5.0, "distance": 8.0, "blur": 0.1, "sway": 10.0,
}  # fmt: skip


def made_method(**changed: object) -> LifterMethod:
    rest = torch.randn(JOINTS, 3, generator=torch.Generator().manual_seed(5))
    method = LifterMethod(TrainLifter.model_validate(EVERYTHING | changed), COMMON14, rest)
    for module in (*method.modules().values(), *method.constants().values()):
        module.double()
    return method


def poses(count: int = 6) -> Tensor:
    found = torch.randn(count, JOINTS, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return found - found[:, [ROOT]]


class Recorder:
    """A worker that keeps gradients instead of stepping."""

    def __init__(self, method: LifterMethod, rank: int = 0, world: int = 1) -> None:
        self._method, self._rank, self._world = method, rank, world
        self.device = torch.device("cpu")
        self.progress = 1.0
        self.generator = torch.Generator().manual_seed(9)
        self.gradients: dict[str, list[Tensor]] = {}

    def module(self, name: str) -> nn.Module:
        return self._method.modules()[name]

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, name: str, most: float | None = None) -> None:
        parameters = list(self.module(name).parameters())
        self.gradients[name] = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        if name == DISCRIMINATOR:
            # As the loop does: what the generator's loss leaves in the discriminator is forgotten, and the reverse.
            for module in self._method.modules().values():
                module.zero_grad()

    def through(self, name: str) -> AbstractContextManager[torch.nn.Module]:
        raise NotImplementedError(name)

    def mean(self, value: Tensor) -> Tensor:
        return value

    def mine(self, whole: Tensor) -> Tensor:
        return whole[self._rank :: self._world]


def recorded(rank: int = 0, world: int = 1, **changed: object) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
    method = made_method(**changed)
    worker = Recorder(method, rank, world)
    losses = method.step(PoseBatch(poses()[rank::world]), worker)
    return worker.gradients, losses


@pytest.mark.parametrize("changed", [{}, {"random_angles": 0}])
def test_shares_of_a_batch_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]) -> None:
    whole, losses = recorded(**changed)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = [recorded(rank, 2, **changed) for rank in (0, 1)]
    for name, gradients in whole.items():
        for place, gradient in enumerate(gradients):
            mean = 0.5 * sum(share[0][name][place] for share in shares)
            torch.testing.assert_close(mean, gradient, rtol=1e-9, atol=1e-12)
    for name, loss in losses.items():
        torch.testing.assert_close(0.5 * (shares[0][1][name] + shares[1][1][name]), loss)


def test_every_part_learns() -> None:
    gradients, losses = recorded()
    for name in (GENERATOR, DISCRIMINATOR, TURNTABLE):
        assert any(gradient.abs().max() > 0 for gradient in gradients[name]), name
    assert all(loss.isfinite() and not loss.requires_grad for loss in losses.values())
    assert losses["tilt_degrees"].item() == pytest.approx(5.0, abs=1e-5)


def test_the_discriminator_does_not_teach_the_generator_in_its_own_step() -> None:
    """Without any loss of its own the generator gets no gradient."""
    off = {f"w_{name}": 0.0 for name in ("adversarial", "ratio", "symmetry", "orientation", "consistency", "twist")}
    gradients, _ = recorded(**off)
    assert all(not gradient.any() for gradient in gradients[GENERATOR])
    assert any(gradient.any() for gradient in gradients[DISCRIMINATOR])


def test_a_given_tilt_is_no_part_of_the_training() -> None:
    method = made_method(learn_tilt=False)
    assert set(method.modules()) == set(method.optimizers()) == {GENERATOR, DISCRIMINATOR}
    assert not method.constants()[TURNTABLE].tilt.requires_grad
    assert method.constants()[TURNTABLE].tilt.item() == pytest.approx(math.radians(5.0))


def test_depths_that_turn_with_the_pose_are_consistent() -> None:
    """A generator that says zero is consistent for flat poses only: turned by half a circle they are flat again."""
    losses = {}
    for angle in (180.0, 90.0):
        method = made_method(
            random_angles=0, angles=(angle,), distance=0.0, learn_tilt=False, tilt=0.0, blur=0.0, sway=0.0
        )
        for parameter in method.generator.parameters():
            nn.init.zeros_(parameter)
        losses[angle] = method.step(PoseBatch(poses()), Recorder(method))["consistency"].item()
    assert losses[180.0] == pytest.approx(0.0, abs=1e-9)
    assert losses[90.0] > 0.1


def test_half_of_the_poses_are_mirrored_others_in_each_epoch() -> None:
    found = poses(400)
    source = PoseSource(found, COMMON14, flip=True, seed=1)
    samples = torch.randperm(400, generator=torch.Generator().manual_seed(0)).numpy()
    first, again, other = (source.batch(samples, epoch).poses for epoch in (0, 0, 1))
    kept = (first == found[samples]).all(-1).all(-1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 150 < kept.sum() < 250
    part = source.batch(samples[10:20], 0).poses
    assert torch.equal(part, first[10:20])
    assert torch.equal(PoseSource(found, COMMON14, flip=False, seed=1).batch(samples, 0).poses, found[samples])


def test_poses_must_be_judged_from_somewhere() -> None:
    with pytest.raises(ConfigError, match="no angle"):
        made_method(angles=(), random_angles=0)
