"""What the trainings of both branches of Pose ResNet share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header, file_digest
from posekit.config.pose_resnet import DepthUnits, TrainPoseNetwork
from posekit.errors import ConfigError, DataError
from posekit.models.backbone import build_backbone
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm
from posekit.registration.bodies import bodies_of, of_split
from posekit.skeleton.catalog import MPII16
from posekit.stages.report import StageReport
from posekit.training.augmentation import Augmentation
from posekit.training.loop import TrainingOutcome
from posekit.training.pose_resnet import STAGE_2D, JointLoss, PoseFacts, PoseLoss, take_over
from posekit.training.runs import KIND, LoadedRun

_SAMPLING = 7


def form_of(config: TrainPoseNetwork) -> PoseResNetForm:
    """The network that a config describes; ConfigError for crops that it cannot take."""
    if config.input_size % 32:
        raise ConfigError("the crop's side must suit the network", got=config.input_size, accepted="a multiple of 32")
    return PoseResNetForm(
        backbone=config.backbone,
        joints=len(MPII16),
        depth_bins=config.depth_bins,
        cbam=config.cbam,
        cbam_reduction=config.cbam_reduction,
        cbam_bn=config.cbam_bn,
        pool=config.pool,
        rates=config.rates,
        unipose_extra=config.unipose_extra,
        output_stride=config.output_stride,
        deconv_width=config.deconv_width,
        half_cell=config.half_cell,
    )


def augmentation_of(config: TrainPoseNetwork) -> Augmentation | None:
    """The random changes of a config, or None."""
    if not config.augment:
        return None
    return Augmentation(
        config.flip, config.gain, config.zoom_sd, config.zoom_max, config.turn_sd, config.turn_max, config.turn_p
    )


def loss_of(config: TrainPoseNetwork, kind: JointLoss) -> PoseLoss:
    """What a config minimises."""
    return PoseLoss(kind, config.gamma, config.heat_map_weight, config.heat_map_sd)


def new_network(config: TrainPoseNetwork, init: LoadedRun | None) -> PoseResNet:
    """The network to train: with the weights of another one, or of its trunk's first training."""
    if init is not None and config.weights_file is not None:
        raise ConfigError("another network's weights and weights of a trunk to begin with", accepted="one of them")
    pretrained = "none" if init is not None else config.weights
    backbone = build_backbone(config.backbone, pretrained, config.weights_file, config.seed)
    network = PoseResNet(backbone, form_of(config), config.seed)
    if init is not None:
        take_over(network, init)
    return network


def run_header(config: TrainPoseNetwork, stage: str, inputs: Mapping[str, str], units: DepthUnits) -> Header:
    """What describes the run of a training."""
    digests = dict(inputs)
    if config.weights_file is not None:
        digests["weights"] = file_digest(config.weights_file)
    facts = PoseFacts(
        config.input_size, config.crop_margin, form_of(config), MPII16, 2 if stage == STAGE_2D else 3, units
    )
    return Header(KIND, stage, settings=config.settings(), inputs=digests, seed=config.seed, facts=facts.plain())


def rows_of_split(dataset: Artifact, split: str, stride: int = 1) -> Int[np.ndarray, " N"]:
    """The samples of a split, every `stride`-th instant of each sequence; DataError where there is none."""
    every = bodies_of(dataset, joint_views=False, usable=np.ones(dataset.rows("cameras"), dtype=bool), stride=stride)
    rows: Int[np.ndarray, " N"] = every.samples[of_split(dataset, every, split), 0]
    if not len(rows):
        raise DataError(f"{dataset.path} has nobody of the split {split}", hint="Look at it with `posekit info`")
    return rows


def some_of(rows: Int[np.ndarray, " N"], most: int, seed: int) -> Int[np.ndarray, " M"]:
    """A random choice of at most `most` rows (0: all), in their order."""
    if not most or len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng((seed, _SAMPLING)).choice(rows, most, replace=False))


def evenly(rows: Int[np.ndarray, " N"], most: int) -> Int[np.ndarray, " M"]:
    """At most `most` rows, evenly chosen."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64))]


def pose_report(
    config: TrainPoseNetwork,
    stage: str,
    outcome: TrainingOutcome,
    counts: Mapping[str, int],
    notes: Sequence[str] = (),
) -> StageReport:
    """What a finished training says."""
    metrics = {f"loss_{name}": value for name, value in outcome.losses.items() if name != "covered"}
    if outcome.losses.get("covered"):
        metrics["covered_share"] = outcome.losses["covered"]
    metrics |= dict(outcome.monitored)
    metrics |= {"seconds": outcome.seconds, "waiting_share": outcome.waiting_share}
    kept = {name: count for name, count in counts.items() if count or name == "samples"}
    return StageReport(
        stage,
        [config.output],
        skipped=outcome.skipped,
        metrics=metrics,
        counts=kept | {"steps": outcome.steps},
        notes=[*notes, *outcome.notes],
    )
