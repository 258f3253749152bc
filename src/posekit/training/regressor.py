"""Trains a body regressor: from registered bodies with their 2D labels, or from 2D labels alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from posekit.config.regressor import TrainRegressor
from posekit.errors import FormatError
from posekit.models.backbone import Backbone, BackboneName, normalised
from posekit.models.body_regressor import BodyRegressor, RegressedBodies, RotationForm, regressed_bodies
from posekit.training.body_losses import LossBody, ParameterComparison, parameter_loss
from posekit.training.crops import CropBatch
from posekit.training.method import Method, Worker
from posekit.training.runs import LoadedRun, load_run
from posekit.training.single_step import ProjectionAdversary, caught, deceived

REGRESSOR = "regressor"
DISCRIMINATOR = "discriminator"
STAGE = "train regressor"


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; zero leaves it out."""

    parameters: float = 1.0
    dense: float = 10.0
    keypoints: float = 10.0
    depth: float = 10.0
    scale: float = 0.0
    pose: float = 0.0
    det: float = 0.0
    adversary: float = 0.0

    @staticmethod
    def of(config: TrainRegressor) -> LossWeights:
        """The terms of a way of supervision with the weights of a config."""
        data = LossWeights(config.w_parameters, config.w_dense, config.w_keypoints, config.w_depth)
        if config.supervision == "fits":
            return data
        with_adversary = config.supervision == "labels"
        return replace(
            data,
            parameters=0.0,
            depth=0.0,
            scale=config.w_scale,
            pose=config.w_pose if with_adversary else 0.0,
            det=config.w_det,
            adversary=config.w_adversary if with_adversary else 0.0,
        )


@dataclass(frozen=True)
class RegressorSettings:
    """What a training of a regressor minimises, and the learning rates of Adam."""

    weights: LossWeights
    comparison: ParameterComparison = field(default_factory=ParameterComparison)
    squared_limits: bool = False
    lr: float = 1e-4
    adversary_lr: float = 2e-4

    @staticmethod
    def of(config: TrainRegressor) -> RegressorSettings:
        """The settings of a config."""
        return RegressorSettings(
            weights=LossWeights.of(config),
            comparison=ParameterComparison(config.regression_loss, config.beta, config.antipodal),
            squared_limits=config.squared_limits,
            lr=config.lr,
            adversary_lr=config.adversary_lr,
        )


class RegressorMethod(Method[CropBatch]):
    """Steps of a regressor, and of the discriminator where there is an adversary.

    Every loss is a mean over samples of values of one sample each. Only the networks run in lower precision; bodies are
    posed in single precision.
    """

    def __init__(
        self,
        regressor: BodyRegressor,
        body: LossBody,
        settings: RegressorSettings,
        adversary: ProjectionAdversary | None = None,
        discriminator: nn.Module | None = None,
    ) -> None:
        self.regressor = regressor
        self.settings = settings
        self._body = body
        self._adversary = adversary if settings.weights.adversary else None
        self._modules: dict[str, nn.Module] = {REGRESSOR: regressor}
        if self._adversary is not None:
            if discriminator is None:
                raise ValueError("an adversary needs a discriminator")
            self._modules[DISCRIMINATOR] = discriminator
        self._optimizers: dict[str, Optimizer] = {REGRESSOR: Adam(regressor.parameters(), lr=settings.lr, fused=True)}
        if discriminator is not None and self._adversary is not None:
            # The decays are usual for adversaries (Radford et al. 2016).
            self._optimizers[DISCRIMINATOR] = Adam(
                discriminator.parameters(), lr=settings.adversary_lr, betas=(0.5, 0.999), fused=True
            )

    def modules(self) -> dict[str, nn.Module]:
        """The regressor, and the discriminator where there is one."""
        return self._modules

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each."""
        return self._optimizers

    def constants(self) -> dict[str, nn.Module]:
        """The body, and the joints and angles of the adversary."""
        return {"body": self._body} | ({} if self._adversary is None else {"adversary": self._adversary})

    def step(self, batch: CropBatch, worker: Worker) -> dict[str, Tensor]:
        """One step of the regressor, then one of the discriminator."""
        raw = worker.module(REGRESSOR)(normalised(batch.images))
        bodies = regressed_bodies(raw, self.regressor.joint_count, self.regressor.rotations)
        terms, landmarks = self._terms(bodies, batch)
        if self._adversary is not None:
            terms["adversary"] = self._deceived(landmarks, worker)
        means = {name: values.mean() for name, values in terms.items()}
        total = torch.stack([getattr(self.settings.weights, name) * mean for name, mean in means.items()]).sum()
        worker.backward(total)
        worker.step(REGRESSOR)
        losses = {"total": total, **means}
        if self._adversary is not None:
            losses["discriminator"] = self._teach_discriminator(landmarks.detach(), batch, worker)
        return {name: loss.detach() for name, loss in losses.items()}

    def _terms(
        self, bodies: RegressedBodies, batch: CropBatch
    ) -> tuple[dict[str, Float[Tensor, " B"]], Float[Tensor, "B J 3"]]:
        weights, body = self.settings.weights, self._body
        terms: dict[str, Tensor] = {}
        if weights.parameters:
            compared = parameter_loss(bodies, batch.fits, self.settings.comparison)
            # Samples without a usable fit learn from the other terms alone.
            terms["parameters"] = torch.where(batch.fitted, compared, 0.0)
        data = body.data_terms(bodies, batch.targets)
        terms |= {name: getattr(data, name) for name in ("dense", "keypoints", "depth") if getattr(weights, name)}
        if weights.scale:
            terms["scale"] = body.scale_term(bodies)
        if weights.pose:
            terms["pose"] = body.pose_term(bodies, self.settings.squared_limits)
        if weights.det:
            terms["det"] = body.determinant_term(bodies)
        return terms, data.landmarks

    def _deceived(self, landmarks: Float[Tensor, "B J 3"], worker: Worker) -> Float[Tensor, " B"]:
        assert self._adversary is not None
        logits = worker.module(DISCRIMINATOR)(self._adversary.projected(landmarks))
        return deceived(logits, len(landmarks))

    def _teach_discriminator(
        self, landmarks: Float[Tensor, "B J 3"], batch: CropBatch, worker: Worker
    ) -> Float[Tensor, ""]:
        assert self._adversary is not None
        targets = batch.targets
        real, complete = self._adversary.labelled(targets.keypoints[:, 0], targets.keypoint_weights[:, 0])
        made = self._adversary.projected(landmarks)
        logits = worker.module(DISCRIMINATOR)(torch.cat([real.to(made.dtype), made]))
        loss = caught(logits[: len(real)], complete, logits[len(real) :]).mean()
        worker.backward(loss)
        worker.step(DISCRIMINATOR)
        return loss


@dataclass(frozen=True)
class RegressorFacts:
    """What one must know to use a trained regressor: the side of its crops (px), its form, the digest of its body and of
    its weights."""

    input_size: int
    backbone: BackboneName
    rotations: RotationForm
    joint_count: int
    body: str
    digest: str = ""

    def plain(self) -> dict[str, str | int]:
        """For the description of a run."""
        return {name: value for name, value in vars(self).items() if name != "digest"}

    @staticmethod
    def of(run: LoadedRun) -> RegressorFacts:
        """The facts of a run; FormatError for the run of something else."""
        names = ("input_size", "backbone", "rotations", "joint_count", "body")
        if not all(name in run.facts for name in names):
            raise FormatError(f"{run.path} holds no body regressor", got=f"a run of {run.stage}", accepted=STAGE)
        return RegressorFacts(**{name: run.facts[name] for name in names}, digest=run.digest)


def load_regressor(run_folder: Path, device: torch.device) -> tuple[BodyRegressor, RegressorFacts]:
    """A trained regressor, ready to predict.

    Raises MissingFileError where there is none, FormatError or ArtifactError for a folder of something else.
    """
    run = load_run(run_folder)
    facts = RegressorFacts.of(run)
    regressor = BodyRegressor(Backbone(facts.backbone), facts.joint_count, facts.rotations)
    load_weights(regressor, run.module(REGRESSOR), run_folder)
    return regressor.to(device).eval(), facts


def load_weights(regressor: BodyRegressor, weights: Mapping[str, Tensor], source: Path) -> None:
    """Takes over the weights of another regressor of the same form; FormatError where they do not fit."""
    try:
        regressor.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise FormatError(
            f"the weights in {source} are not those of such a regressor",
            got=str(error).splitlines()[1].strip() if "\n" in str(error) else error,
            accepted=f"{regressor.backbone.name}, {regressor.rotations}, {regressor.joint_count} joints",
        ) from error
