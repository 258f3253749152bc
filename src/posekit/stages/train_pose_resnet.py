"""`posekit train pose-resnet`: trains the 3D branch of Pose ResNet, which finds 3D joints in one image."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET, VIEW_LABELS
from posekit.config.base import beside
from posekit.config.pose_resnet import TrainPoseResNet
from posekit.errors import ConfigError, DataError, InputError
from posekit.models.pose_resnet import PoseResNet
from posekit.registration.bodies import KeyedRows, pack_keys
from posekit.skeleton.catalog import MPII16
from posekit.stages.device import resolve_device
from posekit.stages.pose_training import (
    augmentation_of,
    evenly,
    loss_of,
    new_network,
    pose_report,
    rows_of_split,
    run_header,
    some_of,
)
from posekit.stages.report import StageReport, require_same_source
from posekit.training.loop import LoopSettings, train
from posekit.training.occlusion import Occluders, Occlusion
from posekit.training.pose_labels import ROOT, SpatialJoints, depth_unit, focal_lengths, moving, spatial_labels
from posekit.training.pose_monitor import PoseMonitor, spatial_errors
from posekit.training.pose_resnet import STAGE_3D, PoseMethod
from posekit.training.pose_samples import PasteOver, PosePart, PoseSource
from posekit.training.runs import LoadedRun, RunFolder, load_run
from posekit.training.stored_crops import StoredCrops

LABELS_ENDING = ".view3d.h5"

_DEFAULT_INIT = Path("runs/pose-resnet-2d")
_KEY = ("sequence", "frame", "person", "camera")


def train_pose_resnet(config: TrainPoseResNet) -> StageReport:
    """Writes a run folder with the weights of the network; goes on where an earlier run was stopped.

    Learns from training subjects' images and labels made from two views; 3D joints of the data set are read only for full
    supervision, for `box2000`, and to log errors of other subjects where that is asked for. Raises ConfigError for settings
    that exclude each other, InputError for files that do not belong together, DataError where no sample is left.
    """
    with ExitStack() as stack:
        inputs = _open_inputs(config, stack)
        run = RunFolder(config.output, run_header(config, STAGE_3D, inputs.digests(), config.depth_units))
        if run.is_finished() and not config.force:
            return StageReport(STAGE_3D, [config.output], skipped=True)
        if config.dry_run:
            note = f"would train on {config.dataset} ({config.supervision}) into {config.output}"
            return StageReport(STAGE_3D, [], notes=[note])
        if config.force:
            run.start_over()
        part, counts = _part(config, inputs)
        source = stack.enter_context(
            closing(
                PoseSource(
                    [part], config.input_size, MPII16, augmentation_of(config), config.seed, _paste_over(config, inputs)
                )
            )
        )
        network = new_network(config, inputs.init)
        monitor = _monitor(config, inputs.dataset, network, stack)
        method = PoseMethod(network, loss_of(config, "smooth-l1"), config.lr)
        outcome = train(
            method, source, LoopSettings.from_config(config), run, resolve_device(config.device), monitor=monitor
        )
    counts |= {"samples": len(source), "no picture": source.without_picture}
    return pose_report(config, STAGE_3D, outcome, counts)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """The opened inputs; without labels ground truth is learned from."""

    dataset: Artifact
    labels: Artifact | None
    init: LoadedRun | None
    occluders: Occluders | None

    def digests(self) -> dict[str, str]:
        named = {
            "dataset": self.dataset.digest,
            "labels": None if self.labels is None else self.labels.digest,
            "init": None if self.init is None else self.init.digest,
            "occluders": None if self.occluders is None else self.occluders.digest,
        }
        return {role: digest for role, digest in named.items() if digest is not None}


def _open_inputs(config: TrainPoseResNet, stack: ExitStack) -> _Inputs:
    if config.init is not None and not config.transfer:
        raise ConfigError("weights of the 2D network are given but not taken over", accepted="--init or --no-transfer")
    dataset = stack.enter_context(Artifact(config.dataset, DATASET))
    labels = None
    if config.supervision != "full":
        path = config.labels or beside(config.dataset, "labels", LABELS_ENDING)
        labels = stack.enter_context(Artifact(path, VIEW_LABELS))
        require_same_source(labels, "dataset", dataset)
        _check_provenance(config, labels)
    elif config.labels is not None:
        raise ConfigError("full supervision learns from ground truth, not from labels", got=config.labels)
    return _Inputs(
        dataset,
        labels,
        load_run(config.init or _DEFAULT_INIT) if config.transfer else None,
        Occluders.read(config.occluders) if config.occlusion_p else None,
    )


def _check_provenance(config: TrainPoseResNet, labels: Artifact) -> None:
    """Labels must be those that the supervision names: that is what results are reported under."""
    known = labels.header.settings.get("cameras") == "known"
    true = labels.header.facts.get("keypoints_source") == "truth"
    made = "extrinsics-given" if known else "self-2dgt" if true else "self"
    if made != config.supervision:
        raise InputError(
            f"the labels in {labels.path} are of another kind than the supervision",
            got=f"{'known' if known else 'intrinsics'} cameras, {'true' if true else 'found'} key points: {made}",
            accepted=config.supervision,
            hint="Make them with `posekit triangulate --views pairs`, or give --supervision what they are",
        )


def _part(config: TrainPoseResNet, inputs: _Inputs) -> tuple[PosePart, dict[str, int]]:
    """What is learned from, and how many samples are left out, by reason."""
    dataset = inputs.dataset
    rows = rows_of_split(dataset, "train", config.stride)
    counts = {"no label": 0, "label not ok": 0, "at rest": 0}
    every = len(rows)
    if inputs.labels is not None:
        found = _label_rows(dataset, inputs.labels, rows)
        rows, found = rows[found >= 0], found[found >= 0]
        counts["no label"] = every - len(rows)
        joints = SpatialJoints.labelled(inputs.labels, found)
    else:
        joints = SpatialJoints.true(dataset, rows)
    labels = spatial_labels(dataset, rows, joints, MPII16, config.crop_margin, config.depth_units)
    counts["label not ok"] = len(rows) - len(labels)
    if config.min_motion:
        keep = _moving(config, dataset, labels.rows)
        counts["at rest"] = int((~keep).sum())
        labels = labels.select(keep)
    if not len(labels):
        raise DataError(f"no sample of {dataset.path} is left to learn from", got=counts)
    chosen = some_of(np.arange(len(labels)), config.max_samples, config.seed)
    labels = labels.select(chosen)
    return PosePart(StoredCrops.of(dataset, labels.rows), labels), counts


def _label_rows(dataset: Artifact, labels: Artifact, rows: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    keys = KeyedRows(pack_keys(*(labels.read("samples", name) for name in _KEY)))
    return keys.find(pack_keys(*(dataset.read("samples", name, rows) for name in _KEY)))


def _moving(config: TrainPoseResNet, dataset: Artifact, rows: Int[np.ndarray, " N"]) -> np.ndarray:
    sequence, person, camera, frame = (
        dataset.read("samples", name, rows) for name in ("sequence", "person", "camera", "frame")
    )
    track = pack_keys(sequence, np.zeros_like(frame), person, camera)
    points = dataset.read("samples", "keypoints2d", rows)[..., :2].astype(np.float64)
    return moving(points, track, frame, config.min_motion)


def _paste_over(config: TrainPoseResNet, inputs: _Inputs) -> PasteOver | None:
    if inputs.occluders is None:
        return None
    occlusion = Occlusion(
        p=config.occlusion_p,
        mode=config.occlusion_mode,
        max_degree=config.occlusion_degree,
        most=config.occlusion_objects,
    )
    return PasteOver(occlusion, inputs.occluders)


def _monitor(config: TrainPoseResNet, dataset: Artifact, network: PoseResNet, stack: ExitStack) -> PoseMonitor | None:
    """What measures images of test subjects; None without them, without ground truth or where nothing is asked for."""
    split = set(dataset.read("sequences", "split"))
    if not config.monitor_samples or "test" not in split or not dataset.has("samples", "joints3d"):
        return None
    rows = evenly(rows_of_split(dataset, "test"), config.monitor_samples)
    true = SpatialJoints.true(dataset, rows)
    labels = spatial_labels(dataset, rows, true, MPII16, config.crop_margin, config.depth_units)
    pictures = StoredCrops.of(dataset, labels.rows)
    source = stack.enter_context(
        closing(PoseSource([PosePart(pictures, labels)], config.input_size, MPII16, None, config.seed))
    )
    kept = source.labels
    depth = dataset.read("samples", "joints3d", kept.rows)[:, dataset.skeleton.index(ROOT), 2].astype(np.float64)
    unit = depth_unit(kept.crops, focal_lengths(dataset, kept.rows), depth, config.depth_units)
    errors = spatial_errors(MPII16.index(ROOT), unit)
    return PoseMonitor(network, source, errors, config.precision, config.monitor_every)
