"""What `posekit predict` does with a Pose ResNet: joints of the people in images."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import POSES
from posekit.artifacts.shards import ShardedArtifact
from posekit.config.prediction import Predict
from posekit.errors import ConfigError, InputError
from posekit.evaluation.bone_lengths import BoneLength, average_bone_length
from posekit.evaluation.protocols import H36M_BONE_LENGTH
from posekit.labeling.anthropometry import CANONICAL_STATURE
from posekit.records import camera_columns, cameras_from_columns
from posekit.registration.bodies import BodyRows
from posekit.skeleton.mapping import JointMap, joint_map
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.device import resolve_device
from posekit.stages.pose_metres import by_bone_length, by_root_depth
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.report import StageReport, input_digests
from posekit.training.occlusion import Occluders, Occlusion
from posekit.training.pose_labels import ROOT, depth_unit, focal_lengths
from posekit.training.pose_resnet import STAGE_2D, STAGE_3D
from posekit.training.pose_samples import PasteOver

POSE_STAGES = (STAGE_2D, STAGE_3D)

OF_POSES = ("root_depth", "perspective", "canonical", "stature", "occlude")
"""Settings that mean something for a Pose ResNet alone."""

OF_BODIES = (
    "refine",
    "dense",
    "lifter",
    "refine_iters",
    "refine_lr",
    "min_score",
    "max_points",
    "w_dense",
    "w_keypoints",
    "w_depth",
    "w_scale",
    "w_pose",
    "robust_px",
)
"""Settings that mean something for bodies alone."""

NO_PICTURE = "no picture that the network can read"
NO_DEPTH = "true depth of the root not known"
NO_METRES = "joints without extent, or behind the camera"


def check_pose_settings(config: Predict, stage: str) -> None:
    """Raises ConfigError for settings that mean nothing for the kind of the model, and for a network of the 2D branch."""
    poses = stage in POSE_STAGES
    fields = Predict.model_fields
    meaningless = [
        f"--{name.replace('_', '-')}"
        for name in (OF_BODIES if poses else OF_POSES)
        if getattr(config, name) != fields[name].default
    ]
    if meaningless:
        raise ConfigError(
            f"these settings mean nothing for the model in {config.model}",
            got=meaningless,
            accepted=[f"--{name.replace('_', '-')}" for name in (OF_POSES if poses else OF_BODIES)],
            hint=f"It is of `posekit {stage}`, which finds {'joints, not bodies' if poses else 'bodies'}",
        )
    if stage == STAGE_2D:
        raise ConfigError(
            f"the network in {config.model} knows no depth",
            got=f"a run of {stage}",
            accepted=STAGE_3D,
            hint="Train the 3D branch; `posekit pseudo-label keypoints` gives the 2D key points of this one",
        )
    chosen = [name for name in ("perspective", "canonical", "stature") if getattr(config, name) != fields[name].default]
    if config.root_depth == "gt" and chosen:
        raise ConfigError(
            "the true depth of the root leaves no size or perspective to be chosen",
            got=[f"--{name}" for name in chosen],
            accepted="--root-depth none",
        )
    if config.stature is not None and config.canonical != "constant":
        raise ConfigError("two sizes of people at once", got="--stature, --canonical", accepted="one of them")


class PoseWork:
    """Everything that predicts the joints of one data set, `shard_rows` of the `bodies` at a time."""

    def __init__(self, config: Predict, dataset: Artifact, bodies: BodyRows, shard_rows: int) -> None:
        self.bodies = bodies
        self._config, self._dataset, self._shard_rows = config, dataset, shard_rows
        paste_over = _paste_over(config)
        self._network = PoseNetwork.open(
            config.model, resolve_device(config.device), config.precision, paste_over, config.seed
        )
        self._skeleton = self._network.skeleton
        self._root = self._skeleton.index(ROOT)
        self._cameras = cameras_from_columns(dataset.table("cameras"))
        self._true_root = _root_joint(dataset) if config.root_depth == "gt" else None
        length = bone_length(config, dataset, self._skeleton)
        self._length = length.metres
        self._seconds, self._done = 0.0, 0
        self.header = Header(
            POSES.name,
            "predict",
            settings={name: config.settings()[name] for name in (*OF_POSES, "split", "precision")},
            inputs=input_digests(dataset=dataset)
            | {"model": self._network.digest}
            | ({} if paste_over is None else {"occluders": paste_over.occluders.digest}),
            skeleton=self._skeleton,
            seed=None if paste_over is None else config.seed,
            facts=_facts(config, self._network, length),
        )

    def write(self, shards: ShardedArtifact, index: int) -> None:
        """Predicts the joints of one shard."""
        begin = index * self._shard_rows
        bodies = self.bodies.select(np.arange(begin, min(begin + self._shard_rows, len(self.bodies))))
        rows = bodies.samples[:, 0]
        began = time.monotonic()
        coordinates, confidence, seen = self._network.coordinates(self._dataset, rows, self._config.batch)
        self._seconds += time.monotonic() - began
        self._done += len(rows)
        crops = self._network.crops(self._dataset, rows)
        pixels = self._network.pixels(crops, coordinates)
        joints, known = self._metres(rows, bodies.camera, crops, coordinates, pixels)
        reason = _reasons(seen, known, np.isfinite(joints).all(axis=(1, 2)))
        good = reason == ""
        columns: dict[str, Any] = {
            "sequence": bodies.sequence,
            "frame": bodies.frame,
            "person": bodies.person,
            "camera": bodies.camera,
            "joints3d": np.where(good[:, None, None], joints, np.nan),
            "keypoints2d": np.concatenate([pixels, confidence[..., None]], axis=2),
            "ok": good,
            "reason": reason,
        }
        with shards.writer(index) as writer:
            writer.append("samples", columns)

    def join(self, shards: ShardedArtifact) -> None:
        """Makes the shards one file."""
        shards.join({"cameras": camera_columns(self._cameras)})

    def milliseconds(self) -> dict[str, float]:
        """Time for each image, of what this process did."""
        return {"network_ms_per_image": 1000.0 * self._seconds / self._done} if self._done else {}

    def _metres(
        self,
        rows: Int[np.ndarray, " N"],
        camera: Int[np.ndarray, " N"],
        crops: Float[np.ndarray, "N 2 3"],
        coordinates: Float[np.ndarray, "N J 3"],
        pixels: Float[np.ndarray, "N J 2"],
    ) -> tuple[Float[np.ndarray, "N J 3"], Bool[np.ndarray, " N"]]:
        """Joints in metres, and of which samples all is known that this takes."""
        if self._true_root is None:
            if self._config.perspective == "camera":
                coordinates = self._along_rays(rows, camera, crops, coordinates, pixels)
            joints = by_bone_length(coordinates, self._skeleton, self._root, self._length)
            return joints, np.ones(len(rows), dtype=bool)
        true = self._dataset.read("samples", "joints3d", rows).astype(np.float64)
        depth = self._true_root.points(true)[:, 0, 2]
        unit = depth_unit(crops, focal_lengths(self._dataset, rows), depth, self._network.facts.depth_units)
        return by_root_depth(coordinates, pixels, unit, depth, self._cameras, camera), np.isfinite(depth)

    def _along_rays(
        self,
        rows: Int[np.ndarray, " N"],
        camera: Int[np.ndarray, " N"],
        crops: Float[np.ndarray, "N 2 3"],
        coordinates: Float[np.ndarray, "N J 3"],
        pixels: Float[np.ndarray, "N J 2"],
    ) -> Float[np.ndarray, "N J 3"]:
        """Joints in the frame of the camera, in units of the root's depth.

        The crop's width at the root is the unit of depth for both kinds of crops, so that no more than the focal length is
        needed.
        """
        one = np.ones(len(rows))
        unit = depth_unit(crops, focal_lengths(self._dataset, rows), one, "crop")
        return by_root_depth(coordinates, pixels, unit, one, self._cameras, camera)


def _paste_over(config: Predict) -> PasteOver | None:
    if not config.occlude:
        return None
    return PasteOver(Occlusion(p=1.0, max_degree=config.occlude), Occluders.read(config.occluders))


def bone_length(config: Predict, dataset: Artifact, skeleton: Skeleton) -> BoneLength:
    """How long all bones together are; InputError for the average of training subjects that are not there."""
    if config.stature is not None:
        # The same limbs as `posekit triangulate --stature` compares decide how much larger somebody is.
        metres = H36M_BONE_LENGTH * config.stature / CANONICAL_STATURE
        return BoneLength(metres, f"a stature of {config.stature:g} m")
    if config.canonical == "constant":
        return BoneLength(H36M_BONE_LENGTH, "the skeleton of Human3.6M's exponential-map recordings")
    average = average_bone_length(dataset, skeleton)
    if average is None:
        raise InputError(
            "no average bone length: the data set has no training samples with ground truth",
            got=dataset.path,
            accepted="--canonical constant, or --stature",
        )
    return average


def pose_report(
    poses: Artifact, notes: Sequence[str], *, skipped: bool, milliseconds: Mapping[str, float] | None
) -> StageReport:
    """What an artifact of predicted joints says of itself."""
    reason = poses.read("samples", "reason")
    counts = {"people": len(reason), "ok": int((reason == "").sum())}
    counts |= {f"not ok: {why}": count for why, count in sorted(Counter(reason[reason != ""].tolist()).items())}
    facts = poses.header.facts
    said = [*notes, f"joints are {facts['frame']}; {facts['scale']}."]
    if counts["ok"] < counts["people"]:
        left_out = counts["people"] - counts["ok"]
        said.append(f"{left_out} of {len(reason)} people are not to be used; the column `reason` says why")
    return StageReport(
        "predict", [Path(poses.path)], skipped=skipped, metrics=dict(milliseconds or {}), counts=counts, notes=said
    )


def _facts(config: Predict, network: PoseNetwork, length: BoneLength) -> dict[str, Any]:
    """What one must know to judge the metres: where they are from, and what of the truth was seen."""
    true_depth, true_crops = config.root_depth == "gt", network.facts.depth_units == "box2000"
    facts = {
        "root_depth": config.root_depth,
        "occluded_up_to": config.occlude,
        "perspective": "camera" if true_depth else config.perspective,
        "depth_units": network.facts.depth_units,
        "frame": "in the frame of the camera" if true_depth else "about the root",
        "crops": "2 m about the true pelvis" if true_crops else "the people's boxes",
        "scale": "the true depth of the root and the camera tell size and perspective, which leaks metric scale"
        if true_depth
        else f"all bones of everybody are together {length.metres:.3f} m long ({length.source})",
        "seen_of_truth": [
            *(["depth of the root"] if true_depth else []),
            *(["place and depth of the root, for the crops"] if true_crops else []),
        ],
    }
    return facts if true_depth else facts | {"bone_length_m": length.metres, "bone_length_from": length.source}


def _root_joint(dataset: Artifact) -> JointMap:
    if not dataset.has("samples", "joints3d"):
        raise InputError(
            "the true depth of the root is not known",
            got=f"{dataset.path} without ground truth",
            accepted="--root-depth none",
        )
    return joint_map(dataset.skeleton, Skeleton("root", (ROOT,), (-1,)), require_all=True)


def _reasons(seen: Bool[np.ndarray, " N"], known: Bool[np.ndarray, " N"], finite: Bool[np.ndarray, " N"]) -> np.ndarray:
    reason = np.full(len(seen), "", dtype=object)
    reason[~finite], reason[~known], reason[~seen] = NO_METRES, NO_DEPTH, NO_PICTURE
    return reason
