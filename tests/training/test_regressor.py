"""Steps of the regressor on made batches."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.artifacts.provenance import Header
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.regressor import TrainRegressor
from posekit.errors import FormatError
from posekit.models.backbone import Backbone
from posekit.models.body_regressor import BodyRegressor, RotationForm
from posekit.registration.initial import resting
from posekit.registration.landmarks import landmark_blends
from posekit.registration.targets import WEAK_PROJECTION, Targets
from posekit.skeleton.catalog import H36M17
from posekit.training.body_losses import LossBody
from posekit.training.crops import CropBatch
from posekit.training.loop import LoopSettings, train
from posekit.training.regressor import (
    LossWeights,
    RegressorFacts,
    RegressorMethod,
    RegressorSettings,
    load_regressor,
    load_weights,
)
from posekit.training.runs import KIND, RunFolder
from posekit.training.single_step import ProjectionAdversary

CPU = torch.device("cpu")
SIZE, POINTS = 32, 12
FITS = RegressorSettings(LossWeights(), lr=1e-3)
SETTINGS = LoopSettings(epochs=2, batch=4, lr=1e-3, checkpoint_every=3, log_every=1)


@pytest.fixture(scope="module")
def body() -> LossBody:
    skinned = SegmentScaledBody(load_body())
    return LossBody(skinned, landmark_blends(skinned, H36M17))


class Made:
    """Twelve samples of noise; every third has no fit."""

    def __init__(self, body: LossBody) -> None:
        self.body = body

    def __len__(self) -> int:
        return 12

    def batch(self, samples: np.ndarray, epoch: int) -> CropBatch:
        parts = [self._sample(int(sample), epoch) for sample in samples]
        images, keypoints, points, vertices = (torch.stack(column) for column in zip(*parts, strict=True))
        count = len(samples)
        rows = torch.tensor(samples)
        fits = resting(self.body.body, count)
        pose = fits.pose.clone()
        pose[:, 5, 0] = 0.1 * rows
        flat = torch.tensor([0.0, 0.0, 1.0])
        targets = Targets(
            projections=torch.tensor(WEAK_PROJECTION).expand(count, 1, 3, 4),
            keypoints=keypoints[:, None],
            keypoint_weights=torch.ones(count, 1, 17),
            joints=0.1 * flat * rows[:, None, None] * torch.ones(count, 17, 1),
            joint_weights=flat.expand(count, 17, 3),
            points=points[:, None],
            point_weights=torch.ones(count, 1, POINTS),
            vertices=vertices[:, None],
            linked=torch.zeros(count, dtype=torch.bool),
            weak=True,
        )
        return CropBatch(images, targets, replace(fits, pose=pose), rows % 3 != 0, rows)

    def _sample(self, sample: int, epoch: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(100 * epoch + sample)
        return (
            torch.randint(256, (SIZE, SIZE, 3), generator=generator).to(torch.uint8),
            0.5 * torch.randn(17, 2, generator=generator),
            0.5 * torch.randn(POINTS, 2, generator=generator),
            torch.randint(6000, (POINTS,), generator=generator),
        )


def regressor(form: RotationForm = "quaternion") -> BodyRegressor:
    return BodyRegressor(Backbone("resnet10"), 24, form)


def method(body: LossBody, settings: RegressorSettings = FITS, form: RotationForm = "quaternion") -> RegressorMethod:
    if not settings.weights.adversary:
        return RegressorMethod(regressor(form), body, settings)
    adversary = ProjectionAdversary(body.joint_names, H36M17.joints, (90.0, 180.0))
    return RegressorMethod(regressor(form), body, settings, adversary, adversary.discriminator(16, 0))


def folder(path: Path, body: LossBody, **settings: object) -> RunFolder:
    facts = RegressorFacts(SIZE, "resnet10", "quaternion", 24, body.body.body.digest)
    return RunFolder(path, Header(KIND, "train regressor", settings=settings, seed=0, facts=facts.plain()))


class Bench:
    """A worker without loop, precision or processes; keeps what was asked of it."""

    def __init__(self, method: RegressorMethod) -> None:
        self.device, self.progress, self.generator = CPU, 0.0, torch.Generator()
        self.method = method
        self.steps: list[str] = []
        self.gradients: dict[str, list[Tensor | None]] = {}

    def module(self, name: str) -> torch.nn.Module:
        return self.method.modules()[name]

    def backward(self, loss: Tensor) -> None:
        for module in self.method.modules().values():
            module.zero_grad()
        loss.backward()

    def step(self, name: str, most: float | None = None) -> None:
        self.steps.append(name)
        self.gradients[name] = [parameter.grad for parameter in self.module(name).parameters()]
        self.method.optimizers()[name].step()

    def through(self, name: str) -> AbstractContextManager[torch.nn.Module]:
        raise NotImplementedError(name)

    def mean(self, value: Tensor) -> Tensor:
        return value

    def mine(self, whole: Tensor) -> Tensor:
        return whole


SINGLE_STEP = RegressorSettings.of(TrainRegressor(supervision="labels", lr=1e-3))


def test_each_way_of_supervision_has_its_terms() -> None:
    def terms(supervision: str) -> set[str]:
        config = TrainRegressor.model_validate({"supervision": supervision})
        return {name for name, weight in vars(LossWeights.of(config)).items() if weight}

    assert terms("fits") == {"parameters", "dense", "keypoints", "depth"}
    assert terms("labels") == {"dense", "keypoints", "scale", "pose", "det", "adversary"}
    assert terms("labels-no-adversary") == {"dense", "keypoints", "scale", "det"}


@pytest.mark.parametrize("form", ["quaternion", "axis-angle"])
@pytest.mark.parametrize("settings", [FITS, SINGLE_STEP])
def test_losses_fall_on_one_batch_and_are_the_weighted_sum(
    form: RotationForm, settings: RegressorSettings, body: LossBody
) -> None:
    made = method(body, settings, form)
    worker = Bench(made)
    batch = Made(body).batch(np.arange(4), 0)
    losses = [made.step(batch, worker) for _ in range(6)]
    first = {name: float(value) for name, value in losses[0].items()}
    weights = vars(settings.weights)
    assert first["total"] == pytest.approx(
        sum(weights[name] * value for name, value in first.items() if name in weights)
    )
    assert float(losses[-1]["total"]) < 0.9 * first["total"]
    assert not any(value.requires_grad for value in losses[0].values())


def test_samples_without_fit_learn_from_labels_alone(body: LossBody) -> None:
    settings = RegressorSettings(LossWeights(1.0, 0.0, 0.0, 0.0))
    batch = Made(body).batch(np.array([0, 3]), 0)
    assert not batch.fitted.any()
    made = method(body, settings)
    worker = Bench(made)
    assert float(made.step(batch, worker)["parameters"]) == 0.0
    assert not any(gradient is not None and bool(gradient.any()) for gradient in worker.gradients["regressor"])
    # With another half that has fits, the mean is still over all samples.
    mixed, fitted = Made(body).batch(np.array([0, 1]), 0), Made(body).batch(np.array([1, 1]), 0)
    both = [float(method(body, settings).step(part, Bench(method(body, settings)))["parameters"]) for part in (mixed,)]
    assert both[0] > 0.0
    assert fitted.fitted.all()


def test_the_discriminator_learns_after_the_regressor_and_moves_nothing_else(body: LossBody) -> None:
    made = method(body, SINGLE_STEP)
    worker = Bench(made)
    batch = Made(body).batch(np.arange(4), 0)
    before = [value.clone() for value in made.modules()["discriminator"].parameters()]
    made.step(batch, worker)
    assert worker.steps == ["regressor", "discriminator"]
    assert any((a != b).any() for a, b in zip(before, made.modules()["discriminator"].parameters(), strict=True))
    # The last backward pass was the discriminator's: nothing of it reached the regressor.
    assert all(value.grad is None for value in made.modules()["regressor"].parameters())


def test_only_the_trained_networks_are_stored(body: LossBody) -> None:
    assert set(method(body, SINGLE_STEP).modules()) == {"regressor", "discriminator"}
    assert set(method(body).modules()) == {"regressor"}
    assert set(method(body).constants()) == {"body"}
    assert not body.state_dict()


def test_an_interrupted_training_ends_bit_for_bit_as_a_whole_one(body: LossBody, tmp_path: Path) -> None:
    whole = train(method(body, SINGLE_STEP), Made(body), SETTINGS, folder(tmp_path / "whole", body), CPU)
    assert whole.steps == 6

    class Stops(Made):
        def batch(self, samples: np.ndarray, epoch: int) -> CropBatch:
            if epoch == 1 and 5 in samples:
                raise KeyboardInterrupt
            return super().batch(samples, epoch)

    with pytest.raises(KeyboardInterrupt):
        train(method(body, SINGLE_STEP), Stops(body), SETTINGS, folder(tmp_path / "broken", body), CPU)
    outcome = train(method(body, SINGLE_STEP), Made(body), SETTINGS, folder(tmp_path / "broken", body), CPU)
    assert outcome.first_step == 3
    one, other = (folder(tmp_path / name, body).load_weights() for name in ("whole", "broken"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_lower_precision_trains_and_keeps_losses_whole(body: LossBody, tmp_path: Path) -> None:
    full = train(method(body), Made(body), SETTINGS, folder(tmp_path / "full", body), CPU)
    lower = replace(SETTINGS, precision="bf16-mixed")
    mixed = train(method(body), Made(body), lower, folder(tmp_path / "mixed", body), CPU)
    assert mixed.losses["total"] == pytest.approx(full.losses["total"], rel=0.1)
    weights = folder(tmp_path / "mixed", body).load_weights()
    assert all(value.dtype == torch.float32 for value in weights.values() if value.is_floating_point())


def test_a_trained_regressor_comes_back_from_its_folder(body: LossBody, tmp_path: Path) -> None:
    made = method(body)
    train(made, Made(body), SETTINGS, folder(tmp_path, body), CPU)
    loaded, facts = load_regressor(tmp_path, CPU)
    assert not loaded.training
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), made.regressor.eval()(images))
    assert (facts.input_size, facts.backbone, facts.rotations) == (SIZE, "resnet10", "quaternion")
    assert facts.body == body.body.body.digest
    assert len(facts.digest) == 64
    assert next(iter(loaded.backbone.layer2.parameters())).is_contiguous(memory_format=torch.channels_last)


def test_runs_of_something_else_are_refused(body: LossBody, tmp_path: Path) -> None:
    run = RunFolder(tmp_path, Header(KIND, "train lifter", seed=0))
    run.begin()
    run.finish({"generator.weight": torch.zeros(2)})
    with pytest.raises(FormatError, match="no body regressor"):
        load_regressor(tmp_path, CPU)
    with pytest.raises(FormatError, match="resnet10, axis-angle, 24 joints"):
        load_weights(regressor("axis-angle"), regressor("quaternion").state_dict(), tmp_path)
