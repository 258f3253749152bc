"""The raw layout of 3DPW: pictures, and sequence files as Python 2 wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from posekit.body.smpl_file import BodyData
from posekit.datasets.crops import encode_image
from posekit.datasets.threedpw import SPLIT_FOLDERS
from posekit.skeleton.catalog import COCO17, COCO18
from posekit.skeleton.mapping import joint_map
from posekit.synthetic.bodies import posed
from posekit.synthetic.handheld import Film
from posekit.synthetic.python2_pickle import python2_pickle
from posekit.synthetic.seeding import stream
from posekit.synthetic.snapshot import Snapshot

LONG_BETAS = 300
"""About half of the release's tracks store so many shape coefficients, all but ten of them zero."""

_ABSURD = 4.2e8


@dataclass(frozen=True)
class Faults:
    """What is not perfect in the release: shares of frames, and noise of the detections in px."""

    invalid: float
    undetected: float
    noise_px: float


@dataclass(frozen=True)
class FilmedSequence:
    """A film with the part of the release that it belongs to, and its number there."""

    film: Film
    part: str
    number: int

    def image(self, frame: int) -> str:
        """The file of a picture, below the raw folder."""
        return f"imageFiles/{self.film.name}/image_{frame:05d}.jpg"

    @property
    def file(self) -> str:
        """The sequence file, below the raw folder."""
        return f"sequenceFiles/{SPLIT_FOLDERS[self.part][0]}/{self.film.name}.pkl"


def write_image(folder: Path, sequence: FilmedSequence, frame: int, snapshot: Snapshot, quality: int) -> None:
    """One picture."""
    path = folder / sequence.image(frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_image(snapshot.image, "jpeg", quality).tobytes())


def write_sequence(
    folder: Path,
    body: BodyData,
    sequence: FilmedSequence,
    keypoints: Float[np.ndarray, "P N 17 3"],
    faults: Faults,
    seed: int,
) -> None:
    """The sequence file. `keypoints` are COCO's joints as the pictures show them (0: none, 1: hidden, 2: seen)."""
    path = folder / sequence.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2_pickle(_content(body, sequence, keypoints, faults, seed)))


def _content(
    body: BodyData, sequence: FilmedSequence, keypoints: np.ndarray, faults: Faults, seed: int
) -> dict[str, Any]:
    film = sequence.film
    rng = stream(seed, "3dpw", film.name)
    valid = _valid(len(film.takes), len(film.cameras), faults.invalid, rng)
    clothed = body.v_template.astype(np.float64) * 1.01
    tracks = [_track(body, film, person) for person in range(len(film.takes))]
    long_first = sequence.number % 2
    return {
        "sequence": film.name,
        "genders": ["mf"[(person + sequence.number) % 2] for person in range(len(tracks))],
        "betas": [
            np.pad(take.betas, (0, (LONG_BETAS if (person + long_first) % 2 else 10) - len(take.betas)))
            for person, take in enumerate(film.takes)
        ],
        "poses": [pose[::2] for pose, _, _ in tracks],
        "trans": [place[::2] for _, place, _ in tracks],
        "poses_60Hz": [pose for pose, _, _ in tracks],
        "trans_60Hz": [place for _, place, _ in tracks],
        "jointPositions": [joints for _, _, joints in tracks],
        "betas_clothed": [take.betas[:10] for take in film.takes],
        "v_template_clothed": [clothed for _ in tracks],
        "texture_maps": [np.full((4, 4, 3), 128, np.uint8) for _ in tracks],
        "poses2d": [_detections(keypoints[person], faults, rng) for person in range(len(tracks))],
        "campose_valid": [row.astype(np.int64) for row in valid],
        "cam_poses": _camera_poses(film, valid, rng),
        "cam_intrinsics": film.cameras[0].intrinsics,
        "img_frame_ids": 2 * np.arange(len(film.cameras)),
    }


def _track(body: BodyData, film: Film, person: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    take = film.takes[person]
    joints = posed(body, take, slice(0, None, 2)).joints
    return take.pose.reshape(len(take), -1), take.translation, joints.reshape(len(joints), -1)


def _valid(people: int, frames: int, share: float, rng: np.random.Generator) -> Bool[np.ndarray, "P N"]:
    """Whether the camera is trusted, for each person; the first frame always is."""
    valid = rng.uniform(size=(people, frames)) >= share
    valid[:, 0] = True
    return valid


def _camera_poses(film: Film, valid: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "N 4 4"]:
    """World to camera; wrong where it is trusted for nobody."""
    poses = np.tile(np.eye(4), (len(film.cameras), 1, 1))
    for frame, camera in enumerate(film.cameras):
        poses[frame, :3, :3], poses[frame, :3, 3] = camera.rotation, camera.translation
        if not valid[:, frame].any():
            poses[frame, :3, 3] += rng.normal(0.0, 1.0, 3)
    return poses


def _detections(keypoints: Float[np.ndarray, "N 17 3"], faults: Faults, rng: np.random.Generator) -> np.ndarray:
    """(N, 3, 18): x, y, confidence as OpenPose gives them; nothing at all in some frames, an absurd place in one."""
    labels = keypoints[..., 2]
    confidence = np.where(labels == 2, rng.uniform(0.6, 0.95, labels.shape), rng.uniform(0.1, 0.5, labels.shape))
    confidence[labels == 0] = 0.0
    places = keypoints[..., :2] + rng.normal(0.0, faults.noise_px, keypoints[..., :2].shape)
    to_openpose = joint_map(COCO17, COCO18, require_all=True)
    found = np.concatenate([to_openpose.points(places), to_openpose.confidences(confidence)[..., None]], axis=-1)
    found[found[..., 2] == 0] = 0.0
    found[rng.uniform(size=len(found)) < faults.undetected] = 0.0
    seen = np.argwhere(found[..., 2] > 0)
    if len(seen):
        frame, joint = seen[int(rng.integers(len(seen)))]
        found[frame, joint] = [_ABSURD, -_ABSURD, 0.05]
    return np.ascontiguousarray(found.transpose(0, 2, 1))
