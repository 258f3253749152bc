"""Own recordings: videos of several cameras, their key points and their calibration in one folder.

::

    recording/
      videos/cam01.mp4 ...                  or videos/cam01/*.jpg, or images/cam01/*.jpg
      openpose/cam01/*.json ...             or pose/cam01_json/*.json, as Pose2Sim has it
      calibration.qca.txt                   or any other format of `posekit.datasets.calibration`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posekit.datasets.calibration import find_calibration, read_calibration
from posekit.datasets.media import IMAGE_ENDINGS, VIDEO_ENDINGS, natural_key
from posekit.datasets.openpose import KeypointFolder, keypoint_files
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.records import Camera

VIDEO_FOLDERS = ("videos", "images", "")
KEYPOINT_FOLDERS = ("pose-sync", "openpose", "pose", "keypoints", "annots")

People = Float[np.ndarray, "_ J 3"]


@dataclass(frozen=True)
class Recording:
    """What a folder holds: for every camera a video (file or folder of frames) and a folder of key points, in one order."""

    root: Path
    names: tuple[str, ...]
    videos: tuple[Path, ...]
    keypoints: tuple[Path, ...]
    calibration: Path
    notes: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        """All input files below the root."""
        found: list[Path] = []
        for video in self.videos:
            found += sorted(_images(video)) if video.is_dir() else [video]
        for folder in self.keypoints:
            found += keypoint_files(folder)
        return found

    def calibration_files(self) -> list[Path]:
        """The calibration's own files."""
        if self.calibration.is_dir():
            return sorted(path for path in self.calibration.iterdir() if path.is_file())
        others = (self.calibration.with_name(name) for name in ("extri.yml", "extri.yaml"))
        beside = [path for path in others if path.is_file()] if self.calibration.stem.lower() == "intri" else []
        return [self.calibration, *beside]


def find_recording(root: Path, calibration: Path | None = None) -> tuple[Recording | None, list[str]]:
    """The recording in a folder, or None, and everything that is missing or cannot be told.

    Raises MissingFileError only when there is no folder.
    """
    if not root.is_dir():
        raise MissingFileError("folder of the recording not found", got=root)
    problems: list[str] = []
    videos = _find_videos(root)
    if not videos:
        problems.append(f"no videos in {root / 'videos'} ({', '.join(sorted(VIDEO_ENDINGS))}, or folders of images)")
    names = [path.stem if path.is_file() else path.name for path in videos]
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems += [f"two videos are called {name}: {root}" for name in repeated]
    keypoints, notes, missing = _find_keypoints(root, names)
    problems += missing
    cameras: list[Camera] = []
    try:
        place = calibration or find_calibration(root)
        cameras = read_calibration(place)
    except InputError as error:
        problems.append(str(error))
    if cameras and len(cameras) < len(names):
        problems.append(f"{place} has {len(cameras)} cameras for {len(names)} videos")
    if len(names) == 1:
        problems.append(f"one video only ({names[0]}); several views are needed")
    if problems or not cameras:
        return None, problems
    return Recording(root, tuple(names), tuple(videos), tuple(keypoints), place, tuple(notes)), []


def aligned_frames(folders: Sequence[KeypointFolder], frames: int, joints: int) -> tuple[list[list[People]], int]:
    """The detections of each camera for the frames 0 ... `frames` - 1, and the number in file names that is frame 0.

    Files are numbered from 0 or, when no camera has a lower number, from the lowest one; a frame without a file has no people.
    """
    first = min(min(folder.frames) for folder in folders)
    nobody = np.zeros((0, joints, 3))
    detections = [[folder.frames.get(first + t, nobody) for t in range(frames)] for folder in folders]
    return [[people if people.shape[1] == joints else nobody for people in camera] for camera in detections], first


def _find_videos(root: Path) -> list[Path]:
    for name in VIDEO_FOLDERS:
        place = root / name
        if not place.is_dir():
            continue
        entries = [path for path in place.iterdir() if not path.name.startswith(".")]
        files = [path for path in entries if path.is_file() and path.suffix.lower() in VIDEO_ENDINGS]
        folders = [path for path in entries if name and path.is_dir() and _images(path)]
        if files or folders:
            return sorted(files or folders, key=lambda path: natural_key(path.name))
    return []


def _images(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")]


def _find_keypoints(root: Path, names: Sequence[str]) -> tuple[list[Path], list[str], list[str]]:
    """The folder of key points of every video, notes on how they were paired, and what is missing."""
    parent = next((root / name for name in KEYPOINT_FOLDERS if (root / name).is_dir()), None)
    if parent is None:
        return [], [], [f"no folder of key points in {root} ({', '.join(KEYPOINT_FOLDERS)})"]
    folders = [path for path in parent.iterdir() if path.is_dir() and any(path.glob("*.json"))]
    folders.sort(key=lambda path: natural_key(path.name))
    by_name = {_camera_of(path.name): path for path in folders}
    if all(_plain(name) in by_name for name in names):
        return [by_name[_plain(name)] for name in names], [], []
    if len(folders) == len(names) and not any(_plain(name) in by_name for name in names):
        pairs = ", ".join(f"{name} = {path.name}" for name, path in zip(names, folders, strict=True))
        return folders, [f"key points were paired with videos by order, their names differ: {pairs}"], []
    missing = [f"no key points for {name}: {parent / name} or {parent / (name + '_json')}" for name in names]
    return [], [], [line for name, line in zip(names, missing, strict=True) if _plain(name) not in by_name]


def _camera_of(folder: str) -> str:
    return _plain(folder).removesuffix("json").removesuffix("keypoints")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def check_lengths(lengths: Sequence[int], names: Sequence[str], largest_difference: float) -> int:
    """The number of frames that all videos have.

    Raises FormatError where a video is shorter than the longest by more than a share of it: such videos were cut short, or
    are of different takes.
    """
    shortest, longest = min(lengths), max(lengths)
    if shortest < (1 - largest_difference) * longest:
        shown = ", ".join(f"{name} {length}" for name, length in zip(names, lengths, strict=True))
        raise FormatError(
            "the videos differ too much in length",
            got=f"frames: {shown}",
            accepted=f"differences up to {largest_difference:.0%}",
            hint="A video may be cut short, or of another take; allow it with --max-length-difference",
        )
    return shortest
