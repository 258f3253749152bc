"""What is evaluated, seen from the samples of a data set: labels and fits, in the frame of each sample's camera."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.segment_scaled import RestPoints, SegmentScaledBody
from posekit.camera_stack import stack_cameras
from posekit.errors import InputError
from posekit.evaluation.keys import ALL_VIEWS, Keys, RowIndex
from posekit.geometry.rotations import matrix_from_9d, matrix_from_axis_angle
from posekit.records import Camera, cameras_from_columns
from posekit.registration.landmarks import landmark_blends
from posekit.registration.posing import crop_pixels
from posekit.skeleton.skeleton import Skeleton

_BODIES_AT_ONCE = 2048

NO_PREDICTION = "no prediction"
NOT_TRUSTED = "prediction marked as not usable"
NO_POSE = "pose of the camera unknown"


@dataclass(frozen=True)
class Predicted:
    """Predictions for some samples.

    `points` are metres in axes parallel to the sample's camera; their origin is the camera's only where `pixels` come from
    it. `pixels` are where the points fall in the original image. `reason` says why there is none, or is empty.
    """

    points: Float[np.ndarray, "N J 3"]
    pixels: Float[np.ndarray, "N J 2"]
    reason: Sequence[str]


class Source(ABC):
    """Something that predicts joints for the samples of a data set."""

    name: str
    skeleton: Skeleton

    @abstractmethod
    def predict(self, keys: Keys) -> Predicted:
        """Joints of these samples."""


class Optics:
    """Intrinsics and lenses of a data set's cameras."""

    def __init__(self, cameras: Sequence[Camera]) -> None:
        self._cameras = [stack_cameras([camera])[0] for camera in cameras]

    def pixels(self, points: Float[np.ndarray, "N J 3"], camera: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N J 2"]:
        """Pixels of points given in the frames of cameras, one camera for each row."""
        result = np.full((*points.shape[:2], 2), np.nan)
        for index in np.unique(camera):
            rows = camera == index
            seen = torch.from_numpy(np.asarray(points[rows], dtype=np.float64))
            result[rows] = self._cameras[int(index)].project_camera(seen).numpy()
        return result


class Poses:
    """The poses that an artifact gives to the cameras of a data set; a camera is known by its session and name."""

    def __init__(self, dataset_cameras: Sequence[Camera], posed_cameras: Sequence[Camera]) -> None:
        given = {(camera.session, camera.name): camera for camera in posed_cameras if camera.posed}
        poses = [given.get((camera.session, camera.name)) for camera in dataset_cameras]
        self.known = np.array([pose is not None for pose in poses], dtype=bool)
        self._rotation = np.array([np.eye(3) if pose is None else pose.rotation for pose in poses])
        self._translation = np.array([np.zeros(3) if pose is None else pose.translation for pose in poses])

    def camera_from_world(
        self, points: Float[np.ndarray, "N J 3"], camera: Int[np.ndarray, "N"]
    ) -> Float[np.ndarray, "N J 3"]:
        """World points in the frames of cameras, one for each row."""
        return points @ self._rotation[camera].transpose(0, 2, 1) + self._translation[camera][:, None]


class LabelSource(Source):
    """The joints of a joints3d artifact."""

    name = "joints3d"

    def __init__(self, artifact: Artifact, dataset_cameras: Sequence[Camera]) -> None:
        self.skeleton = artifact.skeleton
        self._artifact = artifact
        self._index = RowIndex(Keys.read(artifact, "poses"))
        self._usable = artifact.read("poses", "ok")
        self._poses = Poses(dataset_cameras, cameras_from_columns(artifact.table("cameras")))
        self._optics = Optics(dataset_cameras)

    def predict(self, keys: Keys) -> Predicted:
        """Labels in the cameras' frames; joints that triangulation dropped are NaN."""
        rows = self._index.find(keys.seen_by(ALL_VIEWS))
        reason = np.where(rows < 0, NO_PREDICTION, "").astype(object)
        reason[(rows >= 0) & ~self._usable[np.maximum(rows, 0)]] = NOT_TRUSTED
        reason[(reason == "") & ~self._poses.known[keys.camera]] = NO_POSE
        good = np.flatnonzero(reason == "")
        points = np.full((len(keys), len(self.skeleton), 3), np.nan)
        world = self._artifact.read("poses", "joints3d", rows[good]).astype(np.float64)
        world[self._artifact.read("poses", "confidence", rows[good]) <= 0] = np.nan
        points[good] = self._poses.camera_from_world(world, keys.camera[good])
        return Predicted(points, self._optics.pixels(points, keys.camera), reason.tolist())


@dataclass(frozen=True)
class FoundFits:
    """For each sample the row of its fit (-1: none), why there is none to use (or empty), and whether it is weak perspective."""

    rows: Int[np.ndarray, "N"]
    reason: np.ndarray
    weak: Bool[np.ndarray, "N"]


class FitViews:
    """Fits as the samples of a data set see them."""

    def __init__(self, artifact: Artifact, dataset_cameras: Sequence[Camera]) -> None:
        self._index = RowIndex(Keys.read(artifact, "fits"))
        self._usable, self._why = artifact.read("fits", "ok"), artifact.read("fits", "reason")
        self._has_crops = artifact.has("fits", "crop_from_image")
        self._poses = Poses(dataset_cameras, cameras_from_columns(artifact.table("cameras")))
        self._optics = Optics(dataset_cameras)

    def find(self, keys: Keys) -> FoundFits:
        """The fit of this very view where there is one, else the fit that joins all views."""
        own = self._index.find(keys)
        rows = np.where(own >= 0, own, self._index.find(keys.seen_by(ALL_VIEWS)))
        reason = np.where(rows < 0, NO_PREDICTION, "").astype(object)
        refused = (rows >= 0) & ~self._usable[np.maximum(rows, 0)]
        reason[refused] = [f"{NOT_TRUSTED}: {why}" if why else NOT_TRUSTED for why in self._why[rows[refused]]]
        weak = self._has_crops & (own >= 0)
        reason[(reason == "") & ~weak & ~self._poses.known[keys.camera]] = NO_POSE
        return FoundFits(rows, reason, weak)

    def seen(
        self,
        points: Float[np.ndarray, "N P 3"],
        fits: Mapping[str, np.ndarray],
        weak: Bool[np.ndarray, "N"],
        camera: Int[np.ndarray, "N"],
    ) -> tuple[Float[np.ndarray, "N P 3"], Float[np.ndarray, "N P 2"]]:
        """Points of posed fits in metres in the axes of their cameras, and in pixels of the original image."""
        metric, pixels = np.empty(points.shape), np.empty((*points.shape[:2], 2))
        deep = ~weak
        metric[deep] = self._poses.camera_from_world(points[deep], camera[deep])
        pixels[deep] = self._optics.pixels(metric[deep], camera[deep])
        if weak.any():
            # Crop units lead to metres by the fit's own scale; the origin then is that of the crop, not of the camera.
            metric[weak] = points[weak] / fits["scale"][weak][:, None, None]
            pixels[weak] = crop_pixels(torch.from_numpy(points[weak]), fits["crop_from_image"][weak]).numpy()
        return metric, pixels


class FitSource(Source):
    """The joints of fitted or predicted bodies, as points of the body's surface and rig under the names of a skeleton."""

    def __init__(
        self,
        artifact: Artifact,
        dataset_cameras: Sequence[Camera],
        body: SegmentScaledBody,
        skeleton: Skeleton,
        name: str = "fits",
        regressor_file: Path | None = None,
    ) -> None:
        check_same_body(artifact, body)
        self.name, self.skeleton = name, skeleton
        self._artifact = artifact
        self._joints = FitJoints(body, skeleton, regressor_file)
        self._views = FitViews(artifact, dataset_cameras)

    def predict(self, keys: Keys) -> Predicted:
        """Joints of the fit of this very view where there is one, else of the fit that joins all views."""
        found = self._views.find(keys)
        good = np.flatnonzero(found.reason == "")
        points = np.full((len(keys), len(self.skeleton), 3), np.nan)
        pixels = np.full((len(keys), len(self.skeleton), 2), np.nan)
        used, which = np.unique(found.rows[good], return_inverse=True)
        fits = self._artifact.table("fits", used)
        repeated = {name: values[which] for name, values in fits.items() if name in ("scale", "crop_from_image")}
        joints = self._joints.of(fits)[which]
        points[good], pixels[good] = self._views.seen(joints, repeated, found.weak[good], keys.camera[good])
        return Predicted(points, pixels, found.reason.tolist())


class FitJoints:
    """Joints of fitted bodies under the names of a skeleton; NaN for joints that the body cannot give.

    They are the very points that registration fits to labels of that skeleton, posed without the rest of the mesh.
    """

    def __init__(self, body: SegmentScaledBody, skeleton: Skeleton, regressor_file: Path | None = None) -> None:
        self._body, self._skeleton = body, skeleton
        self._blends = landmark_blends(body, skeleton, regressor_file=regressor_file)
        self._columns = [skeleton.index(name) for name in self._blends.names]

    def of(self, fits: Mapping[str, np.ndarray]) -> Float[np.ndarray, "N J 3"]:
        """The joints of rows of the table `fits`, in the frame and unit that `posed_bodies` gives."""
        joints = np.full((len(fits["pose"]), len(self._skeleton), 3), np.nan)
        for begin in range(0, len(joints), _BODIES_AT_ONCE):
            part = slice(begin, begin + _BODIES_AT_ONCE)
            block = {name: values[part] for name, values in fits.items()}
            joints[part, self._columns] = self._posed(block).double().cpu().numpy()
        return joints

    @torch.no_grad()
    def _posed(self, fits: Mapping[str, np.ndarray]) -> Float[Tensor, "N L 3"]:
        pose, scales, betas, orientation, translation, scale = (
            torch.as_tensor(np.asarray(fits[name])).to(self._body.template)
            for name in ("pose", "segment_scales", "betas", "orientation", "translation", "scale")
        )
        blend = self._blends.shaped(betas)
        # Blends stand in for skinned vertices; their own positions are never asked for.
        rest = RestPoints(blend.new_zeros((*blend.shape[:2], 3)), blend)
        local = self._body(matrix_from_axis_angle(pose), scales, rest, self._body.rest_joints(betas)).points
        turn = scale[:, None, None] * matrix_from_9d(orientation).transpose(1, 2)
        return local @ turn + translation[:, None]


def check_same_body(fits: Artifact, body: SegmentScaledBody) -> None:
    """Raises InputError when fits were made with another body than the one at hand."""
    recorded = fits.header.facts.get("body")
    if recorded is not None and recorded != body.body.digest:
        raise InputError(
            f"{fits.path} was made with another body model",
            got=f"{body.body.source} (digest {body.body.digest[:12]})",
            accepted=f"the body of digest {str(recorded)[:12]}",
            hint="Give the same body file with --body",
        )
