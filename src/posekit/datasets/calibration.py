"""Calibrations of several cameras: which format a file has, and the checks that all formats share.

Formats: Qualisys `.qca.txt`, TOML as Pose2Sim and aniposelib write it, EasyMocap `intri.yml` with `extri.yml`, and OpenCV
files, one for each camera. All give world -> camera in metres with the lens model ``opencv``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from posekit.datasets.calibration_checks import checked_rig
from posekit.datasets.calibration_opencv import read_camera_files, read_easymocap
from posekit.datasets.calibration_qualisys import read_qualisys
from posekit.datasets.calibration_toml import read_toml
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.records import Camera

ACCEPTED = "Qualisys .qca.txt, Pose2Sim or aniposelib .toml, EasyMocap intri.yml and extri.yml, OpenCV .yml or .xml"
_FOLDERS = ("", "calibration", "calib", "cameras")
_OPENCV_ENDINGS = {".yml", ".yaml", ".xml"}

Reader = Callable[[], list[Camera]]


def find_calibration(folder: Path) -> Path:
    """The calibration file (or folder of files) of a recording.

    Looked for in the folder itself and in `calibration`, `calib` and `cameras` below it. Raises MissingFileError where there
    is none and InputError where there are several.
    """
    for name in _FOLDERS:
        place = folder / name
        found = _calibrations_in(place) if place.is_dir() else []
        if len(found) > 1:
            raise InputError(
                f"several calibrations in {place}", got=[path.name for path in found], hint="Name one: --calibration"
            )
        if found:
            return found[0]
    raise MissingFileError(
        "no calibration found",
        got=folder,
        accepted=ACCEPTED,
        hint="Put it beside the videos, or name it: --calibration",
    )


def read_calibration(path: Path) -> list[Camera]:
    """The cameras of a calibration file or folder, in its order.

    `width` and `height` are 0 where the format does not say them; `posed` is False where it gives intrinsics only.
    Raises MissingFileError when there is nothing, FormatError when it is no calibration or one that cannot be.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError("calibration not found", got=path, accepted=ACCEPTED)
    if path.is_dir():
        found = _calibrations_in(path)
        if not found:
            raise MissingFileError("no calibration in the folder", got=path, accepted=ACCEPTED)
        if len(found) > 1:
            raise InputError(f"several calibrations in {path}", got=[item.name for item in found], hint="Name one")
        if found[0] != path:
            return read_calibration(found[0])
        return checked_rig(read_camera_files(_opencv_files(path)), path)
    return checked_rig(_reader(path)(), path)


def pair_with_videos(cameras: Sequence[Camera], names: Sequence[str]) -> tuple[list[Camera], list[str]]:
    """One camera for every video name, in the order of the videos, and notes on how they were paired.

    By name where every video finds its own camera (`cam01` is `cam_01` and `Cam01`), else by order when the numbers agree.
    Raises FormatError when there are fewer cameras than videos, InputError when the pairs cannot be told.
    """
    if len(cameras) < len(names):
        raise FormatError(
            "the calibration has fewer cameras than there are videos",
            got=f"{len(cameras)} cameras ({', '.join(camera.name for camera in cameras)}), {len(names)} videos",
            accepted="a camera for every video",
            hint="Calibrate the missing cameras, or remove their videos",
        )
    by_name = {_plain(camera.name): camera for camera in cameras}
    if len(by_name) == len(cameras) and all(_plain(name) in by_name for name in names):
        paired = [by_name[_plain(name)] for name in names]
        spare = [camera.name for camera in cameras if camera not in paired]
        notes = [f"cameras of the calibration without a video, not used: {', '.join(spare)}"] if spare else []
        return [replace(camera, name=name) for camera, name in zip(paired, names, strict=True)], notes
    if len(cameras) != len(names):
        raise InputError(
            "it cannot be told which camera belongs to which video",
            got=f"cameras {', '.join(camera.name for camera in cameras)}; videos {', '.join(names)}",
            accepted="equal names, or equal numbers",
        )
    pairs = ", ".join(f"{name} = {camera.name}" for name, camera in zip(names, cameras, strict=True))
    renamed = [replace(camera, name=name) for camera, name in zip(cameras, names, strict=True)]
    return renamed, [f"cameras were paired with videos by order, their names differ: {pairs}"]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _calibrations_in(folder: Path) -> list[Path]:
    """Calibrations of a folder; the folder itself stands for a set of OpenCV files, `intri.yml` for the EasyMocap pair."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    named = [path for path in files if path.name.lower().endswith((".qca.txt", ".qca.xml"))]
    tomls = [path for path in files if path.suffix.lower() == ".toml" and b"matrix" in path.read_bytes()]
    pairs = [path for path in files if path.name.lower() in ("intri.yml", "intri.yaml")]
    if named or tomls or pairs:
        return named + tomls + pairs
    return [folder] if _opencv_files(folder) else []


def _opencv_files(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in _OPENCV_ENDINGS)
    return sorted(path for path in files if b"amera" in path.read_bytes()[:20000])


def _reader(path: Path) -> Reader:
    """The reader for a file, by its content rather than its name."""
    try:
        start = path.read_bytes()[:4096]
    except OSError as error:
        raise FormatError("the calibration cannot be read", got=f"{path}: {error}") from error
    text = start.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if not text:
        raise FormatError("the calibration is empty", got=path)
    if "<opencv_storage" in text:
        return lambda: read_camera_files([path])
    if text.startswith("<"):
        return lambda: read_qualisys(path)
    if text.startswith("%YAML") or path.suffix.lower() in (".yml", ".yaml"):
        if "opencv-matrix" in text and ("names:" in text or "K_" in text or path.name.lower().startswith("intri")):
            return lambda: read_easymocap(path)
        return lambda: read_camera_files([path])
    if path.suffix.lower() == ".toml" or text.startswith(("[", "#")):
        return lambda: read_toml(path)
    raise FormatError("not a calibration that posekit knows", got=path, accepted=ACCEPTED)
