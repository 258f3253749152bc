"""`metadata.xml` of Human3.6M: cameras, naming table, frame counts, skeleton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from posekit.atomic import writing
from posekit.datasets.h36m_metadata import CAMERA_IDS
from posekit.geometry.conventions import MILLIMETRES_PER_METRE
from posekit.synthetic.h36m_names import ACTIONS, OFFICIAL_ACTIONS, OTHER_CLIP, SUBJECTS, base_name, other_clips
from posekit.synthetic.rig import STATIONS, even, image_height, scaled_lens, subject_extrinsics

SequenceKey = tuple[str, str, int]

_RELEASE_JOINTS = (
    "Hips", "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase", "Site", "LeftUpLeg", "LeftLeg", "LeftFoot",
    "LeftToeBase", "Site", "Spine", "Spine1", "Neck", "Head", "Site", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand",
    "LeftHandThumb", "Site", "L_Wrist_End", "Site", "RightShoulder", "RightArm", "RightForeArm", "RightHand",
    "RightHandThumb", "Site", "R_Wrist_End", "Site",
)  # fmt: skip
_RELEASE_PARENTS = (
    -1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14, 12, 16, 17, 18, 19, 20, 19, 22, 12, 24, 25, 26, 27, 28, 27, 30,
)  # fmt: skip
_MEASURED_JOINTS = 29
_ACTORS = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Iris", "Jon", "Kai")


def write_metadata(
    path: Path,
    width: int,
    seed: int,
    frames: Mapping[SequenceKey, Sequence[int]],
    rest_joints: Float[np.ndarray, "32 3"],
) -> None:
    """Writes the file for images of a width.

    `frames` has the video frames per camera of what was made, by (subject, action, trial); the action of the clips of all
    movements is `_ALL`. `rest_joints` (m) are those of the mean body; bones are measured on them.
    """
    root = ElementTree.Element("a")
    _table(root, "mapping", _mapping_rows(width))
    ElementTree.SubElement(root, "toffiles")
    _table(root, "frames", _frame_rows(frames))
    offsets = _offsets(rest_joints)
    for name in ("skel_angles", "skel_pos"):
        _skeleton(ElementTree.SubElement(root, name), offsets)
    for name, members in (("train", "1 7 8 9 11"), ("val", "5 6"), ("test", "2 3 4 10")):
        ElementTree.SubElement(root, f"{name}_subjects").text = f"[{members}]"
    numbers = "[" + " ".join(repr(value) for value in camera_numbers(width, seed)) + "]"
    ElementTree.SubElement(root, "w0").text = numbers
    cameras = ElementTree.SubElement(root, "dbcameras")
    _list(ElementTree.SubElement(cameras, "index2id"), CAMERA_IDS)
    ElementTree.SubElement(cameras, "projectionParams").text = numbers
    _list(ElementTree.SubElement(root, "actionnames"), OFFICIAL_ACTIONS)
    measured = " ".join(f"{value:.4f}" for value in offsets[:_MEASURED_JOINTS].ravel())
    _table(root, "subject_measurements", [[f"[{measured}]"] for _ in SUBJECTS])
    ElementTree.indent(root)
    with writing(path):
        path.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def camera_numbers(width: int, seed: int) -> list[float]:
    """The 300 numbers of `w0`: six of the pose for every camera and subject, then nine of the lens for every camera."""
    numbers: list[float] = []
    for station in STATIONS:
        for subject in SUBJECTS:
            pose = subject_extrinsics(station, subject, seed)
            numbers += [*pose.angles, *pose.centre_mm]
    for station in STATIONS:
        numbers += [*scaled_lens(station, width), *station.distortion]
    return numbers


def _mapping_rows(width: int) -> list[list[str]]:
    rows = [["Action", "subaction", *SUBJECTS]]
    for trial in (1, 2):
        rows.append(["1", str(trial), *(other_clips(subject)[trial - 1] for subject in SUBJECTS)])
    for number, action in enumerate(ACTIONS, start=2):
        for trial in (1, 2):
            rows.append([str(number), str(trial), *(base_name(subject, action, trial) for subject in SUBJECTS)])
    rows.append(["", "", *_ACTORS])
    sizes = [[f"{image_height(station, subject, width)} {even(width)}" for station in STATIONS] for subject in SUBJECTS]
    rows.append(["", "", *("[" + ";".join(size) + "]" for size in sizes)])
    return rows


def _frame_rows(frames: Mapping[SequenceKey, Sequence[int]]) -> list[list[str]]:
    order = [(action, trial) for action in (OTHER_CLIP, *ACTIONS) for trial in (1, 2)]
    none = [0] * len(CAMERA_IDS)
    rows = []
    for subject in SUBJECTS:
        counts = [list(frames.get((subject, action, trial), none)) for action, trial in order]
        rows.append(["", *("[" + " ".join(str(value) for value in [*count, sum(count)]) + "]" for count in counts)])
    return rows


def _offsets(rest_joints: np.ndarray) -> np.ndarray:
    parents = np.maximum(np.array(_RELEASE_PARENTS), 0)
    return np.asarray((rest_joints - rest_joints[parents]) * MILLIMETRES_PER_METRE)


def _skeleton(parent: ElementTree.Element, offsets: np.ndarray) -> None:
    tree = ElementTree.SubElement(parent, "tree")
    for index, (name, above) in enumerate(zip(_RELEASE_JOINTS, _RELEASE_PARENTS, strict=True)):
        item = ElementTree.SubElement(tree, "item")
        children = [str(child + 1) for child, of in enumerate(_RELEASE_PARENTS) if of == index]
        for key, text in (
            ("name", name),
            ("id", str(index + 1)),
            ("offset", "[" + " ".join(f"{value:.4f}" for value in offsets[index]) + "]"),
            ("parent", str(above + 1)),
            ("children", "[" + " ".join(children) + "]"),
            ("order", "zxy"),
        ):
            ElementTree.SubElement(item, key).text = text


def _table(parent: ElementTree.Element, name: str, rows: Sequence[Sequence[str]]) -> None:
    table = ElementTree.SubElement(parent, name)
    for row in rows:
        line = ElementTree.SubElement(table, "tr")
        for cell in row:
            ElementTree.SubElement(line, "td").text = cell


def _list(parent: ElementTree.Element, values: Sequence[str]) -> None:
    for value in values:
        ElementTree.SubElement(parent, "cell").text = value
