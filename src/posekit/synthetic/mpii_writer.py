"""The raw layout of MPII Human Pose: pictures, the release's MATLAB file and the JSON lists made of it.

What is odd in the release is odd here: pictures without people, people without key points, position or scale, fields that are
missing in some pictures, labels of visibility that are numbers, text or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from jaxtyping import Bool, Float

from posekit.body.smpl_file import BodyData
from posekit.body.surface import PART_NAMES, atlas_of
from posekit.camera_stack import stack_cameras
from posekit.datasets.crops import encode_image
from posekit.datasets.mpii import LOWERED, PERSON_HEIGHT_PX, RELEASE_FILE
from posekit.datasets.pictures import overlap
from posekit.geometry.conventions import PIXEL_FROM_ONE_BASED
from posekit.records import Camera
from posekit.skeleton.catalog import MPII16
from posekit.synthetic.bodies import Take, posed
from posekit.synthetic.snapshot import SeenPerson, Snapshot

IMAGES = "images"
LISTS = {"train": "annot/train.json", "val": "annot/valid.json", "test": "annot/test.json"}
HEADS_FILE = "annot/gt_valid.mat"
FILES = (RELEASE_FILE, *LISTS.values(), HEADS_FILE)

_APART = 0.1
"""People count as separated from others whose boxes overlap by less."""
_UNSAID = MPII16.indices("neck", "head_top")
"""Joints of which the release does not say whether they are seen."""
_TEXT_EVERY = 2
"""The visibility of every second person's joints is text."""
_NOTHING = np.zeros((0, 0))


@dataclass(frozen=True, eq=False)
class Noted:
    """What is noted of one person, in the package's pixels; None: nothing."""

    head_box: Float[np.ndarray, "4"]
    position: Float[np.ndarray, "2"] | None
    scale: float | None
    joints: Float[np.ndarray, "16 3"] | None


@dataclass(frozen=True, eq=False)
class NotedPicture:
    """One picture: what part it is of, what video it is from, and its people in the order of the file."""

    name: str
    part: str
    video: int
    people: tuple[Noted, ...]


def picture_name(number: int) -> str:
    """The file of a picture."""
    return f"{number:09d}.jpg"


class Measuring:
    """Says what annotators would note of the people in a picture; the boxes of heads are those of the bodies, exactly."""

    def __init__(self, body: BodyData) -> None:
        self._body = body
        parts = [number for number, name in enumerate(PART_NAMES) if name.startswith("head")]
        self._head: Bool[np.ndarray, " V"] = np.isin(atlas_of(body).vertex_part, parts)

    def person(self, take: Take, seen: SeenPerson, camera: Camera) -> Noted:
        """Everything of one person of whom something is seen."""
        vertices = posed(self._body, take).vertices[0]
        model = stack_cameras([camera])[0]
        head = model.project(_tensor(vertices[self._head])).numpy()
        standing = Take(take.fps, take.betas, np.zeros_like(take.pose[:1]), np.zeros((1, 3)))
        upright = posed(self._body, standing).vertices[0]
        height = float(np.ptp(upright[:, 1]))
        depth = float(model.camera_from_world(_tensor(vertices))[:, 2].mean())
        scale = height * float(camera.intrinsics[1, 1]) / depth / PERSON_HEIGHT_PX
        rows, columns = np.nonzero(seen.mask)
        middle = 0.5 * np.array([columns.min() + columns.max(), rows.min() + rows.max()])
        # Readers lower it again.
        position = middle - np.array([0.0, LOWERED * scale])
        return Noted(np.concatenate([head.min(axis=0), head.max(axis=0)]), position, scale, seen.keypoints)


def write_picture(folder: Path, name: str, snapshot: Snapshot, quality: int) -> None:
    """Writes the file of a picture."""
    (folder / IMAGES / name).write_bytes(encode_image(snapshot.image, "jpeg", quality).tobytes())


def write_annotations(folder: Path, pictures: Sequence[NotedPicture]) -> None:
    """Writes the MATLAB file of the release and the lists of the people to train, validate and test on."""
    release = {
        "annolist": _struct_array([_picture_struct(picture) for picture in pictures]),
        "img_train": np.array([[float(picture.part != "test") for picture in pictures]]),
        "version": "12",
        "single_person": _cells([_separate(picture) for picture in pictures]),
        "act": _struct_array([{"act_name": "posing", "cat_name": "studio", "act_id": -1.0} for _ in pictures]),
        "video_list": _cells([f"studio {picture.video}" for picture in pictures]),
    }
    scipy.io.savemat(folder / RELEASE_FILE, {"RELEASE": release}, do_compression=True, oned_as="row")
    for part, name in LISTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        entries = [entry for picture in pictures if picture.part == part for entry in _list_entries(picture)]
        (folder / name).write_text(json.dumps(entries) + "\n", encoding="utf-8")
    _write_heads(folder / HEADS_FILE, [p for picture in pictures if picture.part == "val" for p in _listed(picture)])


def _picture_struct(picture: NotedPicture) -> dict[str, Any]:
    people = [_person_struct(person, number, picture.part) for number, person in enumerate(picture.people)]
    names = {name for person in people for name in person}
    # Fields that one entry of a struct array has, all have.
    filled = [{name: person.get(name, _NOTHING) for name in sorted(names)} for person in people]
    return {
        "image": {"name": picture.name},
        "annorect": _struct_array(filled) if filled else _NOTHING,
        "frame_sec": 0.0,
        "vidx": float(picture.video),
    }


def _person_struct(person: Noted, number: int, part: str) -> dict[str, Any]:
    struct: dict[str, Any] = {}
    if person.scale is not None:
        struct["scale"] = person.scale
    if person.position is not None:
        struct["objpos"] = _point(person.position)
    if part == "test":
        return struct
    struct |= dict(zip(("x1", "y1", "x2", "y2"), _one_based(person.head_box), strict=True))
    if person.joints is not None and person.joints[:, 2].any():
        struct["annopoints"] = {"point": _points(person.joints, as_text=number % _TEXT_EVERY == 1)}
    return struct


def _points(joints: Float[np.ndarray, "16 3"], *, as_text: bool) -> np.ndarray:
    labelled = np.flatnonzero(joints[:, 2])
    seen = {
        int(joint): _NOTHING
        if joint in _UNSAID
        else str(int(joints[joint, 2] == 2))
        if as_text
        else int(joints[joint, 2] == 2)
        for joint in labelled
    }
    # The release names joints in no fixed order.
    records = [
        {**_point(joints[joint, :2]), "id": int(joint), "is_visible": seen[int(joint)]} for joint in labelled[::-1]
    ]
    return _struct_array(records)


def _list_entries(picture: NotedPicture) -> list[dict[str, Any]]:
    entries = []
    for person in _listed(picture):
        entry: dict[str, Any] = {"image": picture.name, "scale": person.scale}
        entry["center"] = [] if person.position is None else _one_based(person.position)
        if person.joints is not None and picture.part != "test":
            labelled = person.joints[:, 2] > 0
            places = np.where(labelled[:, None], person.joints[:, :2] - PIXEL_FROM_ONE_BASED, -1.0)
            entry |= {"joints": places.tolist(), "joints_vis": labelled.astype(int).tolist()}
        entries.append(entry)
    return entries


def _listed(picture: NotedPicture) -> list[Noted]:
    """The people that lists take: those with position and scale and, but for tests, key points."""
    placed = [person for person in picture.people if person.position is not None and person.scale is not None]
    return [person for person in placed if picture.part == "test" or person.joints is not None]


def _write_heads(path: Path, people: Sequence[Noted]) -> None:
    boxes = np.array([_one_based(person.head_box) for person in people]).reshape(-1, 2, 2)
    joints = np.array([person.joints for person in people]).reshape(-1, len(MPII16), 3)
    content = {
        "headboxes_src": boxes.transpose(1, 2, 0),
        "jnt_missing": (joints[..., 2] == 0).astype(np.uint8).T,
        "pos_gt_src": (joints[..., :2] - PIXEL_FROM_ONE_BASED).transpose(1, 2, 0),
        "dataset_joints": _cells(list(MPII16.joints)),
    }
    scipy.io.savemat(path, content, do_compression=True)


def _separate(picture: NotedPicture) -> np.ndarray:
    """Numbers, from one, of the people whose boxes overlap nobody else's."""
    boxes = [None if person.position is None else _reach(person) for person in picture.people]
    apart = [
        number + 1
        for number, box in enumerate(boxes)
        if box is not None
        and all(other is None or at == number or overlap(box, other) < _APART for at, other in enumerate(boxes))
    ]
    return np.array(apart, dtype=np.float64).reshape(-1, 1) if apart else _NOTHING


def _reach(person: Noted) -> Float[np.ndarray, "4"]:
    """The bounds of someone's key points, or of the head."""
    if person.joints is None:
        return person.head_box
    labelled = person.joints[person.joints[:, 2] > 0, :2]
    points = np.concatenate([labelled, person.head_box.reshape(2, 2)])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _point(place: Float[np.ndarray, "2"]) -> dict[str, float]:
    return dict(zip("xy", _one_based(place), strict=True))


def _one_based(values: Float[np.ndarray, "N"]) -> list[float]:
    return [float(value) for value in values - PIXEL_FROM_ONE_BASED]


def _struct_array(records: Sequence[dict[str, Any]]) -> np.ndarray:
    """A MATLAB struct array of one row; all records have the same fields."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for column, record in enumerate(records):
        for name, value in record.items():
            array[0, column][name] = value
    return array


def _cells(values: Sequence[Any]) -> np.ndarray:
    """A MATLAB cell array of one column."""
    array = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        array[row, 0] = value
    return array


def _tensor(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(points))
