"""Trains a Pose ResNet: its 2D branch from key points, its 3D branch from labels made of two views or from ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from torch.optim import Adam, Optimizer

from posekit.config.pose_resnet import DepthUnits
from posekit.errors import FormatError
from posekit.models.backbone import Backbone, normalised
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm
from posekit.skeleton.catalog import CATALOG
from posekit.skeleton.skeleton import Skeleton
from posekit.training.method import Method, Worker
from posekit.training.pose_samples import PoseBatch
from posekit.training.runs import LoadedRun, load_run

NETWORK = "network"
STAGE_2D = "train pose-resnet-2d"
STAGE_3D = "train pose-resnet"

JointLoss = Literal["l1", "smooth-l1"]

_UNLIKELY = 1e-12
"""Added to probabilities, so that their logarithms stay finite."""


@dataclass(frozen=True)
class PoseLoss:
    """How predicted and labelled joints are compared; see `joint_loss`."""

    kind: JointLoss = "smooth-l1"
    gamma: float = 64.0
    heat_maps: float = 0.0
    """Weight of `heat_map_loss`."""
    spread: float = 1.0
    """Deviation of the Gaussians that it compares with, in cells."""


def joint_loss(
    predicted: Float[Tensor, "B J 3"], labelled: Float[Tensor, "B J 3"], weights: Float[Tensor, "B J 3"], loss: PoseLoss
) -> Float[Tensor, " B"]:
    """The comparison of Pose ResNet (section 4.4): sums over the axes, means over the joints that count.

    Coordinates are shares of the crop's side; `gamma` times them is what smooth L1 sees, so that it turns linear at an error
    of 1 / gamma. With L1 `gamma` is a factor. Zero for samples of which no joint counts.
    """
    if loss.kind == "l1":
        each = loss.gamma * (predicted - labelled).abs()
    else:
        each = smooth_l1_loss(loss.gamma * predicted, loss.gamma * labelled, reduction="none")
    return _mean_over_joints((weights * each).sum(dim=2), weights)


def heat_map_loss(
    plane: Float[Tensor, "B J h w"],
    depth: Float[Tensor, "B J D"],
    labelled: Float[Tensor, "B J 3"],
    weights: Float[Tensor, "B J 3"],
    spread: float = 1.0,
    half_cell: bool = True,
) -> Float[Tensor, " B"]:
    """Cross-entropy between heat maps and Gaussians of `spread` cells about the labels, in the image and along depth.

    Soft-argmax alone lets a map be as wide as it likes, and is slow to begin: EpipolarPose, which Pose ResNet builds on,
    starts from a network that learned heat maps (Kocabas et al. 2019). The mean over the joints that count.
    """
    x, y, z = (
        _gaussian(labelled[..., axis], cells, spread, half_cell)
        for axis, cells in enumerate((plane.shape[3], plane.shape[2], depth.shape[2]))
    )
    # As matrix products: no map of the wanted probabilities is made.
    across = -torch.einsum("bjh,bjhw,bjw->bj", y, (plane + _UNLIKELY).log(), x)
    along = -(z * (depth + _UNLIKELY).log()).sum(dim=2)
    return _mean_over_joints(weights[..., 0] * across + weights[..., 2] * along, weights)


def _gaussian(places: Float[Tensor, "B J"], cells: int, spread: float, half_cell: bool) -> Float[Tensor, "B J N"]:
    """Probabilities about places from -1/2 to 1/2, of all cells together 1."""
    centre = (places + 0.5) * cells - (0.5 if half_cell else 0.0)
    away = torch.arange(cells, dtype=places.dtype, device=places.device) - centre[..., None]
    return torch.softmax(-0.5 * (away / spread).square(), dim=2)


def _mean_over_joints(each: Float[Tensor, "B J"], weights: Float[Tensor, "B J 3"]) -> Float[Tensor, " B"]:
    count = weights.amax(dim=2).sum(dim=1)
    return each.sum(dim=1) / torch.where(count == 0, 1.0, count)


class PoseMethod(Method[PoseBatch]):
    """Steps of one branch."""

    def __init__(self, network: PoseResNet, loss: PoseLoss, lr: float) -> None:
        self.network = network
        self._loss = loss
        self._optimizer = Adam(network.parameters(), lr=lr, fused=True)

    def modules(self) -> dict[str, nn.Module]:
        """The network."""
        return {NETWORK: self.network}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam."""
        return {NETWORK: self._optimizer}

    def step(self, batch: PoseBatch, worker: Worker) -> dict[str, Tensor]:
        """One step; also logs the share of people's boxes that something was pasted over."""
        joints, plane, depth = worker.module(NETWORK)(normalised(batch.images))
        labelled, weights = batch.joints.to(joints.dtype), batch.weights.to(joints.dtype)
        loss = joint_loss(joints, labelled, weights, self._loss).mean()
        losses = {"total": loss, "covered": batch.covered.mean()}
        if self._loss.heat_maps:
            half_cell = self.network.form.half_cell
            maps = heat_map_loss(plane, depth, labelled, weights, self._loss.spread, half_cell).mean()
            losses |= {"joints": loss, "heat_maps": maps, "total": loss + self._loss.heat_maps * maps}
        worker.backward(losses["total"])
        worker.step(NETWORK)
        return {name: value.detach() for name, value in losses.items()}


@dataclass(frozen=True)
class PoseFacts:
    """What one must know to use a trained branch.

    `dimensions` is 2 where depths mean nothing. `digest` is that of the weights.
    """

    input_size: int
    crop_margin: float
    form: PoseResNetForm
    skeleton: Skeleton
    dimensions: Literal[2, 3]
    depth_units: DepthUnits
    digest: str = ""

    def plain(self) -> dict[str, Any]:
        """For the description of a run."""
        return {
            "input_size": self.input_size,
            "crop_margin": self.crop_margin,
            "form": self.form.plain(),
            "skeleton": self.skeleton.name,
            "dimensions": self.dimensions,
            "depth_units": self.depth_units,
        }

    @staticmethod
    def of(run: LoadedRun) -> PoseFacts:
        """The facts of a run; FormatError for the run of something else."""
        names = ("input_size", "crop_margin", "form", "skeleton", "dimensions", "depth_units")
        if run.stage not in (STAGE_2D, STAGE_3D) or not all(name in run.facts for name in names):
            raise FormatError(
                f"{run.path} holds no Pose ResNet", got=f"a run of {run.stage}", accepted=[STAGE_2D, STAGE_3D]
            )
        if run.facts["skeleton"] not in CATALOG:
            raise FormatError(
                f"{run.path} speaks of unknown joints", got=run.facts["skeleton"], accepted=sorted(CATALOG)
            )
        plain = {name: run.facts[name] for name in names}
        form, skeleton = PoseResNetForm.of(plain["form"]), CATALOG[plain["skeleton"]]
        return PoseFacts(**plain | {"form": form, "skeleton": skeleton}, digest=run.digest)


def load_pose_resnet(run_folder: Path, device: torch.device) -> tuple[PoseResNet, PoseFacts]:
    """A trained branch, ready to predict.

    Raises MissingFileError where there is none, FormatError or ArtifactError for a folder of something else.
    """
    run = load_run(run_folder)
    facts = PoseFacts.of(run)
    network = PoseResNet(Backbone(facts.form.backbone), facts.form)
    take_weights(network, run.module(NETWORK), run_folder)
    return network.to(device).eval(), facts


def take_over(network: PoseResNet, run: LoadedRun) -> None:
    """All weights of a trained branch of the same form (the transfer from 2D to 3D); FormatError for another form."""
    theirs = PoseFacts.of(run).form
    # Where soft-argmax counts from has no weights.
    if replace(theirs, half_cell=network.form.half_cell) != network.form:
        mine, given = network.form.plain(), theirs.plain()
        differing = [name for name, value in mine.items() if given[name] != value]
        raise FormatError(
            f"the network in {run.path} has another form",
            got=", ".join(f"{name} {given[name]}" for name in differing),
            accepted=", ".join(f"{name} {mine[name]}" for name in differing),
            hint="Train both branches with the same settings, or give --no-transfer",
        )
    take_weights(network, run.module(NETWORK), run.path)


def take_weights(network: PoseResNet, weights: Mapping[str, Tensor], source: Path) -> None:
    """Takes over weights; FormatError where they do not fit."""
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise FormatError(
            f"the weights in {source} are not those of such a network", got=str(error).splitlines()[-1]
        ) from error
