"""The annotations of MPII Human Pose: the release's MATLAB file, and the JSON lists that training code made of it.

Coordinates in all of them count pixels from one. What a file says of a person is read here as it stands; `posekit.datasets.mpii`
decides who is taken.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from jaxtyping import Float
from scipy.io.matlab import MatReadError

from posekit.errors import FormatError, MissingFileError
from posekit.geometry.conventions import HEAD_SIZE_FACTOR, PIXEL_FROM_ONE_BASED
from posekit.skeleton.catalog import MPII16

JOINTS = len(MPII16)

NONE, HIDDEN, SEEN = 0, 1, 2
"""What is known of a joint: no label, a label of a hidden joint, any other label."""

_UNREADABLE = (
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    MatReadError,
    zlib.error,
)


def _unknown(*shape: int) -> Any:
    return lambda: np.full(shape, np.nan)


def _no_joints() -> Float[np.ndarray, "16 3"]:
    joints = np.full((JOINTS, 3), np.nan)
    joints[:, 2] = NONE
    return joints


@dataclass(frozen=True, eq=False)
class Annotation:
    """What is noted of one person; NaN: nothing.

    `number` counts the people of the picture, `position` and `joints` (x, y and NONE, HIDDEN or SEEN) are in the package's
    pixels, `scale` is the height of the person over 200 px and `head_px` 0.6 of the diagonal of the head's box. `group` is
    what pictures that belong together share (a video). `separate` is None where nothing is said of it.
    """

    picture: str
    number: int
    training: bool
    position: Float[np.ndarray, "2"] = field(default_factory=_unknown(2))
    scale: float = float("nan")
    joints: Float[np.ndarray, "16 3"] = field(default_factory=_no_joints)
    head_px: float = float("nan")
    group: str = ""
    separate: bool | None = None


def read_release(path: Path) -> list[Annotation | str]:
    """Everybody of `mpii_human_pose_v1_u12_1.mat`, and for each malformed entry the name of its picture.

    Structs of one entry, empty ones and missing fields are all the same to it: MATLAB and its readers collapse them in many
    ways. Raises MissingFileError, or FormatError where the file is damaged or is another one.
    """
    content = _load(path, "RELEASE")
    release = next(iter(_structs(content)), None)
    pictures = _structs(_field(release, "annolist"))
    training = _numbers(_field(release, "img_train"))
    if not pictures or len(training) != len(pictures):
        raise FormatError(
            f"{path} is no annotation file of MPII",
            got=f"{len(pictures)} entries in RELEASE.annolist, {len(training)} in RELEASE.img_train",
            accepted="as many of one as of the other",
        )
    separate = _cells(_field(release, "single_person"), len(pictures))
    return [
        person
        for row, picture in enumerate(pictures)
        for person in _people(picture, training[row] == 1, None if separate is None else _numbers(separate[row]))
    ]


def _people(picture: Any, training: bool, separate: Sequence[float] | None) -> Iterator[Annotation | str]:
    name = _text(_field(next(iter(_structs(_field(picture, "image"))), None), "name"))
    video = _number(_field(picture, "vidx"))
    group = f"video {video:.0f}" if np.isfinite(video) else name
    for number, person in enumerate(_structs(_field(picture, "annorect"))):
        corners = [_number(_field(person, corner)) for corner in ("x1", "y1", "x2", "y2")]
        place = next(iter(_structs(_field(person, "objpos"))), None)
        try:
            joints = _joints_of(person)
        except ValueError:
            yield name
            continue
        yield Annotation(
            picture=name,
            number=number,
            training=training,
            position=np.array([_number(_field(place, axis)) for axis in "xy"]) + PIXEL_FROM_ONE_BASED,
            scale=_number(_field(person, "scale")),
            joints=joints,
            head_px=head_size(np.array(corners)),
            group=group,
            separate=None if separate is None else number + 1 in separate,
        )


def _joints_of(person: Any) -> Float[np.ndarray, "16 3"]:
    """ValueError for points that name no joint."""
    joints = _no_joints()
    for points in _structs(_field(person, "annopoints")):
        for point in _structs(_field(points, "point")):
            joint = _number(_field(point, "id"))
            if joint not in range(JOINTS):
                raise ValueError(joint)
            place = np.array([_number(_field(point, axis)) for axis in "xy"])
            if np.isfinite(place).all():
                # Nothing is said of head top and neck, which counts as seen.
                label = HIDDEN if _number(_field(point, "is_visible")) == 0 else SEEN
                joints[int(joint)] = [*(place + PIXEL_FROM_ONE_BASED), label]
    return joints


def head_size(corners: Float[np.ndarray, "4"]) -> float:
    """0.6 of the diagonal of a head's box (x0, y0, x1, y1); NaN where it is none."""
    size = HEAD_SIZE_FACTOR * float(np.linalg.norm(corners[2:] - corners[:2]))
    return size if size > 0 else float("nan")


def read_list(path: Path, training: bool) -> list[Annotation | str]:
    """Everybody of `train.json`, `valid.json` or `test.json` (HRNet, mmpose), in its order.

    Raises as `read_release`; malformed entries come as the names of their pictures. Every labelled joint is SEEN: these lists
    say nothing else.
    """
    seen: dict[str, int] = {}
    people: list[Annotation | str] = []
    for entry in _entries(path):
        name = str(entry.get("image"))
        number = seen[name] = seen.get(name, -1) + 1
        try:
            place = _array(entry["center"], (2,)) + PIXEL_FROM_ONE_BASED
            scale = float(entry["scale"])
            joints = _no_joints() if "joints" not in entry else _listed(entry["joints"], entry["joints_vis"])
        except (KeyError, TypeError, ValueError):
            people.append(name)
            continue
        people.append(Annotation(name, number, training, place, scale, joints, group=name))
    return people


def _listed(joints: Any, labelled: Any) -> Float[np.ndarray, "16 3"]:
    places, flags = _array(joints, (JOINTS, 2)), _array(labelled, (JOINTS,))
    there = (flags > 0) & np.isfinite(places).all(axis=1)
    found = _no_joints()
    found[there, :2] = places[there] + PIXEL_FROM_ONE_BASED
    found[there, 2] = SEEN
    return found


def read_whole_list(path: Path) -> tuple[list[Annotation | str], list[Annotation | str]]:
    """Everybody of `mpii_annotations.json` (Convolutional Pose Machines), for training and for validation.

    Raises as `read_release`. Joints without a label lie at (0, 0).
    """
    parts: tuple[list[Annotation | str], list[Annotation | str]] = ([], [])
    for entry in _entries(path):
        name = Path(str(entry.get("img_paths"))).name
        part = parts[bool(entry.get("isValidation"))]
        try:
            place = _array(entry["objpos"], (2,)) + PIXEL_FROM_ONE_BASED
            points = _array(entry["joint_self"], (JOINTS, 3))
            number, scale = int(entry["people_index"]) - 1, float(entry["scale_provided"])
        except (KeyError, TypeError, ValueError):
            part.append(name)
            continue
        there = np.isfinite(points).all(axis=1) & (points[:, :2] != 0).any(axis=1)
        joints = _no_joints()
        joints[there, :2] = points[there, :2] + PIXEL_FROM_ONE_BASED
        joints[there, 2] = np.where(points[there, 2] > 0, SEEN, HIDDEN)
        part.append(Annotation(name, number, True, place, scale, joints, group=name))
    return parts


def read_head_sizes(path: Path, count: int) -> Float[np.ndarray, "N"]:
    """The head sizes of the people of `valid.json`, in its order, from the `gt_valid.mat` that comes with it.

    Raises as `read_release`, and FormatError where they are not `count`.
    """
    boxes = _load(path, "headboxes_src")
    if boxes is None:
        raise FormatError(f"{path} is no file of head boxes", got="no headboxes_src", accepted="gt_valid.mat of HRNet")
    if boxes.shape != (2, 2, count):
        raise FormatError(
            f"{path}: headboxes_src does not belong to the list of people beside it",
            got=boxes.shape,
            accepted=str((2, 2, count)),
        )
    # The first axis is the corner, the second x and y.
    return np.array([head_size(corners) for corners in boxes.astype(np.float64).reshape(4, count).T])


def _load(path: Path, variable: str) -> Any:
    """A variable of a MATLAB file; None without it."""
    if not path.is_file():
        raise MissingFileError("file not found", got=path)
    try:
        # Without squeezing, a struct array of one entry is still an array.
        content = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=False, variable_names=[variable])
    except _UNREADABLE as error:
        raise FormatError(
            f"{path} cannot be read", got=f"{type(error).__name__}: {error}", hint="Unpack or download it again"
        ) from error
    return content.get(variable)


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError("file not found", got=path) from None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is damaged", got=error, hint="Unpack or download it again") from error
    if isinstance(content, dict):
        content = content.get("root")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise FormatError(f"{path} is no list of people", accepted="[{...}, ...]")
    return content


def _array(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(array.shape)
    return array


def _structs(value: Any) -> list[Any]:
    """The structs of an array of them, of a cell, or of whatever these collapsed to."""
    if isinstance(value, np.ndarray):
        return [struct for item in value.ravel() for struct in _structs(item)] if value.dtype == object else []
    return [value] if hasattr(value, "_fieldnames") else []


def _field(struct: Any, name: str) -> Any:
    return getattr(struct, name, None)


def _cells(value: Any, count: int) -> list[Any] | None:
    """The cells of a cell array of known length; None without one."""
    if value is None:
        return None
    cells = list(value.ravel()) if isinstance(value, np.ndarray) and value.dtype == object else [value]
    return cells if len(cells) == count else None


def _numbers(value: Any) -> list[float]:
    """All numbers of an array; text that is none is NaN."""
    if isinstance(value, np.ndarray):
        return [number for item in value.ravel() for number in _numbers(item)]
    try:
        return [] if value is None else [float(value)]
    except (TypeError, ValueError):
        return [float("nan")]


def _number(value: Any) -> float:
    numbers = _numbers(value)
    return numbers[0] if len(numbers) == 1 else float("nan")


def _text(value: Any) -> str:
    return str(value.ravel()[0]) if isinstance(value, np.ndarray) and value.size else str(value)
