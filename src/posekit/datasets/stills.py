"""Single picture files of data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from posekit.errors import FormatError, MissingFileError

_END_OF_JPEG = b"\xff\xd9"
_TAIL = 4096


def read_still(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A picture (RGB), as stored. Raises MissingFileError without a file, FormatError where it is damaged."""
    image = _decoded(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def read_grey(path: Path) -> UInt8[np.ndarray, "H W"]:
    """A picture of one channel, as masks are kept; of others the grey values. Raises as `read_still`."""
    return np.asarray(_decoded(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION))


def _decoded(path: Path, flags: int) -> np.ndarray:
    if not path.is_file():
        raise MissingFileError("picture not found", got=path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FormatError("a picture cannot be read", got=f"{path}: {error}") from error
    # Decoders paint what is missing of a truncated file grey and say nothing.
    if path.suffix.lower() in (".jpg", ".jpeg") and _END_OF_JPEG not in content[-_TAIL:]:
        raise FormatError("a picture is cut short", got=path, hint="Copy it from its source again")
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if image is None:
        raise FormatError("a picture cannot be read", got=path, accepted="JPEG or PNG")
    return np.asarray(image)
