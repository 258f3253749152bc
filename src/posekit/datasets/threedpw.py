"""3DPW: the sequence files, which are pickles of Python 2, and the folders of pictures.

The pickles go through `posekit.body.unpickling`, so none of them can run code. Poses are in a world frame and the camera
moves, so bodies are handed out in the frame of the camera at their instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from posekit.body.unpickling import ChumpyArray, load_pickle
from posekit.errors import FormatError, MissingFileError
from posekit.records import Camera
from posekit.skeleton.catalog import COCO18, SMPL24

Gender = Literal["male", "female", "neutral"]

SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
"""Part of the release -> its folder in sequenceFiles; some converters call the validation folder `val`."""

FPS = 30.0
SHAPE_NUMBERS = 10
"""Shape coefficients that are used: where a track stores 300, the others are zero."""

DETECTED = 0.3
"""Confidence above which a 2D key point counts as detected (Kocabas et al. 2020)."""

_IMAGES, _SEQUENCES = "imageFiles", "sequenceFiles"
_GENDERS: dict[str, Gender] = {"m": "male", "f": "female", "n": "neutral"}
_BEYOND = 2.0
"""Detections farther outside than this many times the picture are absurd numbers of the release, not places."""


@dataclass(frozen=True)
class SequenceFile:
    """One sequence of the release: its name, the part it belongs to, and its pickle."""

    name: str
    part: str
    path: Path

    @property
    def split(self) -> str:
        """What data sets call the part: train, test, or empty for validation."""
        return self.part if self.part in ("train", "test") else ""


@dataclass(frozen=True)
class Release:
    """The sequence files that are there, and what is missing."""

    raw: Path
    files: tuple[SequenceFile, ...]
    problems: tuple[str, ...]

    def image(self, name: str, frame: int) -> Path:
        """The file of a picture."""
        return self.folder(name) / f"image_{frame:05d}.jpg"

    def folder(self, name: str) -> Path:
        """The folder of a sequence's pictures."""
        return self.raw / _IMAGES / name

    def listing(self) -> list[str]:
        """A line with name and size for every picture, in a fixed order."""
        lines = []
        for file in self.files:
            folder = self.folder(file.name)
            if folder.is_dir():
                lines += [f"{file.name}/{path.name}\0{path.stat().st_size}" for path in folder.iterdir()]
        return sorted(lines)


@dataclass(frozen=True, eq=False)
class Track:
    """One person of a sequence; N pictures.

    `pose` is axis-angle relative to the parent (row 0: world_from_body) and `translation` is added after posing (world, m).
    `detections` are OpenPose's 18 joints, x, y (px) and confidence; zero where nothing was detected. `valid` says for which
    pictures the pose of the camera is trusted for this person. `joints` are the rig's joints that the release states.
    """

    gender: Gender
    betas: Float[np.ndarray, "10"]
    pose: Float[np.ndarray, "N 24 3"]
    translation: Float[np.ndarray, "N 3"]
    detections: Float[np.ndarray, "N 18 3"]
    valid: Bool[np.ndarray, "N"]
    joints: Float[np.ndarray, "N 24 3"] | None

    def detected(self) -> np.ndarray:
        """How many joints are detected with a confidence above `DETECTED`, for each picture."""
        return np.asarray((self.detections[..., 2] > DETECTED).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Sequence3DPW:
    """The content of one sequence file; `camera_from_world` has a pose for each of N pictures."""

    name: str
    intrinsics: Float[np.ndarray, "3 3"]
    camera_from_world: Float[np.ndarray, "N 4 4"]
    tracks: tuple[Track, ...]

    def __len__(self) -> int:
        return len(self.camera_from_world)

    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, px: the principal point is stated as their middle."""
        return round(2.0 * float(self.intrinsics[0, 2])), round(2.0 * float(self.intrinsics[1, 2]))

    def camera(self, size: tuple[int, int]) -> Camera:
        """The camera in its own frame, which is the world of everything that is made from the sequence."""
        return Camera(self.name, size[0], size[1], self.intrinsics, session=self.name)

    def in_camera(
        self, track: Track, pelvis: Float[np.ndarray, "3"]
    ) -> tuple[Float[np.ndarray, "N 24 3"], Float[np.ndarray, "N 3"]]:
        """Pose and translation of a track in the frame of the camera at each instant.

        `pelvis` is the root joint of the resting body of this shape: a body turns about it and not about the origin, so
        the translation takes in what turning moves it by.
        """
        turn, shift = self.camera_from_world[:, :3, :3], self.camera_from_world[:, :3, 3]
        pose = track.pose.copy()
        pose[:, 0] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(track.pose[:, 0])).as_rotvec()
        placed = pelvis + track.translation
        return pose, np.einsum("nij,nj->ni", turn, placed) + shift - pelvis


def open_release(raw: Path, parts: Iterable[str]) -> Release:
    """Looks for sequence files by name. Raises MissingFileError where there is no folder."""
    if not (raw / _SEQUENCES).is_dir():
        raise MissingFileError(
            "raw folder of 3DPW not found",
            got=raw / _SEQUENCES,
            hint="Name the folder that holds sequenceFiles/ with --raw or in posekit.toml, or make a synthetic one with "
            "`posekit synthesize 3dpw`",
        )
    files, problems = [], []
    for part in parts:
        folders = [raw / _SEQUENCES / name for name in SPLIT_FOLDERS[part]]
        found = sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.pkl"))
        if not found:
            problems.append(f"missing: {_SEQUENCES}/{SPLIT_FOLDERS[part][0]}/*.pkl")
        files += [SequenceFile(path.stem, part, path) for path in found]
    return Release(raw, tuple(files), tuple(problems))


def missing_pictures(release: Release, sequence: Sequence3DPW) -> list[str]:
    """The pictures of a sequence that are not there, or their folder when none is."""
    if not release.folder(sequence.name).is_dir():
        return [f"{_IMAGES}/{sequence.name}/"]
    files = (release.image(sequence.name, frame) for frame in range(len(sequence)))
    return [path.relative_to(release.raw).as_posix() for path in files if not path.is_file()]


def read_sequence(file: SequenceFile) -> Sequence3DPW:
    """The content of a sequence file.

    Raises UnsafeFileError for a pickle that asks for anything but arrays, FormatError for one that does not hold what
    3DPW's hold.
    """
    content = load_pickle(file.path)
    if not isinstance(content, dict):
        raise FormatError(f"{file.path} is no sequence of 3DPW", got=type(content).__name__, accepted="dict")
    read = _Fields({_text(key): value for key, value in content.items()}, file.path)
    cameras = read.array("cam_poses", (None, 4, 4), finite=False)
    known = np.isfinite(cameras).all(axis=(1, 2))
    cameras = np.where(known[:, None, None], cameras, np.eye(4))
    poses = read.several("poses")
    genders = [_gender(value, file.path) for value in read.several("genders", "gender")]
    tracks = []
    for person in range(len(poses)):
        if person >= len(genders):
            raise FormatError(f"{file.path}: genders has an entry for each person", got=len(genders))
        tracks.append(_track(read, person, genders[person], known))
    return Sequence3DPW(file.name, read.array("cam_intrinsics", (3, 3)), cameras, tuple(tracks))


def _track(read: _Fields, person: int, gender: Gender, known: Bool[np.ndarray, "N"]) -> Track:
    count = len(known)
    betas = read.person("betas", person, (None,))
    if len(betas) < SHAPE_NUMBERS:
        raise FormatError(f"{read.path}: betas has too few numbers", got=len(betas), accepted="10 or 300")
    joints = read.person("jointPositions", person, (count, 72)) if "jointPositions" in read.values else None
    detections = read.person(read.name("poses2d", "poses2D"), person, (count, 3, len(COCO18)), finite=False)
    return Track(
        gender=gender,
        betas=betas[:SHAPE_NUMBERS],
        pose=read.person("poses", person, (count, 72)).reshape(count, len(SMPL24), 3),
        translation=read.person("trans", person, (count, 3)),
        detections=np.ascontiguousarray(detections.transpose(0, 2, 1)),
        valid=(read.person("campose_valid", person, (count,)) > 0) & known,
        joints=None if joints is None else joints.reshape(count, len(SMPL24), 3),
    )


@dataclass(frozen=True)
class _Fields:
    """Values of one sequence file, checked for kind and shape as they are taken."""

    values: Mapping[str, Any]
    path: Path

    def name(self, *names: str) -> str:
        """The first of these keys that the file has."""
        for name in names:
            if name in self.values:
                return name
        raise FormatError(f"{self.path} lacks {names[0]}", got=sorted(self.values))

    def several(self, *names: str) -> Sequence[Any]:
        """A list with an entry for each person."""
        value = self.values[self.name(*names)]
        if not isinstance(value, list | tuple | np.ndarray | str):
            raise FormatError(
                f"{self.path}: {names[0]} is no list with an entry for each person", got=type(value).__name__
            )
        return list(value)

    def array(self, name: str, shape: tuple[int | None, ...], *, finite: bool = True) -> np.ndarray:
        return self._checked(self.values[self.name(name)], name, shape, finite)

    def person(self, name: str, person: int, shape: tuple[int | None, ...], *, finite: bool = True) -> np.ndarray:
        values = self.several(name)
        if person >= len(values):
            raise FormatError(f"{self.path}: {name} has an entry for each person", got=len(values))
        return self._checked(values[person], f"{name} of person {person}", shape, finite)

    def _checked(self, value: Any, what: str, shape: tuple[int | None, ...], finite: bool) -> np.ndarray:
        value = value.x if isinstance(value, ChumpyArray) else value
        array = np.asarray(value) if isinstance(value, np.ndarray | list | tuple) else None
        if array is None or array.dtype.kind not in "fiub":
            kind = type(value).__name__ if array is None else array.dtype
            raise FormatError(f"{self.path}: {what} is no array of numbers", got=kind)
        fits = len(shape) == array.ndim and all(
            want is None or want == have for want, have in zip(shape, array.shape, strict=False)
        )
        if not fits:
            wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
            raise FormatError(f"{self.path}: {what} has the wrong shape", got=str(array.shape), accepted=wanted)
        numbers = array.astype(np.float64)
        if finite and not np.isfinite(numbers).all():
            raise FormatError(f"{self.path}: {what} holds values that are not finite")
        return numbers


def _gender(value: object, path: Path) -> Gender:
    gender = _GENDERS.get(_text(value)[:1].lower())
    if gender is None:
        raise FormatError(f"{path}: a gender is not known", got=value, accepted=sorted(_GENDERS))
    return gender


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def detected_box(detections: Float[np.ndarray, "18 3"], size: tuple[int, int]) -> Float[np.ndarray, "4"] | None:
    """x0, y0, x1, y1 of what was detected of a person; None where that is fewer than two joints.

    The release holds absurdly large places now and then, which are not counted.
    """
    points = seen_joints(detections, size)
    there = points[points[:, 2] > 0, :2]
    if len(there) < 2:
        return None
    box = np.concatenate([there.min(axis=0), there.max(axis=0)])
    return box if (box[2:] > box[:2]).any() else None


def seen_joints(
    detections: Float[np.ndarray, "*batch 18 3"], size: tuple[int, int]
) -> Float[np.ndarray, "*batch 18 3"]:
    """Detections with NaN places and confidence 0 where nothing, or something absurd, was detected."""
    reach = _BEYOND * np.array(size)
    there = detections[..., 2] > 0
    there = there & (np.abs(detections[..., :2]) <= reach).all(axis=-1)
    return np.concatenate(
        [np.where(there[..., None], detections[..., :2], np.nan), np.where(there, detections[..., 2], 0.0)[..., None]],
        axis=-1,
    )
