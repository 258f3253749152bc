"""Leeds Sports Pose, its extended set, and the segmentations that UPi-S1h adds to them.

The two `joints.mat` differ in the order of their axes and in what their flag means: in LSP 1 is an occluded joint, in
LSP-extended 1 is a labelled one. Segmentations number the parts of the body; two orders are in use.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import scipy.io
from jaxtyping import Float, UInt8
from scipy.io.matlab import MatReadError

from posekit.datasets.stills import read_grey
from posekit.errors import FormatError, MissingFileError
from posekit.records import Camera
from posekit.skeleton.catalog import LSP14

PartOrder = Literal["upi-s1h", "rendered"]

IGNORE = 255
"""Label of pixels of a part segmentation that nobody decided on."""

PART_COUNT = 7
"""Background and six parts."""

UPI_FROM: dict[PartOrder, tuple[int, ...]] = {
    "upi-s1h": (0, 1, 2, 3, 4, 5, 6),
    # head, torso, right arm, left arm, right leg, left leg
    "rendered": (0, 3, 6, 2, 1, 5, 4),
}
"""Numbers of UPi-S1h (left arm, right arm, head, left leg, right leg, torso from 1 on) by those of each order."""

_VOTERS = {
    "left_elbow": 1,
    "left_wrist": 1,
    "right_elbow": 2,
    "right_wrist": 2,
    "left_knee": 4,
    "left_ankle": 4,
    "right_knee": 5,
    "right_ankle": 5,
}
"""Joints well inside a part, with its number in UPi-S1h."""

_FOLDERS = {"lsp": ("lsp_dataset", "lsp", "."), "lspet": ("lspet_dataset", "hr-lspet", "lspet")}
_SEGMENTS = {"lsp": "lsp", "lspet": "lspe"}
_SEGMENT_ROOTS = ("upi-s1h/data", "upi-s1h", "data")
_DIGITS = {"lsp": 4, "lspet": 5}
_CUT_PX = 2
"""A segmentation that is this much smaller or larger is cut or padded; with more it must be the same picture in another
size."""
_SAME_ASPECT = 0.02
_UNREADABLE = (LookupError, NotImplementedError, OSError, TypeError, ValueError, MatReadError, zlib.error)


@dataclass(frozen=True, eq=False)
class PictureSet:
    """One of the data sets: its pictures from number 1 on, and the joints of the person in each.

    `joints` are x, y (as annotated), and 1 where a joint is labelled; `hidden` says which labelled ones are occluded.
    """

    name: str
    folder: Path
    segments: Path | None
    joints: Float[np.ndarray, "N 14 3"]
    hidden: np.ndarray

    def __len__(self) -> int:
        return len(self.joints)

    def image(self, number: int) -> Path:
        """The file of a picture."""
        stem = f"im{number:0{_DIGITS[self.name]}d}"
        folder = self.folder / "images" if (self.folder / "images").is_dir() else self.folder
        png = folder / f"{stem}.png"
        return png if png.is_file() else folder / f"{stem}.jpg"

    def mask(self, number: int) -> Path | None:
        """The silhouette of a picture, or None."""
        return self._segment(number, "segmentation")

    def parts(self, number: int) -> Path | None:
        """The six-part segmentation of a picture, or None."""
        return self._segment(number, "part_segmentation")

    def _segment(self, number: int, ending: str) -> Path | None:
        if self.segments is None:
            return None
        path = self.segments / f"im{number:0{_DIGITS[self.name]}d}_{ending}.png"
        return path if path.is_file() else None

    def clips(self) -> tuple[tuple[str, str, range], ...]:
        """Name, split and picture numbers of the sequences: the first half of LSP is for training, all of LSP-extended."""
        numbers = range(1, len(self) + 1)
        if self.name == "lspet":
            return (("lspet", "train", numbers),)
        half = len(self) // 2
        return ("lsp-train", "train", numbers[:half]), ("lsp-test", "test", numbers[half:])


@dataclass(frozen=True)
class Release:
    """The data sets that are there, and what is missing."""

    raw: Path
    sets: tuple[PictureSet, ...]
    problems: tuple[str, ...]

    def listing(self) -> list[str]:
        """A line with name and size for every picture and segmentation, in a fixed order."""
        files = []
        for part in self.sets:
            for number in range(1, len(part) + 1):
                paths = (part.image(number), part.mask(number), part.parts(number))
                files += [path for path in paths if path is not None and path.is_file()]
        return sorted(f"{path.relative_to(self.raw).as_posix()}\0{path.stat().st_size}" for path in files)


def open_release(raw: Path, names: Iterable[str]) -> Release:
    """Looks for the data sets and reads their joints. Raises MissingFileError without a folder, FormatError for bad files."""
    if not raw.is_dir():
        raise MissingFileError(
            "raw folder of LSP not found",
            got=raw,
            hint="Name it with --raw or in posekit.toml, or make a synthetic one with `posekit synthesize lsp`",
        )
    sets, problems = [], []
    for name in names:
        folder = next((raw / place for place in _FOLDERS[name] if (raw / place / "joints.mat").is_file()), None)
        if folder is None:
            problems.append(f"missing: {_FOLDERS[name][0]}/joints.mat")
            continue
        segments = next(
            (raw / root / _SEGMENTS[name] for root in _SEGMENT_ROOTS if (raw / root / _SEGMENTS[name]).is_dir()), None
        )
        if segments is None and name == "lsp":
            problems.append(f"missing: {_SEGMENT_ROOTS[0]}/{_SEGMENTS[name]}/ (segmentations of UPi-S1h)")
        joints, hidden = read_joints(folder / "joints.mat", flag_is_hidden=name == "lsp")
        sets.append(PictureSet(name, folder, segments, joints, hidden))
    return Release(raw, tuple(sets), tuple(problems))


def read_joints(path: Path, *, flag_is_hidden: bool) -> tuple[Float[np.ndarray, "N 14 3"], np.ndarray]:
    """Joints as x, y and 1 (labelled) or 0, and which labelled ones are hidden; from either order of axes.

    Joints without a label have no place. Raises MissingFileError or FormatError.
    """
    if not path.is_file():
        raise MissingFileError("joints of LSP not found", got=path)
    try:
        joints = np.asarray(scipy.io.loadmat(path)["joints"], dtype=np.float64)
    except _UNREADABLE as error:
        raise FormatError(f"{path} holds no readable array `joints`", got=f"{type(error).__name__}: {error}") from error
    count = len(LSP14)
    if joints.ndim != 3 or sorted(joints.shape[:2]) != [3, count]:
        raise FormatError(
            f"{path}: joints has the wrong shape", got=joints.shape, accepted=f"(3, {count}, N) or ({count}, 3, N)"
        )
    order = (2, 1, 0) if joints.shape[0] == 3 else (2, 0, 1)
    joints = joints.transpose(order)
    flag = joints[..., 2] > 0.5
    labelled = np.asarray(np.isfinite(joints[..., :2]).all(axis=-1))
    labelled &= True if flag_is_hidden else flag
    hidden = flag & labelled if flag_is_hidden else np.zeros_like(flag)
    places = np.where(labelled[..., None], joints[..., :2], np.nan)
    return np.concatenate([places, labelled[..., None].astype(np.float64)], axis=-1), hidden


def read_mask(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """A silhouette over a picture of this height and width: 1 is the person. Raises FormatError where it cannot be one."""
    return (_fitted(read_grey(path), size, 0, path) > 0).astype(np.uint8)


def read_parts(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """A part segmentation as numbered in its file, 255 where nobody decided. Raises FormatError for other numbers."""
    parts = _fitted(read_grey(path), size, IGNORE, path)
    wrong = np.setdiff1d(np.unique(parts), [*range(PART_COUNT), IGNORE])
    if wrong.size:
        raise FormatError(f"{path} is no segmentation of six parts", got=wrong.tolist(), accepted="0 to 6 and 255")
    return parts


def _fitted(labels: np.ndarray, size: tuple[int, int], fill: int, path: Path) -> np.ndarray:
    """Labels over a picture of another size: cut or padded where little is amiss, else enlarged or shrunk."""
    height, width = size
    have = np.array(labels.shape)
    if (np.abs(have - size) <= _CUT_PX).all():
        whole = np.full(size, fill, np.uint8)
        part = labels[:height, :width]
        whole[: part.shape[0], : part.shape[1]] = part
        return whole
    stretch = np.array(size) / have
    if abs(stretch[0] / stretch[1] - 1.0) > _SAME_ASPECT:
        raise FormatError(
            f"{path} is not the segmentation of its picture",
            got=f"{have[1]}x{have[0]}",
            accepted=f"{width}x{height}, or another size of the same shape",
        )
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def votes_for_order(parts: UInt8[np.ndarray, "H W"], joints: Float[np.ndarray, "14 3"]) -> dict[PartOrder, int]:
    """How many joints lie in the part that holds them, by each of the two orders; joints as x, y (first pixel 0), label."""
    votes: dict[PartOrder, int] = dict.fromkeys(UPI_FROM, 0)
    for name, part in _VOTERS.items():
        x, y, labelled = joints[LSP14.index(name)]
        if not labelled or not (0 <= round(x) < parts.shape[1] and 0 <= round(y) < parts.shape[0]):
            continue
        label = int(parts[round(y), round(x)])
        if label == IGNORE:
            continue
        for order, numbers in UPI_FROM.items():
            votes[order] += int(numbers[label] == part)
    return votes


def in_upi_order(parts: UInt8[np.ndarray, "H W"], order: PartOrder) -> UInt8[np.ndarray, "H W"]:
    """A part segmentation in the numbers of UPi-S1h."""
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    table[:PART_COUNT] = UPI_FROM[order]
    return table[parts]


def better_order(votes: Mapping[PartOrder, int]) -> PartOrder:
    """The order that more joints speak for; UPi-S1h's own when it is even."""
    return "rendered" if votes["rendered"] > votes["upi-s1h"] else "upi-s1h"


def shared_camera() -> Camera:
    """The one camera of all pictures: its lens is a guess and its pose is unknown; only weak perspective means anything."""
    side = 200
    middle = (side - 1) / 2
    intrinsics = np.array([[250.0, 0.0, middle], [0.0, 250.0, middle], [0.0, 0.0, 1.0]])
    return Camera("lsp", side, side, intrinsics, posed=False)
