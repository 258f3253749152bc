"""Calibrations in OpenCV's FileStorage: EasyMocap's pair of files, and one file for each camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from posekit.datasets.calibration_checks import numbers
from posekit.errors import FormatError, MissingFileError
from posekit.records import Camera

_COEFFICIENT_COUNTS = (4, 5, 8)
_MATRIX_KEYS = ("camera_matrix", "cameraMatrix", "Camera_Matrix", "K", "M")
_DISTORTION_KEYS = ("distortion_coefficients", "Distortion_Coefficients", "distCoeffs", "dist_coeffs", "dist", "D")
_WIDTH_KEYS = ("image_width", "image_Width", "width", "W")
_HEIGHT_KEYS = ("image_height", "image_Height", "height", "H")
_ROTATION_KEYS = ("R", "rotation", "rotation_matrix", "Rot", "rvec")
_TRANSLATION_KEYS = ("T", "t", "translation", "translation_vector", "tvec")


def read_easymocap(path: Path) -> list[Camera]:
    """The cameras of EasyMocap's `intri.yml`, with the poses of `extri.yml` beside it when that is there.

    World -> camera, metres. Image sizes are 0 unless the file has H_ and W_ entries. `path` may name either file.
    """
    folder = path.parent
    intri = _sibling(folder, "intri", path)
    extri = next((folder / name for name in ("extri.yml", "extri.yaml") if (folder / name).is_file()), None)
    inner = _Storage(intri)
    outer = None if extri is None else _Storage(extri)
    names = inner.names()
    if not names:
        raise FormatError(f"{intri} names no cameras", accepted="a list `names`, or entries K_<camera>")
    return [_easymocap_camera(name, inner, outer) for name in names]


def read_camera_files(paths: Sequence[Path]) -> list[Camera]:
    """One camera from each OpenCV file, named like the file.

    `camera_matrix` and `distortion_coefficients` as OpenCV's own calibration sample writes them (and their usual spellings);
    R (matrix or Rodrigues vector) and T, world -> camera in metres, where there are poses.
    """
    return [_file_camera(path) for path in paths]


class _Storage:
    """A FileStorage opened for reading, with errors that name the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # From memory: cv2 reports a parse error of a file on stderr but of a string only by raising.
            text = path.read_text(encoding="utf-8-sig")
            self._storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
            opened = self._storage.isOpened() and not self._storage.root().empty()
        except (cv2.error, SystemError, UnicodeDecodeError) as error:
            raise FormatError("not a file of OpenCV's FileStorage", got=f"{path}: {str(error)[:120]}") from error
        if not opened:
            raise FormatError("not a file of OpenCV's FileStorage", got=path, accepted="%YAML:1.0 or <opencv_storage>")

    def names(self) -> list[str]:
        node = self._storage.getNode("names")
        if node.isSeq() and node.size():
            items = [node.at(i) for i in range(node.size())]
            return [item.string() if item.isString() else str(int(item.real())) for item in items]
        keys = list(self._storage.root().keys())
        return [key.removeprefix("K_") for key in keys if key.startswith("K_")]

    def matrix(self, *keys: str) -> np.ndarray | None:
        """The first of several spellings that is there."""
        for key in keys:
            node = self._storage.getNode(key)
            if node.empty():
                continue
            if node.isSeq():
                return np.array([node.at(i).real() for i in range(node.size())])
            try:
                values = node.mat()
            except cv2.error as error:
                raise FormatError(f"{self.path}: {key} is not a matrix") from error
            if values is None:
                raise FormatError(f"{self.path}: {key} is not a matrix")
            return np.asarray(values, dtype=np.float64)
        return None

    def need(self, what: str, *keys: str) -> np.ndarray:
        found = self.matrix(*keys)
        if found is None:
            raise FormatError(f"{self.path} has no {what}", accepted=list(keys))
        return found

    def size(self, keys: Sequence[str]) -> int:
        for key in keys:
            node = self._storage.getNode(key)
            if node.isInt() or node.isReal():
                return round(node.real())
        return 0

    def coefficients(self, *keys: str) -> tuple[float, ...]:
        values = self.need("distortion", *keys).ravel()
        if len(values) not in _COEFFICIENT_COUNTS:
            raise FormatError(
                f"{self.path}: wrong number of distortion coefficients",
                got=f"{len(values)} in {keys[0]}",
                accepted=list(_COEFFICIENT_COUNTS),
            )
        return tuple(float(value) for value in numbers(values, (len(values),), keys[0], self.path))


def _easymocap_camera(name: str, inner: _Storage, outer: _Storage | None) -> Camera:
    intrinsics = numbers(inner.need(f"K_{name}", f"K_{name}"), (3, 3), f"K_{name}", inner.path)
    rotation, translation = np.eye(3), np.zeros(3)
    if outer is not None:
        given = outer.need(f"rotation of camera {name}", f"Rot_{name}", f"R_{name}")
        rotation = _rotation(given, f"rotation of {name}", outer.path)
        translation = numbers(outer.need(f"T_{name}", f"T_{name}"), (3,), f"T_{name}", outer.path)
    return Camera(
        name=name,
        width=inner.size([f"W_{name}"]),
        height=inner.size([f"H_{name}"]),
        intrinsics=intrinsics,
        lens="opencv",
        distortion=inner.coefficients(f"dist_{name}", f"D_{name}"),
        rotation=rotation,
        translation=translation,
        posed=outer is not None,
    )


def _file_camera(path: Path) -> Camera:
    storage = _Storage(path)
    intrinsics = numbers(storage.need("camera matrix", *_MATRIX_KEYS), (3, 3), "camera matrix", path)
    given, shift = storage.matrix(*_ROTATION_KEYS), storage.matrix(*_TRANSLATION_KEYS)
    if (given is None) != (shift is None):
        raise FormatError(
            f"{path} has half a pose", got="R" if shift is None else "T", accepted="both R and T, or none"
        )
    posed = given is not None and shift is not None
    return Camera(
        name=path.stem,
        width=storage.size(_WIDTH_KEYS),
        height=storage.size(_HEIGHT_KEYS),
        intrinsics=intrinsics,
        lens="opencv",
        distortion=storage.coefficients(*_DISTORTION_KEYS),
        rotation=np.eye(3) if given is None else _rotation(given, "R", path),
        translation=np.zeros(3) if shift is None else numbers(shift, (3,), "T", path),
        posed=posed,
    )


def _rotation(given: np.ndarray, what: str, path: Path) -> np.ndarray:
    if given.size == 9:
        return numbers(given, (3, 3), what, path)
    return cv2.Rodrigues(numbers(given, (3,), what, path))[0]


def _sibling(folder: Path, stem: str, given: Path) -> Path:
    if given.stem.lower() == stem:
        return given
    for ending in (".yml", ".yaml"):
        if (folder / f"{stem}{ending}").is_file():
            return folder / f"{stem}{ending}"
    if given.stem.lower() == "extri":
        raise MissingFileError(f"{given} has poses only", got=folder, accepted=f"{stem}.yml beside it")
    return given
