"""The rows of 3DPW's sequences: what `posekit preprocess 3dpw` stores of each person in each picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from posekit.body.landmarks import regressor
from posekit.body.model import BodyModel
from posekit.body.smpl_file import BodyData
from posekit.config.threedpw import Preprocess3DPW
from posekit.datasets.crops import crop_image, encode_image, square_crop
from posekit.datasets.stills import read_still
from posekit.datasets.threedpw import Release, Sequence3DPW, Track, detected_box
from posekit.errors import FormatError, MissingFileError
from posekit.skeleton.catalog import H36M17

FRAMES_AT_ONCE = 32

_NEAR = 0.01
"""Points no farther than this in front of the camera (m) have no place in the picture."""
_SIZE_TOLERANCE = 0.02
"""The principal point is the middle of the pictures only roughly."""

Columns = dict[str, Any]


class ReleaseBodies:
    """The bodies of the genders, with the regressor of Human3.6M's joints."""

    def __init__(self, bodies: Mapping[str, BodyData], regressor_file: Path | None, device: torch.device) -> None:
        self._models = {gender: BodyModel(body).to(device) for gender, body in bodies.items()}
        self._regressors = {gender: regressor(body, H36M17, regressor_file) for gender, body in bodies.items()}
        self._device = device

    def betas(self, track: Track) -> Float[np.ndarray, " S"]:
        """The shape of a track in as many numbers as the body has."""
        count = self._models[track.gender].shape_count
        return np.pad(track.betas, (0, max(0, count - len(track.betas))))[:count]

    def in_camera(
        self, sequence: Sequence3DPW, track: Track
    ) -> tuple[Float[np.ndarray, "N 24 3"], Float[np.ndarray, "N 3"]]:
        """Pose and translation of a track in the frame of the camera at each instant."""
        betas = torch.from_numpy(self.betas(track))[None].to(self._device)
        pelvis = self._models[track.gender].rest_joints(betas.float())[0, 0]
        return sequence.in_camera(track, pelvis.double().cpu().numpy())

    @torch.no_grad()
    def posed(
        self, track: Track, pose: Float[np.ndarray, "T 24 3"], translation: Float[np.ndarray, "T 3"]
    ) -> tuple[Float[np.ndarray, "T V 3"], Float[np.ndarray, "T 17 3"], Float[np.ndarray, "T 24 3"]]:
        """Vertices, Human3.6M's 17 joints and the rig's joints."""
        model = self._models[track.gender]
        betas = torch.from_numpy(self.betas(track))[None].expand(len(pose), -1)
        arrays = (
            torch.as_tensor(values, dtype=torch.float32, device=self._device) for values in (betas, pose, translation)
        )
        body = model(*arrays)
        vertices = body.vertices.double().cpu().numpy()
        return vertices, self._regressors[track.gender] @ vertices, body.joints.double().cpu().numpy()


@dataclass
class Outcome:
    """What became of a sequence's people; kept in the file, so that later runs can report the same.

    `joint_mm` is how far the rig's joints of the bodies lie from those that the release states, on average.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    joint_mm: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"counts": dict(self.counts), "failures": self.failures, "joint_mm": self.joint_mm}

    def add(self, other: Mapping[str, Any]) -> None:
        """Takes in another outcome's plain values."""
        self.counts.update(other["counts"])
        self.failures += other["failures"]
        self.joint_mm += other["joint_mm"]


def chosen_frames(track: Track, stride: int) -> Int[np.ndarray, " T"]:
    """The pictures that a person is taken of: those whose camera is trusted, every `stride`-th of the sequence."""
    valid = track.valid.copy()
    valid[np.arange(len(valid)) % stride > 0] = False
    return np.flatnonzero(valid)


@dataclass
class SequenceRows:
    """Makes the rows of one sequence, a few dozen at a time. `index` is its row of `sequences` and of `cameras`."""

    config: Preprocess3DPW
    release: Release
    bodies: ReleaseBodies
    sequence: Sequence3DPW
    index: int
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures."""
        return self.sequence.size()

    def blocks(self, pool: ThreadPoolExecutor) -> Iterator[Columns]:
        """Rows of the table `samples`, person by person; what cannot be read is noted in `outcome`."""
        for person, track in enumerate(self.sequence.tracks):
            frames = chosen_frames(track, self.config.stride)
            considered = len(range(0, len(self.sequence), self.config.stride))
            self.outcome.counts["left_out_camera_not_trusted"] += considered - len(frames)
            pose, translation = self.bodies.in_camera(self.sequence, track)
            for begin in range(0, len(frames), FRAMES_AT_ONCE):
                part = frames[begin : begin + FRAMES_AT_ONCE]
                rows = self._rows(person, track, part, (pose[part], translation[part]))
                kept = self._with_pictures(rows, pool)
                if len(kept["frame"]):
                    yield kept

    def _rows(
        self, person: int, track: Track, frames: Int[np.ndarray, " T"], placed: tuple[np.ndarray, np.ndarray]
    ) -> Columns:
        vertices, joints, rig = self.bodies.posed(track, *placed)
        self._compare(track, frames, rig)
        pixels, in_front = self._pixels(joints)
        seen, seen_ok = self._pixels(vertices)
        boxes = [
            self._box(track.detections[frame], seen[row][seen_ok[row]]) for row, frame in enumerate(frames.tolist())
        ]
        count = len(frames)
        return {
            "sequence": np.full(count, self.index),
            "frame": frames,
            "person": np.full(count, person),
            "camera": np.full(count, self.index),
            "bbox": np.reshape(boxes, (-1, 4)),
            "keypoints2d": np.concatenate(
                [np.where(in_front[..., None], pixels, np.nan), in_front[..., None].astype(float)], axis=-1
            ),
            "joints3d": joints,
            "detections": track.detected()[frames],
        }

    def _compare(self, track: Track, frames: np.ndarray, rig: np.ndarray) -> None:
        if track.joints is None or track.joints.shape[1] != rig.shape[1]:
            return
        pose = self.sequence.camera_from_world[frames]
        stated = np.einsum("nij,nkj->nki", pose[:, :3, :3], track.joints[frames]) + pose[:, None, :3, 3]
        self.outcome.joint_mm.append(float(1000.0 * np.linalg.norm(stated - rig, axis=-1).mean()))

    def _pixels(self, points: Float[np.ndarray, "T P 3"]) -> tuple[Float[np.ndarray, "T P 2"], Bool[np.ndarray, "T P"]]:
        ahead = points[..., 2] > _NEAR
        homogeneous = points @ self.sequence.intrinsics.T
        return homogeneous[..., :2] / np.where(ahead, points[..., 2], 1.0)[..., None], ahead

    def _box(self, detections: np.ndarray, pixels: Float[np.ndarray, "P 2"]) -> np.ndarray:
        found = detected_box(detections, self.size) if self.config.boxes == "detections" else None
        if found is not None:
            return found
        if self.config.boxes == "detections":
            self.outcome.counts["boxes_of_bodies"] += 1
        if not len(pixels):
            return np.full(4, np.nan)
        edge = np.array(self.size) - 0.5
        # The part of a person that the picture cuts off makes no box larger.
        inside = pixels.clip(-0.5, edge)
        return np.concatenate([inside.min(axis=0), inside.max(axis=0)])

    def _with_pictures(self, rows: Columns, pool: ThreadPoolExecutor) -> Columns:
        there = np.isfinite(rows["bbox"]).all(axis=1) & ((rows["bbox"][:, 2:] - rows["bbox"][:, :2]).max(axis=1) > 0)
        self.outcome.counts["left_out_not_in_view"] += int((~there).sum())
        rows = {name: values[there] for name, values in rows.items()}
        if not self.config.crops:
            self.outcome.counts["samples"] += len(rows["frame"])
            return rows
        made = list(pool.map(partial(self._crop, rows), range(len(rows["frame"]))))
        good = np.array([not isinstance(crop, str) for crop in made], dtype=bool)
        self.outcome.failures += [crop for crop in made if isinstance(crop, str)]
        self.outcome.counts["pictures_broken"] += int((~good).sum())
        self.outcome.counts["samples"] += int(good.sum())
        kept = {name: values[good] for name, values in rows.items()}
        crops = [crop for crop in made if not isinstance(crop, str)]
        kept["image"] = [image for image, _ in crops]
        kept["crop_from_image"] = np.reshape([crop_from_image for _, crop_from_image in crops], (-1, 2, 3))
        return kept

    def _crop(self, rows: Columns, row: int) -> tuple[np.ndarray, np.ndarray] | str:
        """The encoded crop of a row and its map, or why there is none."""
        path = self.release.image(self.sequence.name, int(rows["frame"][row]))
        try:
            image = read_still(path)
        except (FormatError, MissingFileError) as error:
            return f"broken: {error}"
        if np.abs(np.array([image.shape[1], image.shape[0]]) / self.size - 1.0).max() > _SIZE_TOLERANCE:
            return f"broken: {path} is {image.shape[1]}x{image.shape[0]}, the camera sees {self.size[0]}x{self.size[1]}"
        crop_from_image = square_crop(rows["bbox"][row], self.config.crop_size, self.config.crop_margin)
        crop = crop_image(image, crop_from_image, self.config.crop_size)
        return encode_image(crop, "jpeg", self.config.jpeg_quality), crop_from_image
