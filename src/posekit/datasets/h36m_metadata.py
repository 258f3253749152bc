"""`metadata.xml` of Human3.6M: cameras, and which file name means which action and trial."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posekit.errors import FormatError, InputError, MissingFileError
from posekit.records import Camera

CAMERA_IDS = ("54138969", "55011271", "58860488", "60457274")
SUBJECT_NUMBERS = range(1, 12)

_POSE_NUMBERS = 6
_LENS_NUMBERS = 9
_W0_NUMBERS = len(CAMERA_IDS) * (len(SUBJECT_NUMBERS) * _POSE_NUMBERS + _LENS_NUMBERS)
_OTHER_NAMES = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog", "WalkingTogether": "WalkTogether"}
_HINT = "metadata.xml comes in the code archive of the release (code-v1.2.zip); copy it from there unchanged"


@dataclass(frozen=True)
class Take:
    """What one file name of a subject means."""

    base: str
    action: str
    trial: int
    action_id: int


@dataclass(frozen=True)
class Metadata:
    """What the file says: `takes` by subject ("S1") and file name ("Directions 1"), and the numbers of the cameras."""

    path: Path
    takes: Mapping[str, Mapping[str, Take]]
    action_names: Mapping[int, str]
    numbers: Float[np.ndarray, "300"]

    def camera(self, subject: str, camera_id: str, width: int, height: int) -> Camera:
        """A camera as it stood for a subject; the image size comes from the frames, which differ in height."""
        if camera_id not in CAMERA_IDS:
            raise InputError("unknown camera of Human3.6M", got=camera_id, accepted=CAMERA_IDS)
        camera, number = CAMERA_IDS.index(camera_id), int(subject.removeprefix("S")) - 1
        at = _POSE_NUMBERS * (len(SUBJECT_NUMBERS) * camera + number)
        rotation = _rotation(self.numbers[at : at + 3])
        centre = self.numbers[at + 3 : at + 6] / 1000.0
        at = _POSE_NUMBERS * len(CAMERA_IDS) * len(SUBJECT_NUMBERS) + _LENS_NUMBERS * camera
        fx, fy, cx, cy, *lens = (float(value) for value in self.numbers[at : at + _LENS_NUMBERS])
        return Camera(
            name=camera_id,
            width=width,
            height=height,
            intrinsics=np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]),
            lens="human36m",
            distortion=tuple(lens),
            rotation=rotation,
            translation=-rotation @ centre,
            session=subject,
        )


def canonical_action(base: str) -> str:
    """The action that a file name means, under the one name that all subjects share ("TakingPhoto 1": "Photo")."""
    action = re.sub(r" \d+$", "", base)
    return _OTHER_NAMES.get(action, action)


def find_metadata(raw: Path) -> Path:
    """The metadata file of a release: in the raw folder or one folder below."""
    for path in (raw / "metadata.xml", *sorted(raw.glob("*/metadata.xml"))):
        if path.is_file():
            return path
    raise MissingFileError("metadata.xml not found", got=raw / "metadata.xml", hint=_HINT)


def read_metadata(path: Path) -> Metadata:
    """The metadata of a release; MissingFileError or FormatError."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise MissingFileError("metadata.xml not found", got=path, hint=_HINT) from None
    except (ElementTree.ParseError, UnicodeDecodeError, OSError) as error:
        raise FormatError("metadata.xml is not XML", got=f"{path} ({error})", hint=_HINT) from error
    return Metadata(path, _read_takes(path, root), _read_action_names(root), _read_numbers(path, root))


def _read_takes(path: Path, root: ElementTree.Element) -> dict[str, dict[str, Take]]:
    table = root.find("mapping")
    rows = [[(cell.text or "").strip() for cell in row] for row in table] if table is not None else []
    if not rows or len(rows[0]) < 3:
        raise FormatError("metadata.xml has no table `mapping` of file names", got=path, hint=_HINT)
    subjects = rows[0][2:]
    takes: dict[str, dict[str, Take]] = {subject: {} for subject in subjects}
    for row in rows[1:]:
        if len(row) < 3 or not (row[0].isdecimal() and row[1].isdecimal()):
            continue  # the rows of names and image sizes below the table proper
        action_id, trial = int(row[0]), int(row[1])
        for subject, base in zip(subjects, row[2:], strict=False):
            if base and not base.startswith("_"):
                takes[subject][base] = Take(base, canonical_action(base), trial, action_id)
    if not any(takes.values()):
        raise FormatError("the table `mapping` of metadata.xml names no files", got=path, hint=_HINT)
    return takes


def _read_action_names(root: ElementTree.Element) -> dict[int, str]:
    names = root.find("actionnames")
    return {} if names is None else {place + 1: (name.text or "").strip() for place, name in enumerate(names)}


def _read_numbers(path: Path, root: ElementTree.Element) -> np.ndarray:
    text = root.findtext("w0")
    if text is None:
        raise FormatError("metadata.xml has no camera numbers `w0`", got=path, hint=_HINT)
    try:
        numbers = np.array([float(number) for number in text.strip().strip("[]").split()])
    except ValueError as error:
        raise FormatError(
            "`w0` of metadata.xml is not a list of numbers", got=f"{path} ({error})", hint=_HINT
        ) from error
    if len(numbers) != _W0_NUMBERS or not np.isfinite(numbers).all():
        raise FormatError(
            f"`w0` of {path} does not hold the cameras",
            got=f"{len(numbers)} numbers, {int(np.isfinite(numbers).sum())} of them finite",
            accepted=f"{_W0_NUMBERS} finite numbers",
            hint=_HINT,
        )
    return numbers


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rx Ry Rz of right-handed turns in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    return about_x @ about_y @ about_z
