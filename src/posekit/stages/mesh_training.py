"""What both trainings of mesh estimators share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET, MASKS
from posekit.body.model import BodyModel
from posekit.body.smpl_file import BodyData, load_body
from posekit.config.base import beside
from posekit.config.mesh_estimator import TrainMesh
from posekit.config.training import Precision
from posekit.errors import ConfigError, DataError
from posekit.models.backbone import Backbone
from posekit.models.mesh_estimator import MeshEstimator
from posekit.registration.bodies import bodies_of, of_split
from posekit.stages.report import StageReport, require_same_source
from posekit.training.augmentation import Augmentation
from posekit.training.image_ssl_losses import JointWeights
from posekit.training.loop import TrainingOutcome
from posekit.training.mesh_estimator import JointsLoss, MeshFacts, NamedJoints
from posekit.training.mesh_monitor import MeshMonitor
from posekit.training.mesh_samples import MeshPart, MeshSource

Learned = Callable[[Artifact], bool]
"""Whether some labels of a data set are learned from."""


@dataclass(frozen=True, eq=False)
class MeshInputs:
    """The opened inputs; `masks` have one entry for each data set."""

    datasets: list[Artifact]
    masks: list[Artifact | None]
    body: BodyData

    @staticmethod
    def open(config: TrainMesh, stack: ExitStack) -> MeshInputs:
        """Raises ConfigError for settings that do not fit, InputError for files that do not belong together."""
        if not config.datasets:
            raise ConfigError("no data set to learn from", hint="Give at least one with --datasets")
        if config.masks and len(config.masks) != len(config.datasets):
            raise ConfigError(
                "--masks needs one file for each data set", got=len(config.masks), accepted=len(config.datasets)
            )
        datasets = [stack.enter_context(Artifact(path, DATASET)) for path in config.datasets]
        usual = [beside(path, "labels", ".masks.h5") for path in config.datasets]
        masks = [
            stack.enter_context(Artifact(path, MASKS)) if config.masks or path.exists() else None
            for path in config.masks or usual
        ]
        for found, dataset in zip(masks, datasets, strict=True):
            if found is not None:
                require_same_source(found, "dataset", dataset)
        return MeshInputs(datasets, masks, load_body(config.body))

    def digests(self) -> dict[str, str]:
        """Digests of what is there, by role."""
        named = {f"dataset{number}": dataset.digest for number, dataset in enumerate(self.datasets)}
        named |= {f"masks{number}": masks.digest for number, masks in enumerate(self.masks) if masks is not None}
        return named | {"body": self.body.digest}

    def named_joints(self) -> NamedJoints:
        """The joints that any of the data sets labels."""
        return NamedJoints(self.body, [dataset.skeleton for dataset in self.datasets])

    def require_masks(self) -> None:
        """Raises DataError where no data set has masks."""
        if all(masks is None for masks in self.masks):
            raise DataError(
                "there are no masks to compare rendered bodies with",
                accepted="labels/NAME.masks.h5 of at least one data set, or --masks",
                hint="Make them with `posekit pseudo-label masks`",
            )

    def parts(self, split: str, keypoints: Learned, joints: Learned) -> list[MeshPart]:
        """Samples of a split of every data set; DataError where a data set has none."""
        return [
            MeshPart(dataset, _rows(dataset, split), masks, keypoints(dataset), joints(dataset))
            for dataset, masks in zip(self.datasets, self.masks, strict=True)
        ]


def training_source(
    config: TrainMesh,
    inputs: MeshInputs,
    facts: MeshFacts,
    names: Sequence[str],
    keypoints: Learned,
    joints: Learned,
    stack: ExitStack,
    *,
    upright: bool = False,
) -> MeshSource:
    """The samples to learn from."""
    source = MeshSource(
        inputs.parts(config.split, keypoints, joints),
        facts.input_size,
        names,
        Augmentation.of(config),
        config.seed,
        shares=config.shares,
        upright=upright,
    )
    return stack.enter_context(closing(source))


def joints_loss_of(config: TrainMesh, facts: MeshFacts, body: BodyModel, joints: NamedJoints) -> JointsLoss:
    """How estimates are compared with labels."""
    weights = JointWeights(config.w_joints, config.w_keypoints_2d, config.w_joints_3d)
    return JointsLoss(body, joints, facts.focal_px, facts.camera == "weak", weights)


def mesh_monitor(
    config: TrainMesh,
    inputs: MeshInputs,
    facts: MeshFacts,
    networks: tuple[Backbone, MeshEstimator],
    body: BodyModel,
    joints: NamedJoints,
    stack: ExitStack,
) -> MeshMonitor | None:
    """What measures images of test subjects, evenly chosen; None where there is nothing to measure."""
    held = [
        (dataset, masks)
        for dataset, masks in zip(inputs.datasets, inputs.masks, strict=True)
        if "test" in set(dataset.read("sequences", "split")) and dataset.has("samples", "joints3d")
    ]
    if not config.monitor_samples or not held:
        return None
    most = -(-config.monitor_samples // len(held))
    parts = []
    for dataset, masks in held:
        rows = _rows(dataset, "test")
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64))
        parts.append(MeshPart(dataset, rows[chosen], masks))
    source = MeshSource(parts, facts.input_size, joints.names, None, config.seed)
    precision: Precision = config.precision
    return MeshMonitor(
        *networks,
        body,
        joints,
        stack.enter_context(closing(source)),
        precision,
        focal_px=facts.focal_px,
        weak=facts.camera == "weak",
        every=config.monitor_every,
    )


def mesh_report(
    config: TrainMesh, stage: str, outcome: TrainingOutcome, counts: Mapping[str, int], notes: Sequence[str]
) -> StageReport:
    """What a finished training says."""
    metrics = {f"loss_{name}": value for name, value in outcome.losses.items()} | dict(outcome.monitored)
    metrics |= {"seconds": outcome.seconds, "waiting_share": outcome.waiting_share}
    return StageReport(
        stage,
        [config.output],
        skipped=outcome.skipped,
        metrics=metrics,
        counts={**{name: count for name, count in counts.items() if count}, "steps": outcome.steps},
        notes=[*notes, *outcome.notes],
    )


def body_model(inputs: MeshInputs, device: torch.device) -> BodyModel:
    """The body, where the networks are."""
    return BodyModel(inputs.body).to(device)


def _rows(dataset: Artifact, split: str) -> np.ndarray:
    every = bodies_of(dataset, joint_views=False, usable=np.ones(dataset.rows("cameras"), dtype=bool), stride=1)
    chosen = every if split == "all" else every.select(of_split(dataset, every, split))
    if not len(chosen):
        raise DataError(f"{dataset.path} has nobody of the split {split}", hint="Take everybody with --split all")
    rows: np.ndarray = chosen.samples[:, 0]
    return rows
