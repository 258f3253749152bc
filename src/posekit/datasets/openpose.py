"""Key points as OpenPose writes them: one JSON file for each frame, in one folder for each camera."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from posekit.datasets.media import natural_key
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.skeleton.catalog import skeleton_by_name

KeypointOrder = Literal["body25", "body25b", "coco18"]
KEYPOINT_ORDERS: tuple[KeypointOrder, ...] = ("body25", "body25b", "coco18")

People = Float[np.ndarray, "P J 3"]

_SEEN = 0.1
_MARGIN = 1.25
"""How much longer the bones of the wrong order must be; on people they are 1.5 to 3 times as long."""

_LONGEST_MEAN_BONE = 0.3
"""Mean length of the bones over the diagonal of the person's box above which an order is not believable."""

_FEWEST_BONES = 6
_NORMALIZED_BELOW = 2.0


@dataclass(frozen=True)
class KeypointFolder:
    """The detections of one camera.

    `frames` holds people (x, y in px, confidence; zeros where a joint was not detected) by the number that the file names
    give. `damaged` are files that could not be read, with the reason: frames without detections.
    """

    path: Path
    frames: dict[int, People]
    files: Sequence[Path]
    damaged: Sequence[tuple[Path, str]] = field(default_factory=tuple)

    @property
    def people(self) -> int:
        """Number of detections in all frames."""
        return sum(len(people) for people in self.frames.values())


def read_keypoint_folder(folder: Path) -> KeypointFolder:
    """All detections in a folder of OpenPose files.

    Damaged files are noted, not fatal. Raises MissingFileError without a folder or files, FormatError for a number of values
    that no joint order has, InputError for coordinates that are not pixels.
    """
    files = keypoint_files(folder)
    frames: dict[int, People] = {}
    damaged: list[tuple[Path, str]] = []
    for number, path in zip(frame_numbers(files), files, strict=True):
        try:
            frames[number] = read_people(path)
        except _DamagedFileError as error:
            damaged.append((path, str(error)))
            frames[number] = np.zeros((0, 0, 3))
    counts = sorted({people.shape[1] for people in frames.values() if len(people)})
    if len(counts) > 1:
        raise FormatError(f"files in {folder} disagree on the number of joints", got=counts, accepted="one joint order")
    joints = counts[0] if counts else 0
    frames = {number: people if len(people) else np.zeros((0, joints, 3)) for number, people in frames.items()}
    _refuse_normalized(folder, frames.values())
    return KeypointFolder(folder, frames, files, damaged)


def keypoint_files(folder: Path) -> list[Path]:
    """The JSON files of a folder in natural order; MissingFileError when there are none."""
    if not folder.is_dir():
        raise MissingFileError("folder of key points not found", got=folder)
    found = (path for path in folder.iterdir() if path.suffix.lower() == ".json" and not path.name.startswith("."))
    files = sorted(found, key=lambda path: natural_key(path.name))
    if not files:
        raise MissingFileError("no key points in the folder", got=folder, accepted="one .json file for each frame")
    return files


def frame_numbers(files: Sequence[Path]) -> list[int]:
    """The frame number in each file name: the last digits (`cam01_000000000012_keypoints`, `cam01.0012`, `frame12`).

    Where names have no such number, or share it, their order counts.
    """
    numbers = []
    for path in files:
        digits = re.findall(r"\d+", path.stem.removesuffix("_keypoints"))
        if not digits:
            return list(range(len(files)))
        numbers.append(int(digits[-1]))
    return numbers if len(set(numbers)) == len(numbers) else list(range(len(files)))


class _DamagedFileError(Exception):
    """A file that is no JSON of the expected form."""


def read_people(path: Path) -> People:
    """The people of one file; joints whose numbers are not finite count as not detected."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise _DamagedFileError(f"not JSON ({error})") from error
    entries = content.get("people") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise _DamagedFileError("no list `people`")
    people = [person for entry in entries if (person := _person(entry, path)) is not None]
    if len({len(person) for person in people}) > 1:
        raise FormatError(f"people in {path} have different numbers of joints", got=[len(person) for person in people])
    return np.stack(people) if people else np.zeros((0, 0, 3))


def _person(entry: Any, path: Path) -> np.ndarray | None:
    # Before version 1.2 the key had no suffix.
    values = entry.get("pose_keypoints_2d", entry.get("pose_keypoints")) if isinstance(entry, dict) else None
    if values is None:
        raise _DamagedFileError("a person without pose_keypoints_2d")
    if not isinstance(values, list):
        raise _DamagedFileError("pose_keypoints_2d is no list")
    if not values:
        return None
    accepted = {3 * len(skeleton_by_name(order)): order for order in KEYPOINT_ORDERS}
    if len(values) not in accepted:
        raise FormatError(
            f"wrong number of key point values in {path}",
            got=len(values),
            accepted="75 (BODY_25, BODY_25B) or 54 (COCO)",
            hint="Run OpenPose with one of these models",
        )
    try:
        person = np.array(values, dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise _DamagedFileError("key points that are no numbers") from error
    seen = np.isfinite(person).all(axis=-1) & (person[:, 2] > 0)
    return np.where(seen[:, None], person, 0.0)


def detect_order(people: People) -> KeypointOrder:
    """Which joint order detections have: 18 joints are COCO; of 25, the order that gives the shorter bones.

    Files do not say whether their 25 joints are BODY_25 or BODY_25B. Under the wrong order bones join points from all over
    the body, so their mean length relative to the person's size tells the orders apart. Raises InputError where too little was
    detected or the two are too alike to tell.
    """
    hint = "Say which it is: --keypoint-order"
    joints = people.shape[1]
    if joints == len(skeleton_by_name("coco18")):
        return "coco18"
    if joints != len(skeleton_by_name("body25")):
        raise FormatError("no known joint order has this many joints", got=joints, accepted="18 or 25")
    lengths = {order: mean_bone_length(people, order) for order in ("body25", "body25b")}
    best, other = sorted(lengths, key=lambda order: lengths[order])
    if not np.isfinite(list(lengths.values())).all():
        raise InputError("too little was detected to tell the joint order", accepted=KEYPOINT_ORDERS, hint=hint)
    if lengths[best] > _LONGEST_MEAN_BONE or lengths[other] < _MARGIN * lengths[best]:
        shown = ", ".join(f"{order} {length:.3f}" for order, length in lengths.items())
        raise InputError(
            "the joint order of the key points is ambiguous",
            got=f"mean bone over the person's diagonal: {shown}",
            accepted=f"one shorter than {_LONGEST_MEAN_BONE} and the other {_MARGIN} times as long",
            hint=hint,
        )
    return "body25" if best == "body25" else "body25b"


def mean_bone_length(people: People, order: str) -> float:
    """Median over people of the mean bone length relative to the diagonal of their boxes; NaN without whole enough people."""
    bones = np.array(skeleton_by_name(order).bones)
    shares = []
    for person in people:
        seen = person[:, 2] > _SEEN
        both = seen[bones].all(axis=1)
        if both.sum() < _FEWEST_BONES:
            continue
        ends = person[bones[both], :2]
        diagonal = float(np.linalg.norm(np.ptp(person[seen, :2], axis=0)))
        if diagonal > 0:
            shares.append(float(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1).mean()) / diagonal)
    return float(np.median(shares)) if shares else float("nan")


def require_order(people: People, order: KeypointOrder) -> None:
    """Raises FormatError where detections cannot have the order that the user named."""
    expected = len(skeleton_by_name(order))
    if len(people) and people.shape[1] != expected:
        raise FormatError(
            f"the key points are not {order}", got=f"{people.shape[1]} joints", accepted=f"{expected} joints"
        )


def _refuse_normalized(folder: Path, frames: Iterable[People]) -> None:
    seen = list(chain.from_iterable(people[people[..., 2] > 0][:, :2] for people in frames))
    if seen and float(np.abs(seen).max()) < _NORMALIZED_BELOW:
        raise InputError(
            f"the key points in {folder} are not pixels",
            got=f"largest coordinate {float(np.abs(seen).max()):.3g}",
            accepted="px of the original images",
            hint="Run OpenPose with its default --keypoint_scale 0",
        )
