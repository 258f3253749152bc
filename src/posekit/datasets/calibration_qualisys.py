"""Calibrations of Qualisys Track Manager: `.qca.txt`, XML in spite of its name."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from posekit.datasets.calibration_checks import numbers
from posekit.datasets.calibration_images import rotated_quarter
from posekit.errors import FormatError
from posekit.geometry.conventions import METRES_PER_MILLIMETRE, OPENCV_FROM_OPENGL_CAMERA
from posekit.records import Camera

_SUBPIXELS = 64.0
_FIELDS = ("fov_video", "fov_video_max", "fov_marker", "fov_marker_max")
_VIDEO_MODELS = ("video", "hybrid", "none")
_MATRIX = tuple(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3))


def read_qualisys(path: Path) -> list[Camera]:
    """The video cameras of a Qualisys calibration; cameras for markers only, or marked inactive, are left out.

    Focal lengths and centres are 1/64 px, positions millimetres, and the camera looks along -z with y up. Distortion
    coefficients are those of OpenCV and are *not* divided by 64 as Pose2Sim does: the two are indistinguishable for a person
    in the middle of the picture (0.01 px of median reprojection error on a four-camera recording), but the values of such
    files (k1 = -0.05, k2 = 0.14) are those of a real lens, and a 64th of them would be no lens at all.
    """
    root = _root(path)
    elements = root.findall("cameras/camera")
    if root.tag != "calibration" or not elements:
        raise FormatError(
            "not a Qualisys calibration",
            got=f"{path} (XML <{root.tag}>)",
            accepted="<calibration><cameras><camera ...>",
        )
    used = [element for element in elements if _is_video(element)]
    if not used:
        models = sorted({element.get("model", "") for element in elements})
        raise FormatError(f"no active video camera in {path}", got=models, accepted="models with video or hybrid")
    return [_as_seen(_camera(element, path), _quarter_turns(element, path)) for element in used]


def _root(path: Path) -> ElementTree.Element:
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise FormatError("the calibration declares XML entities", got=path, accepted="plain XML")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise FormatError("the calibration is not XML", got=f"{path}: {error}") from error


def _is_video(element: ElementTree.Element) -> bool:
    model = element.get("model", "none").lower()
    return element.get("active", "1") != "0" and any(word in model for word in _VIDEO_MODELS)


def _quarter_turns(element: ElementTree.Element, path: Path) -> int:
    degrees = float(numbers(element.get("viewrotation", "0"), (), "viewrotation", path))
    if degrees % 90:
        raise FormatError(f"{path}: viewrotation of a camera", got=degrees, accepted="0, 90, 180 or 270")
    return int(degrees // 90) % 4


def _as_seen(camera: Camera, quarter_turns: int) -> Camera:
    """The camera of the exported pictures, which the program turns clockwise by `viewrotation`."""
    for _ in range(quarter_turns):
        camera = rotated_quarter(camera)
    return camera


def _camera(element: ElementTree.Element, path: Path) -> Camera:
    name = element.get("serial", "")
    if not name:
        raise FormatError(f"{path}: a camera has no serial", accepted="attribute serial")
    where = f"camera {name}"
    field = next((found for tag in _FIELDS if (found := element.find(tag)) is not None), None)
    left, top, right, bottom = _values(field, ("left", "top", "right", "bottom"), f"{where} fov_video", path)
    transform = element.find("transform")
    marker_camera = _values(transform, _MATRIX, f"{where} transform", path).reshape(3, 3)
    centre = _values(transform, ("x", "y", "z"), f"{where} transform", path) * METRES_PER_MILLIMETRE
    rotation = OPENCV_FROM_OPENGL_CAMERA @ marker_camera
    lens = element.find("intrinsic")
    names = ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV", "skew")
    fu, fv, cu, cv, skew = _values(lens, names, f"{where} intrinsic", path) / _SUBPIXELS
    # "tangental" is how the format spells it.
    coefficients = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
    k1, k2, p1, p2 = _values(lens, coefficients, f"{where} intrinsic", path)
    k3 = (
        float(numbers(lens.get("radialDistortion3", "0"), (), f"{where} radialDistortion3", path))
        if lens is not None
        else 0.0
    )
    return Camera(
        name=name,
        width=int(right - left + 1),
        height=int(bottom - top + 1),
        intrinsics=np.array([[fu, skew, cu - left], [0.0, fv, cv - top], [0.0, 0.0, 1.0]]),
        lens="opencv",
        distortion=(float(k1), float(k2), float(p1), float(p2), k3),
        rotation=rotation,
        translation=-rotation @ centre,
    )


def _values(element: ElementTree.Element | None, keys: tuple[str, ...], what: str, path: Path) -> np.ndarray:
    missing = [key for key in keys if element is None or element.get(key) is None]
    if element is None or missing:
        raise FormatError(f"{path}: {what} is incomplete", got=f"no {', '.join(missing)}", accepted=list(keys))
    return numbers([element.get(key) for key in keys], (len(keys),), what, path)
