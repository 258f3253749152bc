"""Where people are in pictures: boxes and key points, as files of several kinds give them.

Boxes are x0, y0, x1, y1 in px with the centre of the top-left pixel at (0, 0), so that a whole image of width W spans -0.5 to
W - 0.5.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from posekit.datasets.crops import box_of_points
from posekit.datasets.openpose import (
    KEYPOINT_ORDERS,
    KeypointFolder,
    KeypointOrder,
    detect_order,
    frame_numbers,
    read_keypoint_folder,
    require_order,
)
from posekit.errors import FormatError, MissingFileError
from posekit.skeleton.catalog import COCO17, skeleton_by_name
from posekit.skeleton.skeleton import Skeleton

EVERY_FRAME = -1
"""Stands for the frame number of people who are there in every frame."""

MOST_PEOPLE = 256
"""People of one sequence that keys of rows can tell apart."""

_CSV_COLUMNS = ("file", "frame", "x0", "y0", "x1", "y1")
_BOX_FORMS = "[x0, y0, x1, y1], a list of such boxes, or a list of {'bbox': [x, y, width, height]}"
_ORDER_SAMPLE = 400
_PERSON = 1
"""COCO's number of the category `person`."""


@dataclass(frozen=True, eq=False)
class Person:
    """Someone in a picture; `number` is the same in all frames where the file says who is who."""

    bbox: Float[np.ndarray, "4"]
    keypoints: Float[np.ndarray, "J 3"] | None = None
    number: int | None = None


@dataclass(frozen=True, eq=False)
class People:
    """People by the name of picture or video, and by frame (0 for pictures); `skeleton` orders their key points.

    `damaged` are files that could not be read, with the reason; `without_box` counts people of too few key points.
    """

    path: Path
    frames: Mapping[str, Mapping[int, Sequence[Person]]]
    skeleton: Skeleton | None = None
    damaged: Sequence[str] = ()
    without_box: int = 0
    _names: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        shorter: dict[str, set[str]] = defaultdict(set)
        for name in self.frames:
            for short in {PurePosixPath(name).name, PurePosixPath(name).stem}:
                shorter[short].add(name)
        # A name that could mean two files means neither.
        self._names.update({short: names.pop() for short, names in shorter.items() if len(names) == 1})
        self._names.update({name: name for name in self.frames})

    def key_of(self, name: str) -> str | None:
        """The name under which the file knows a picture or video: its path, its bare name, or that without its ending."""
        path = PurePosixPath(name)
        return next((self._names[c] for c in (name, path.name, path.stem) if c in self._names), None)

    def of(self, name: str) -> Mapping[int, Sequence[Person]]:
        """The people of a picture or video by frame; empty where the file does not know it."""
        key = self.key_of(name)
        return {} if key is None else self.frames[key]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Names in the file that none of the pictures or videos has."""
        return sorted(set(self.frames) - {self.key_of(name) for name in names})


def read_boxes(path: Path) -> People:
    """People from a file of boxes: CSV (file,frame,x0,y0,x1,y1[,person]), JSON by file name, or COCO annotations.

    Raises MissingFileError or FormatError.
    """
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    content = _json(path)
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):
        return _from_coco(path, content)
    if not isinstance(content, dict):
        raise FormatError(f"no boxes in {path}", got=type(content).__name__, accepted=f"{{file name: {_BOX_FORMS}}}")
    return People(path, {str(name): {EVERY_FRAME: _boxes(path, name, value)} for name, value in content.items()})


def read_keypoints(path: Path, order: KeypointOrder | None, min_confidence: float, *, video: bool) -> People:
    """People from their key points: COCO annotations, or folders of OpenPose files; `order` None: told from the points.

    The files of pictures are called like the pictures. Those of a video lie in a folder called like the video, or, where
    there is no such folder in it, in the given folder itself.
    """
    if path.is_file():
        content = _json(path)
        if isinstance(content, dict) and {"images", "annotations"} <= set(content):
            return _from_coco(path, content)
        raise FormatError(
            f"no key points in {path}", accepted="COCO annotations (images, annotations), or a folder of OpenPose files"
        )
    if not path.is_dir():
        raise MissingFileError("key points not found", got=path)
    inner = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and any(folder.glob("*.json"))]
    folders = [read_keypoint_folder(folder) for folder in inner or [path]]
    found = [people for folder in folders for people in folder.frames.values() if len(people)]
    frames: dict[str, dict[int, list[Person]]] = {}
    lost = 0
    for folder in folders:
        by_frame, without_box = _with_boxes(folder, min_confidence)
        lost += without_box
        if video:
            frames[folder.path.name.removesuffix("_json").removesuffix("_keypoints")] = by_frame
            continue
        for number, file in zip(frame_numbers(folder.files), folder.files, strict=True):
            frames[file.stem.removesuffix("_keypoints")] = {EVERY_FRAME: by_frame[number]}
    damaged = [f"{file}: {why}" for folder in folders for file, why in folder.damaged]
    return People(path, frames, _skeleton(found, order), damaged, lost)


def whole_image(width: int, height: int) -> Person:
    """Someone who fills the image."""
    return Person(np.array([-0.5, -0.5, width - 0.5, height - 0.5]))


def fault_of(box: Float[np.ndarray, "4"], width: int, height: int) -> str:
    """What makes a box useless for an image of this size, or nothing."""
    if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
        return "boxes_without_area"
    outside = (box[2:] <= -0.5).any() or box[0] >= width - 0.5 or box[1] >= height - 0.5
    return "boxes_outside_the_image" if outside else ""


def _from_csv(path: Path) -> People:
    frames: dict[str, dict[int, list[Person]]] = defaultdict(lambda: defaultdict(list))
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            missing = [name for name in _CSV_COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise FormatError(f"{path} lacks columns", got=missing, accepted=[*_CSV_COLUMNS, "person (optional)"])
            for row in rows:
                frame = int(row["frame"]) if (row["frame"] or "").strip() else EVERY_FRAME
                box = np.array([float(row[name]) for name in _CSV_COLUMNS[2:]])
                number = int(row["person"]) if (row.get("person") or "").strip() else None
                if number is not None and not 0 <= number < MOST_PEOPLE:
                    raise ValueError(f"person {number} is not from 0 to {MOST_PEOPLE - 1}")
                frames[row["file"]][frame].append(Person(box, number=number))
    except (OSError, UnicodeDecodeError) as error:
        raise MissingFileError("boxes cannot be read", got=f"{path} ({error})") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise FormatError(f"a line of {path} is not what it should be", got=f"line {rows.line_num}: {error}") from error
    return People(path, {name: dict(by_frame) for name, by_frame in frames.items()})


def _boxes(path: Path, name: object, value: Any) -> list[Person]:
    entries = (
        [value] if isinstance(value, list) and len(value) == 4 and not isinstance(value[0], list | dict) else value
    )
    try:
        return [
            Person(_from_corner(entry["bbox"]) if isinstance(entry, dict) else _four(entry)) for entry in list(entries)
        ]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise FormatError(
            f"boxes of {name} in {path} cannot be read", got=str(value)[:80], accepted=_BOX_FORMS
        ) from error


def _four(values: Any) -> np.ndarray:
    box = np.array(values, dtype=np.float64)
    if box.shape != (4,):
        raise ValueError("not four numbers")
    return box


def _from_corner(values: Any) -> np.ndarray:
    """A box given as corner, width and height on COCO's grid, where pixels are squares from whole number to whole number."""
    x, y, width, height = _four(values)
    return np.array([x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5])


def _from_coco(path: Path, content: dict[str, Any]) -> People:
    try:
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        frames: dict[str, dict[int, list[Person]]] = {name: {EVERY_FRAME: []} for name in names.values()}
        for note in content["annotations"]:
            if note.get("category_id", _PERSON) != _PERSON or note.get("iscrowd"):
                continue
            keypoints = None
            if "keypoints" in note:
                keypoints = np.array(note["keypoints"], dtype=np.float64).reshape(len(COCO17), 3)
                keypoints[:, 2] = keypoints[:, 2] > 0
            frames[names[note["image_id"]]][EVERY_FRAME].append(Person(_from_corner(note["bbox"]), keypoints))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"the COCO annotations {path} cannot be read", got=repr(error)) from error
    with_points = any(p.keypoints is not None for by in frames.values() for who in by.values() for p in who)
    return People(path, frames, COCO17 if with_points else None)


def _with_boxes(folder: KeypointFolder, min_confidence: float) -> tuple[dict[int, list[Person]], int]:
    frames: dict[int, list[Person]] = {}
    lost = 0
    for number, people in folder.frames.items():
        boxes = [box_of_points(one[(one[:, 2] > 0) & (one[:, 2] >= min_confidence), :2]) for one in people]
        frames[number] = [Person(b, one) for b, one in zip(boxes, people, strict=True) if b is not None]
        lost += sum(box is None for box in boxes)
    return frames, lost


def _skeleton(found: Sequence[np.ndarray], order: KeypointOrder | None) -> Skeleton | None:
    if not found:
        return None if order is None else skeleton_by_name(order)
    if len(counts := {people.shape[1] for people in found}) > 1:
        raise FormatError("folders disagree on the number of joints", got=sorted(counts), accepted=KEYPOINT_ORDERS)
    if order is not None:
        require_order(found[0], order)
        return skeleton_by_name(order)
    return skeleton_by_name(detect_order(np.concatenate(found[:: max(1, len(found) // _ORDER_SAMPLE)])))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError("file not found", got=path) from None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is not JSON", got=error) from error
