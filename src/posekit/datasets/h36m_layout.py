"""What lies where in a raw folder of Human3.6M, and what its files are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from posekit.datasets.h36m_metadata import CAMERA_IDS, Metadata
from posekit.datasets.media import FrameFolder, FrameSource, VideoReader, is_image, natural_key, trailing_number
from posekit.errors import FormatError

Layout = Literal["auto", "videos", "frames"]

FIRST_FRAME_NUMBER = 1
"""The number in the names of extracted frames that stands for the first frame of the video."""

EXTRACTED_FPS = 50.0

_STEM = re.compile(r"^(S\d+)_(.+)\.(\d{8})(?:_(\d+))?$")
_NUMBERED_STEM = re.compile(r"^s_(\d+)_act_(\d+)_subact_(\d+)_ca_(\d+)$")


class Key(NamedTuple):
    """One sequence in one camera: subject ("S1"), file name without camera ("Directions 1"), camera id."""

    subject: str
    base: str
    camera: str


class Kind(NamedTuple):
    """One kind of label file: its folder below a subject's, its ending, the archive that brings it."""

    folder: str
    ending: str
    archive: str


D2 = Kind("MyPoseFeatures/D2_Positions", ".cdf", "Poses_D2_Positions")
D3_MONO = Kind("MyPoseFeatures/D3_Positions_mono", ".cdf", "Poses_D3_Positions_mono")
VIDEO = Kind("Videos", ".mp4", "Videos")
BOXES = Kind("MySegmentsMat/ground_truth_bb", ".mat", "BBoxes MAT")


@dataclass(frozen=True)
class ImageSource:
    """The images of one sequence in one camera: a video, or files of frames.

    `path` is relative to the raw folder: a video, a folder of frames, or a pattern where frames of many sequences share one.
    """

    path: str
    files: tuple[Path, ...] = ()

    def open(self, raw: Path) -> FrameSource:
        """The images, numbered as the rows of the pose files."""
        if not self.files:
            return VideoReader(raw / self.path)
        if any(trailing_number(file) < FIRST_FRAME_NUMBER for file in self.files):
            raise FormatError(
                "extracted frames are numbered from 0", got=raw / self.path, accepted="000001 for the first frame"
            )
        return FrameFolder(raw / self.path, fps=EXTRACTED_FPS, first=FIRST_FRAME_NUMBER, files=self.files)

    def files_read(self, raw: Path, stride: int) -> list[Path]:
        """The files that a reader of every `stride`-th frame opens."""
        if not self.files:
            return [raw / self.path]
        return [file for file in self.files if (trailing_number(file) - FIRST_FRAME_NUMBER) % stride == 0]


@dataclass(frozen=True)
class RawTree:
    """The files of a raw folder by what they are; `strays` lie where such files belong but have no such name."""

    raw: Path
    layout: Literal["videos", "frames"]
    images: Mapping[Key, ImageSource]
    labels: Mapping[Kind, Mapping[Key, Path]]
    strays: tuple[Path, ...] = field(default=())

    def has_folder(self, subject: str, kind: Kind) -> bool:
        """Whether the folder of a kind of file is there."""
        return (self.raw / subject / kind.folder).is_dir()


def scan(raw: Path, layout: Layout, subjects: tuple[str, ...], metadata: Metadata | None) -> RawTree:
    """Looks at the names of all files of some subjects; opens none of them."""
    strays: list[Path] = []
    labels = {
        kind: dict(_named_files(raw, subjects, kind, metadata, strays if kind is not BOXES else []))
        for kind in (D2, D3_MONO, BOXES)
    }
    videos: dict[Key, ImageSource] = {}
    used: Literal["videos", "frames"] = "frames"
    if layout in ("auto", "videos"):
        stray_videos: list[Path] = []
        files = dict(_named_files(raw, subjects, VIDEO, metadata, stray_videos))
        if files or stray_videos or layout == "videos":
            used = "videos"
            strays += stray_videos
            videos = {key: ImageSource(file.relative_to(raw).as_posix()) for key, file in files.items()}
    images = videos if used == "videos" else _scan_frames(raw, subjects, metadata)
    return RawTree(raw, used, images, labels, tuple(sorted(strays)))


def subjects_there(raw: Path) -> list[str]:
    """The subjects that have a folder, by number."""
    if not raw.is_dir():
        return []
    found = [folder.name for folder in raw.iterdir() if re.fullmatch(r"S\d+", folder.name) and folder.is_dir()]
    return sorted(found, key=natural_key)


def split_name(name: str) -> tuple[str, str] | None:
    """Base name and camera id of a stem such as "Directions 1.54138969"; None where it is no such stem."""
    base, dot, camera = name.rpartition(".")
    return (base, camera) if dot and base and camera in CAMERA_IDS else None


def _named_files(
    raw: Path, subjects: tuple[str, ...], kind: Kind, metadata: Metadata | None, strays: list[Path]
) -> Iterator[tuple[Key, Path]]:
    for subject in subjects:
        folder = raw / subject / kind.folder
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.name.startswith(("_", ".")) or file.suffix.lower() != kind.ending or not file.is_file():
                continue
            parts = split_name(file.stem)
            if parts is None or not _is_known(subject, parts[0], metadata):
                strays.append(file)
            else:
                yield Key(subject, *parts), file


def _is_known(subject: str, base: str, metadata: Metadata | None) -> bool:
    return metadata is None or base in metadata.takes.get(subject, {})


def _scan_frames(raw: Path, subjects: tuple[str, ...], metadata: Metadata | None) -> dict[Key, ImageSource]:
    """Frames in the layouts of common tools; where several are there, the first in this order counts."""
    found: dict[Key, ImageSource] = {}
    for key, folder in _frame_folders(raw, subjects, metadata):
        if key.subject in subjects and key not in found and _is_known(key.subject, key.base, metadata):
            files = sorted(file for file in folder.iterdir() if is_image(file.name))
            if files:
                found[key] = ImageSource(folder.relative_to(raw).as_posix(), tuple(files))
    for key, pattern, files in _flat_frames(raw):
        if key.subject in subjects and key not in found and _is_known(key.subject, key.base, metadata):
            found[key] = ImageSource(pattern, tuple(sorted(files)))
    return found


def _frame_folders(raw: Path, subjects: tuple[str, ...], metadata: Metadata | None) -> Iterator[tuple[Key, Path]]:
    parents = [raw, raw / "images"]
    for subject in subjects:
        parents += [raw / "images" / subject, raw / subject / "images"]
        for folder in _folders(raw / subject / "Videos"):
            parts = split_name(folder.name)
            if parts is not None:
                yield Key(subject, *parts), folder
    for parent in parents:
        for folder in _folders(parent):
            key = _key_of_stem(folder.name) or _key_of_numbers(folder.name, metadata)
            if key is not None:
                yield key, folder
    for subject in subjects:
        for parent in (raw / "processed" / subject, raw / subject):
            yield from _action_folders(parent, subject, metadata)


def _action_folders(parent: Path, subject: str, metadata: Metadata | None) -> Iterator[tuple[Key, Path]]:
    """`Directions-1/imageSequence/54138969/`: action by its full name, trial, camera."""
    if metadata is None:
        return
    ids = {name: action_id for action_id, name in metadata.action_names.items()}
    for folder in _folders(parent):
        action, _, trial = folder.name.rpartition("-")
        base = _base_name(metadata, subject, ids.get(action, -1), int(trial) if trial.isdecimal() else 0)
        for images in _folders(folder / "imageSequence"):
            if base is not None and images.name in CAMERA_IDS:
                yield Key(subject, base, images.name), images


def _flat_frames(raw: Path) -> Iterator[tuple[Key, str, list[Path]]]:
    """All frames in one folder, `images/S1_Directions_1.54138969_000001.jpg`."""
    groups: dict[str, list[Path]] = {}
    folder = raw / "images"
    for file in folder.iterdir() if folder.is_dir() else ():
        if is_image(file.name):
            groups.setdefault(file.stem.rpartition("_")[0], []).append(file)
    for stem, files in sorted(groups.items()):
        key = _key_of_stem(stem)
        if key is not None:
            yield key, f"images/{stem}_*", files


def _key_of_stem(stem: str) -> Key | None:
    match = _STEM.match(stem)
    if match is None or match[3] not in CAMERA_IDS or match[2].startswith("_"):
        return None
    return Key(match[1], match[2].replace("_", " "), match[3])


def _key_of_numbers(stem: str, metadata: Metadata | None) -> Key | None:
    match = _NUMBERED_STEM.match(stem)
    if match is None or metadata is None:
        return None
    subject, action_id, trial, camera = (int(number) for number in match.groups())
    base = _base_name(metadata, f"S{subject}", action_id, trial)
    if base is None or not 1 <= camera <= len(CAMERA_IDS):
        return None
    return Key(f"S{subject}", base, CAMERA_IDS[camera - 1])


def _base_name(metadata: Metadata, subject: str, action_id: int, trial: int) -> str | None:
    for base, take in metadata.takes.get(subject, {}).items():
        if (take.action_id, take.trial) == (action_id, trial):
            return base
    return None


def _folders(parent: Path) -> list[Path]:
    return sorted(folder for folder in parent.iterdir() if folder.is_dir()) if parent.is_dir() else []
