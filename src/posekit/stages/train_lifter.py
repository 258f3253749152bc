"""`posekit train lifter`: trains the network that gives 2D key points their depths."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET
from posekit.body.landmarks import landmarks, regressor
from posekit.body.smpl_file import BodyData, load_body
from posekit.config.lifter import TrainLifter
from posekit.errors import ConfigError, DataError
from posekit.labeling.lifting import STAGE
from posekit.skeleton.catalog import H36M17, skeleton_by_name
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport, input_digests
from posekit.training.lifter import LifterMethod
from posekit.training.loop import LoopSettings, TrainingOutcome, train
from posekit.training.poses import PoseSource, read_poses
from posekit.training.runs import KIND, RunFolder


def train_lifter(config: TrainLifter) -> StageReport:
    """Writes a run folder with the weights of generator and discriminator; goes on where an earlier run was stopped.

    Learns from the 2D key points of whole skeletons alone; no 3D joint of the data sets is read. Raises InputError for
    data sets whose joints do not suffice, DataError when they hold too few whole skeletons, and ConfigError for settings
    that exclude each other.
    """
    skeleton, body = skeleton_by_name(config.joints), load_body(config.body)
    with ExitStack() as stack:
        datasets = [stack.enter_context(Artifact(path, DATASET)) for path in config.datasets]
        if not datasets:
            raise ConfigError("no data set to learn from", hint="Give at least one with --datasets")
        rest = resting_joints(body, skeleton, as_h36m=all(dataset.skeleton == H36M17 for dataset in datasets))
        method = LifterMethod(config, skeleton, rest)
        inputs = input_digests(**{f"dataset{number}": dataset for number, dataset in enumerate(datasets)})
        header = Header(
            KIND,
            STAGE,
            settings=config.settings(),
            inputs=inputs | {"body": body.digest},
            seed=config.seed,
            facts={"joint_names": list(skeleton.joints), "bone_ratios": method.geometry.named_ratios()},
        )
        run = RunFolder(config.output, header)
        if run.is_finished() and not config.force:
            return StageReport(STAGE, [config.output], skipped=True)
        if config.dry_run:
            return StageReport(STAGE, [], notes=[f"would train on {_names(datasets)} into {config.output}"])
        poses, counts = read_poses(datasets, skeleton, config.split)
    if len(poses) < config.batch:
        raise DataError(
            "too few whole skeletons to fill one batch",
            got=f"{len(poses)} ({_left_out(counts)})",
            accepted=f"at least {config.batch}",
            hint="Add data sets, or lower --batch",
        )
    if config.force:
        run.start_over()
    source = PoseSource(poses, skeleton, flip=config.flip, seed=config.seed)
    outcome = train(method, source, LoopSettings.from_config(config), run, resolve_device(config.device))
    return _report(config, outcome, counts)


def resting_joints(body: BodyData, skeleton: Skeleton, *, as_h36m: bool) -> Float[Tensor, "J 3"]:
    """The joints of the body at rest; `as_h36m` takes those of Human3.6M's markers, which lie elsewhere than a rig's."""
    if as_h36m and body.h36m_regressor is not None:
        joints = regressor(body, skeleton) @ body.v_template
    else:
        points = landmarks(body, skeleton.joints)
        if points.missing:
            raise DataError(
                "the body cannot give every joint", got=points.missing, hint="Take another body with --body"
            )
        joints = points.joint_weights.double().numpy() @ body.rest_joints
        joints = joints + points.vertex_weights.double().numpy() @ body.v_template[points.vertex_ids]
    return torch.from_numpy(np.asarray(joints, dtype=np.float32))


def _names(datasets: Sequence[Artifact]) -> str:
    return ", ".join(dataset.path.name for dataset in datasets)


def _left_out(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if reason != "poses")


def _report(config: TrainLifter, outcome: TrainingOutcome, counts: dict[str, int]) -> StageReport:
    notes = list(outcome.notes)
    left_out = sum(counts.values()) - counts["poses"]
    if left_out:
        notes.append(f"{left_out} samples were not learned from: {_left_out(counts)}")
    return StageReport(
        STAGE,
        [config.output],
        metrics={f"loss_{name}": value for name, value in outcome.losses.items()} | {"seconds": outcome.seconds},
        counts={**counts, "steps": outcome.steps},
        notes=notes,
    )
