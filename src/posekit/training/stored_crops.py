"""The encoded pictures of a data set, brought into crops of a network's size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import h5py
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from posekit.artifacts.files import Artifact
from posekit.errors import FormatError, InputError

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_JPEG = (0xFF, 0xD8)


@dataclass(frozen=True, eq=False)
class StoredCrops:
    """The stored pictures of some rows of a data set, from any thread.

    h5py lets one thread at a time into HDF5. Without its cache of chunks HDF5 reads the bytes of a picture alone instead of
    the whole chunk around them, so that this takes some 20 microseconds.
    """

    path: Path
    rows: Int[np.ndarray, " N"]
    crop_from_image: Float[np.ndarray, "N 2 3"]
    present: Bool[np.ndarray, " N"]
    _begin: Int[np.ndarray, " N"]
    _end: Int[np.ndarray, " N"]
    _file: h5py.File
    _bytes: h5py.Dataset

    @staticmethod
    def of(dataset: Artifact, rows: Int[np.ndarray, " N"]) -> StoredCrops:
        """Those of rows of the table `samples`; InputError for a data set without pictures."""
        if not (dataset.has("samples", "image") and dataset.has("samples", "crop_from_image")):
            raise InputError(
                "the data set holds no pictures to learn from", got=dataset.path, hint="Preprocess it with --crops"
            )
        file = h5py.File(dataset.path, "r", rdcc_nbytes=0)
        offsets = file["samples/image/offsets"][:]
        begin, end = offsets[rows], offsets[rows + 1]
        maps = dataset.read("samples", "crop_from_image", rows)
        present = (end > begin) & np.isfinite(maps).all((1, 2))
        return StoredCrops(dataset.path, rows, maps, present, begin, end, file, file["samples/image/values"])

    def select(self, places: Int[np.ndarray, " M"]) -> StoredCrops:
        """Some of them; the open file is shared."""
        names = ("rows", "crop_from_image", "present", "_begin", "_end")
        return replace(self, **{name: getattr(self, name)[places] for name in names})

    def warped(
        self, place: int, target_from_crop: Float[np.ndarray, "2 3"], size: int, gain: Float[np.ndarray, "3"] | None
    ) -> UInt8[np.ndarray, "S S 3"]:
        """A picture as `warped_picture` makes it; FormatError names the row of a broken one."""
        encoded = self._bytes[self._begin[place] : self._end[place]]
        try:
            return warped_picture(encoded, target_from_crop, size, gain)
        except FormatError as error:
            raise FormatError(
                f"the picture of row {self.rows[place]} of the samples of {self.path} cannot be decoded",
                got=error.got,
                accepted=error.accepted,
                hint="Preprocess the data set again, with --force",
            ) from error

    def close(self) -> None:
        """Closes the file, for all that share it."""
        self._file.close()


def warped_picture(
    encoded: UInt8[np.ndarray, " N"],
    target_from_source: Float[np.ndarray, "2 3"],
    size: int,
    gain: Float[np.ndarray, "3"] | None = None,
) -> UInt8[np.ndarray, "S S 3"]:
    """An encoded picture through an affine map of pixels, as a square RGB picture; black outside.

    A picture that shrinks to less than half is first shrunk to a half, a quarter or an eighth, so that fine texture does
    not alias; a JPEG while it is decoded, which takes less time than decoding it whole. `gain` multiplies the channels.
    Raises FormatError for bytes that are no picture.
    """
    block = _block(target_from_source)
    reduced = block > 1 and tuple(encoded[:2]) == _JPEG
    source = cv2.imdecode(encoded, _REDUCED[block] if reduced else cv2.IMREAD_COLOR) if encoded.size else None
    if source is None:
        raise FormatError("a stored picture cannot be decoded", got=f"{encoded.size} bytes", accepted="JPEG or PNG")
    if block > 1:
        if not reduced:
            source = cv2.resize(source, None, fx=1.0 / block, fy=1.0 / block, interpolation=cv2.INTER_AREA)
        # Pixel k of the shrunk picture is the mean of the pixels from block * k on.
        centre = target_from_source @ [(block - 1) / 2.0, (block - 1) / 2.0, 1.0]
        target_from_source = np.column_stack([block * target_from_source[:, :2], centre])
    # OpenCV warps four channels in half the time that it needs for three.
    crop = cv2.warpAffine(cv2.cvtColor(source, cv2.COLOR_BGR2BGRA), target_from_source, (size, size))
    rgb = cv2.cvtColor(crop, cv2.COLOR_BGRA2RGB)
    return rgb if gain is None else cv2.transform(rgb, np.diag(gain))


def _block(target_from_source: Float[np.ndarray, "2 3"]) -> int:
    """The largest power of two, up to eight, that leaves a picture no coarser than the result."""
    (xx, xy, _), (yx, yy, _) = target_from_source.tolist()
    shrink = 1.0 / math.sqrt(max(abs(xx * yy - xy * yx), 1e-12))
    return 1 << min(3, max(0, math.floor(math.log2(shrink) + 1e-9)))


def pixels_from_stored(
    unit_from_image: Float[np.ndarray, "N 2 3"], stored_from_image: Float[np.ndarray, "N 2 3"], size: int
) -> Float[np.ndarray, "N 2 3"]:
    """Maps from pixels of stored crops to those of crops of `size`, where u = (2 x + 1) / size - 1."""
    known = np.isfinite(stored_from_image).all((1, 2))[:, None, None]
    stored = np.where(known, stored_from_image, np.eye(2, 3))
    linear = unit_from_image[..., :2] @ np.linalg.inv(stored[..., :2])
    shift = unit_from_image[..., 2:] - linear @ stored[..., 2:]
    return size / 2.0 * np.concatenate([linear, shift + 1.0 - 1.0 / size], axis=2)
