"""Calibrations in TOML, one section for each camera, as Pose2Sim and aniposelib write them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.datasets.calibration_checks import numbers
from posekit.errors import FormatError
from posekit.records import Camera

_COEFFICIENT_COUNTS = (0, 2, 4, 5, 8)
_NEEDED = ("matrix", "distortions")


def read_toml(path: Path) -> list[Camera]:
    """The cameras of a TOML calibration; sections without a camera matrix (metadata, capture volume, boards) are skipped.

    `rotation` is a Rodrigues vector and `translation` metres, both world -> camera. A section without either gives
    intrinsics only.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError("the calibration is not TOML", got=f"{path}: {error}") from error
    sections = {key: value for key, value in content.items() if isinstance(value, dict) and set(_NEEDED) & set(value)}
    if not sections:
        raise FormatError(
            "no cameras in the TOML file",
            got=f"{path}: {', '.join(content) or 'empty'}",
            accepted="sections with matrix",
        )
    return [_camera(key, section, path) for key, section in sections.items()]


def _camera(key: str, section: dict[str, Any], path: Path) -> Camera:
    missing = [name for name in _NEEDED if name not in section]
    posed = "rotation" in section or "translation" in section
    missing += [name for name in ("rotation", "translation") if posed and name not in section]
    if missing:
        raise FormatError(f"{path}: section [{key}] is incomplete", got=f"no {', '.join(missing)}")
    if section.get("fisheye", False):
        raise FormatError(f"{path}: camera {key} has a fisheye lens", accepted="fisheye = false")
    width, height = numbers(section.get("size", (0, 0)), (2,), f"size of {key}", path)
    distortion = np.asarray(section["distortions"], dtype=object).ravel()
    if len(distortion) not in _COEFFICIENT_COUNTS:
        raise FormatError(
            f"{path}: wrong number of distortions of {key}", got=len(distortion), accepted=list(_COEFFICIENT_COUNTS)
        )
    coefficients = numbers(list(distortion), (len(distortion),), f"distortions of {key}", path)
    rotation, translation = np.eye(3), np.zeros(3)
    if posed:
        given = np.asarray(section["rotation"], dtype=object).size
        shape = (3, 3) if given == 9 else (3,)
        vector = numbers(section["rotation"], shape, f"rotation of {key}", path)
        rotation = vector if given == 9 else cv2.Rodrigues(vector)[0]
        translation = numbers(section["translation"], (3,), f"translation of {key}", path)
    return Camera(
        name=str(section.get("name", key)),
        width=round(float(width)),
        height=round(float(height)),
        intrinsics=numbers(section["matrix"], (3, 3), f"matrix of {key}", path),
        lens="opencv",
        distortion=tuple(float(value) for value in np.pad(coefficients, (0, max(0, 4 - len(coefficients))))),
        rotation=rotation,
        translation=translation,
        posed=posed,
    )
