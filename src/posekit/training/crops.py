"""Batches of person crops with their labels and registered bodies, for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.mirror import mirror_of
from posekit.body.smpl_file import BodyData
from posekit.errors import DataError, FormatError, InputError
from posekit.geometry.conventions import CAMERA_FROM_UPRIGHT_BODY
from posekit.registration.bodies import BodyRows, KeyedRows, pack_keys
from posekit.registration.labels import LabelReader
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import WEAK_PROJECTION, Targets
from posekit.training.augmentation import Augmentation, CropChange, Sides
from posekit.training.crop_labels import POINT_BYTES, CropLabels, Points

POINTS = 500
"""Correspondences of a sample, at most."""

_KEY = ("sequence", "frame", "person", "camera")


@dataclass(frozen=True, eq=False)
class CropBatch:
    """Crops, and what is known of the people in them, in normalised units of these very crops.

    `images` are RGB. `fits` are resting bodies where `fitted` is not set. `samples` are rows of the source.
    """

    images: UInt8[Tensor, "B S S 3"]
    targets: Targets
    fits: BodyParameters
    fitted: Bool[Tensor, " B"]
    samples: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device) -> CropBatch:
        """The same batch on a device."""
        fits = BodyParameters(*(getattr(self.fits, name).to(device) for name in _PARTS))
        return CropBatch(
            self.images.to(device),
            self.targets.to(device),
            fits,
            self.fitted.to(device),
            self.samples.to(device),
        )


@dataclass(frozen=True, eq=False)
class CropPart:
    """The bodies of one data set, one view of each, with their labels (weak perspective) and fits, if there are any.

    With `require_fit` only bodies whose fit is ok are taken.
    """

    dataset: Artifact
    labels: LabelReader
    bodies: BodyRows
    fits: Artifact | None = None
    require_fit: bool = False


class CropSource:
    """Samples of one or several data sets, one after the other.

    All readers must speak of the same joints. `body` is the one that vertices and fits mean. Samples without a stored
    picture are left out; `without_picture` counts them. A batch depends on its arguments and the seed alone, and may be
    made on any thread.
    """

    def __init__(
        self,
        parts: Sequence[CropPart],
        size: int,
        augmentation: Augmentation | None,
        seed: int,
        body: BodyData,
        *,
        points: int = POINTS,
        point_bytes: int = POINT_BYTES,
    ) -> None:
        self.size = size
        self.augmentation = augmentation
        self.joint_names = _common_joints(parts)
        self._seed = seed
        self._most_points = points
        self._sides = Sides.of(self.joint_names, mirror_of(body))
        stored = [_StoredCrops(part) for part in parts]
        fits = [_fits_of(part, body) for part in parts]
        chosen = [
            np.flatnonzero(crops.present & (found.fitted if part.require_fit else True))
            for part, crops, found in zip(parts, stored, fits, strict=True)
        ]
        self.without_picture = sum(int((~crops.present).sum()) for crops in stored)
        self.part = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(chosen)])
        """The part of each sample."""
        self.place = np.concatenate([np.arange(len(rows)) for rows in chosen])
        self.bodies = [part.bodies.select(rows) for part, rows in zip(parts, chosen, strict=True)]
        """The bodies of each part that became samples, in the order of the samples."""
        if not len(self.part):
            raise DataError(
                "there is no sample to learn from",
                got=", ".join(str(part.dataset.path) for part in parts),
                hint="Look at the outcome of `posekit register`" if any(p.require_fit for p in parts) else None,
            )
        self._stored = [crops.select(rows) for crops, rows in zip(stored, chosen, strict=True)]
        self._labels = [
            CropLabels(part.labels, bodies, point_bytes) if len(bodies) else None
            for part, bodies in zip(parts, self.bodies, strict=True)
        ]
        self._table = _Table.of([labels for labels in self._labels if labels is not None])
        selected = [found.select(rows) for found, rows in zip(fits, chosen, strict=True)]
        self._fitted = torch.cat([found.fitted_tensor for found in selected])
        self._fits = _in_label_crops(selected, self._table.crops)
        from_image = np.concatenate([crops.crop_from_image for crops in self._stored])
        self._unit_from_stored = _chained(self._table.crops, from_image)

    def __len__(self) -> int:
        return len(self.part)

    def close(self) -> None:
        """Closes the files that pictures are read from."""
        for crops in self._stored:
            crops.close()

    def batch(self, samples: Int[np.ndarray, " B"], epoch: int) -> CropBatch:
        """Some samples, changed as the augmentation draws it for this epoch.

        Raises FormatError for a stored picture that cannot be decoded.
        """
        generators = [np.random.default_rng([self._seed, epoch, int(sample)]) for sample in samples]
        change = None if self.augmentation is None else self.augmentation.draw(generators)
        rows = torch.from_numpy(samples)
        targets = self._targets(samples, generators)
        fits = self._fits.select(rows)
        if change is not None:
            targets, fits = change.targets(targets, self._sides), change.bodies(fits, self._sides)
        return CropBatch(self._images(samples, change), targets, fits, self._fitted[rows], rows)

    def _targets(self, samples: Int[np.ndarray, " B"], generators: Sequence[np.random.Generator]) -> Targets:
        table = self._table
        count = len(samples)
        positions, weights, vertices = self._points(samples, generators)
        return Targets(
            projections=torch.tensor(WEAK_PROJECTION).expand(count, 1, 3, 4),
            keypoints=torch.from_numpy(table.keypoints[samples][:, None]),
            keypoint_weights=torch.from_numpy(table.keypoint_weights[samples][:, None]),
            joints=torch.from_numpy(table.joints[samples]),
            joint_weights=torch.from_numpy(table.joint_weights[samples]),
            points=torch.from_numpy(positions[:, None]),
            point_weights=torch.from_numpy(weights[:, None]),
            vertices=torch.from_numpy(vertices[:, None]),
            linked=torch.zeros(count, dtype=torch.bool),
            weak=True,
        )

    def _points(
        self, samples: Int[np.ndarray, " B"], generators: Sequence[np.random.Generator]
    ) -> tuple[Float[np.ndarray, "B N 2"], Float[np.ndarray, "B N"], Int[np.ndarray, "B N"]]:
        found: list[tuple[Points, slice] | None] = [None] * len(samples)
        for number in np.unique(self.part[samples]):
            labels = self._labels[number]
            assert labels is not None
            here = np.flatnonzero(self.part[samples] == number)
            points, bodies = labels.points(self.place[samples[here]])
            for place, body in zip(here, bodies, strict=True):
                found[place] = (points, points.rows(int(body)))
        pieces = [piece for piece in found if piece is not None]
        count = min(self._most_points, max(rows.stop - rows.start for _, rows in pieces))
        positions = np.zeros((len(samples), count, 2), np.float32)
        weights = np.zeros((len(samples), count), np.float32)
        vertices = np.zeros((len(samples), count), np.int64)
        for row, ((points, rows), generator) in enumerate(zip(pieces, generators, strict=True)):
            there = rows.stop - rows.start
            chosen: slice | np.ndarray = rows
            if there > count:
                chosen = rows.start + np.sort(generator.choice(there, count, replace=False, shuffle=False))
            used = min(there, count)
            positions[row, :used] = points.positions[chosen]
            weights[row, :used] = points.weights[chosen]
            vertices[row, :used] = points.vertices[chosen]
        return positions, weights, vertices

    def _images(self, samples: Int[np.ndarray, " B"], change: CropChange | None) -> UInt8[Tensor, "B S S 3"]:
        maps = self._unit_from_stored[samples]
        if change is not None:
            maps = change.linear @ maps
        half = self.size / 2.0
        maps = half * maps
        maps[..., 2] += half - 0.5
        images = torch.empty((len(samples), self.size, self.size, 3), dtype=torch.uint8)
        pixels = images.numpy()
        for row, sample in enumerate(samples):
            crops, place = self._stored[self.part[sample]], int(self.place[sample])
            try:
                pixels[row] = warped(
                    crops.read(place), maps[row], self.size, None if change is None else change.gain[row]
                )
            except FormatError as error:
                raise FormatError(
                    f"the picture of row {crops.rows[place]} of {crops.path} cannot be used",
                    got=error.got,
                    hint="Preprocess the data set again",
                ) from error
        return images


_PARTS = ("pose", "segment_scales", "betas", "orientation", "translation", "scale")
_JPEG = (0xFF, 0xD8)


def warped(
    encoded: UInt8[np.ndarray, " N"],
    target_from_source: Float[np.ndarray, "2 3"],
    size: int,
    gain: Float[np.ndarray, "3"] | None = None,
) -> UInt8[np.ndarray, "S S 3"]:
    """An encoded picture through an affine map, as a square RGB picture; black outside.

    A picture that shrinks is first shrunk by a power of two that leaves it no coarser than the result: a JPEG while it is
    decoded, which takes less time than decoding it whole. Raises FormatError for bytes that are no picture.
    """
    shrink = 1.0 / np.sqrt(abs(np.linalg.det(target_from_source[:, :2])))
    block = 1 << min(3, max(0, int(np.log2(shrink) + 1e-9)))
    reduced = block > 1 and tuple(encoded[:2]) == _JPEG
    flags = _REDUCED[block] if reduced else cv2.IMREAD_COLOR
    source = cv2.imdecode(encoded, flags) if encoded.size else None
    if source is None:
        raise FormatError("an encoded picture cannot be read", got=f"{encoded.size} bytes")
    if block > 1:
        if not reduced:
            height, width = (side // block * block for side in source.shape[:2])
            source = cv2.resize(source[:height, :width], None, fx=1 / block, fy=1 / block, interpolation=cv2.INTER_AREA)
        # Pixel k of the shrunk picture is the mean of those from block * k on.
        shift = target_from_source[:, :2].sum(axis=1) * (block - 1) / 2.0 + target_from_source[:, 2]
        target_from_source = np.column_stack([block * target_from_source[:, :2], shift])
    crop = cv2.warpAffine(source, target_from_source, (size, size), flags=cv2.INTER_LINEAR)
    if gain is None:
        return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
    return cv2.transform(crop, np.diag(gain)[:, ::-1])


_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


class _StoredCrops:
    """The stored pictures of bodies, in a file handle of their own."""

    def __init__(self, part: CropPart) -> None:
        self.path = part.dataset.path
        if not (part.dataset.has("samples", "image") and part.dataset.has("samples", "crop_from_image")):
            raise InputError(
                "the data set holds no pictures to learn from", got=self.path, hint="Preprocess it with --crops"
            )
        self.rows = part.bodies.samples[:, 0]
        self.crop_from_image = part.dataset.read("samples", "crop_from_image", self.rows)
        # Without its cache of chunks HDF5 reads the bytes of a picture alone instead of the chunk around it.
        self._file = h5py.File(self.path, "r", rdcc_nbytes=0)
        self._values = self._file["samples/image/values"]
        offsets = self._file["samples/image/offsets"][:]
        self._begin, self._end = offsets[self.rows], offsets[self.rows + 1]
        self.present = (self._end > self._begin) & np.isfinite(self.crop_from_image).all(axis=(1, 2))

    def select(self, rows: Int[np.ndarray, " M"]) -> _StoredCrops:
        """Some of them, by index; the file stays shared."""
        chosen = object.__new__(_StoredCrops)
        chosen.path, chosen._file, chosen._values = self.path, self._file, self._values
        chosen.rows, chosen.crop_from_image, chosen.present = (
            part[rows] for part in (self.rows, self.crop_from_image, self.present)
        )
        chosen._begin, chosen._end = self._begin[rows], self._end[rows]
        return chosen

    def read(self, place: int) -> UInt8[np.ndarray, " N"]:
        """The encoded picture; h5py lets one thread at a time into HDF5, for some 20 microseconds."""
        return self._values[self._begin[place] : self._end[place]]

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, eq=False)
class _Fits:
    """Fitted bodies in the units of their own crops; resting ones where there is none."""

    parameters: BodyParameters
    fitted: Bool[np.ndarray, " N"]
    crops: Float[np.ndarray, "N 2 3"]

    @property
    def fitted_tensor(self) -> Bool[Tensor, " N"]:
        return torch.from_numpy(self.fitted)

    def select(self, rows: Int[np.ndarray, " M"]) -> _Fits:
        return _Fits(self.parameters.select(torch.from_numpy(rows)), self.fitted[rows], self.crops[rows])


def _fits_of(part: CropPart, body: BodyData) -> _Fits:
    count = len(part.bodies)
    resting = BodyParameters(
        pose=torch.zeros(count, body.joint_count, 3),
        segment_scales=torch.ones(count, body.joint_count),
        betas=torch.zeros(count, body.shapedirs.shape[-1]),
        orientation=torch.as_tensor(CAMERA_FROM_UPRIGHT_BODY).float().repeat(count, 1, 1),
        translation=torch.zeros(count, 3),
        scale=torch.ones(count),
    )
    crops = np.full((count, 2, 3), np.nan)
    if part.fits is None:
        return _Fits(resting, np.zeros(count, dtype=bool), crops)
    if not part.fits.has("fits", "crop_from_image"):
        raise InputError(
            "bodies fitted to posed cameras are no targets for pictures",
            got=part.fits.path,
            hint="Register with --camera weak",
        )
    keys = KeyedRows(pack_keys(*(part.fits.read("fits", name) for name in _KEY)))
    rows = keys.find(pack_keys(*(getattr(part.bodies, name) for name in _KEY)))
    ok = (rows >= 0) & part.fits.read("fits", "ok")[rows.clip(0)] if part.fits.rows("fits") else rows >= 0
    for name in _PARTS:
        getattr(resting, name)[torch.from_numpy(ok)] = torch.from_numpy(part.fits.read("fits", name, rows[ok]))
    crops[ok] = part.fits.read("fits", "crop_from_image", rows[ok])
    return _Fits(resting, ok, crops)


def _in_label_crops(fits: Sequence[_Fits], crops: Float[np.ndarray, "N 2 3"]) -> BodyParameters:
    """The bodies in the units of the labels' crops: boxes may have changed since they were fitted."""
    joined = BodyParameters(*(torch.cat([getattr(part.parameters, name) for part in fits]) for name in _PARTS))
    theirs = np.concatenate([part.crops for part in fits])
    theirs = np.where(np.isfinite(theirs), theirs, crops)
    ratio = crops[:, 0, 0] / theirs[:, 0, 0]
    shift = np.zeros((len(crops), 3))
    shift[:, :2] = crops[:, :, 2] - ratio[:, None] * theirs[:, :, 2]
    return replace(
        joined,
        translation=(torch.from_numpy(ratio)[:, None] * joined.translation + torch.from_numpy(shift)).float(),
        scale=(torch.from_numpy(ratio) * joined.scale).float(),
    )


@dataclass(frozen=True, eq=False)
class _Table:
    """The labels of all samples but their correspondences."""

    keypoints: Float[np.ndarray, "N J 2"]
    keypoint_weights: Float[np.ndarray, "N J"]
    joints: Float[np.ndarray, "N J 3"]
    joint_weights: Float[np.ndarray, "N J 3"]
    crops: Float[np.ndarray, "N 2 3"]

    @staticmethod
    def of(labels: Sequence[CropLabels]) -> _Table:
        names = ("keypoints", "keypoint_weights", "joints", "joint_weights", "crops")
        return _Table(*(np.concatenate([getattr(part, name) for part in labels]) for name in names))


def _chained(b_from_image: Float[np.ndarray, "N 2 3"], c_from_image: Float[np.ndarray, "N 2 3"]) -> np.ndarray:
    """b_from_c."""
    inverse = np.linalg.inv(c_from_image[..., :2])
    linear = b_from_image[..., :2] @ inverse
    shift = b_from_image[..., 2:] - linear @ c_from_image[..., 2:]
    return np.concatenate([linear, shift], axis=2)


def _common_joints(parts: Sequence[CropPart]) -> tuple[str, ...]:
    names = {part.labels.source.joint_names for part in parts}
    if len(names) != 1:
        raise ValueError("the label readers of all parts must speak of the same joints")
    if not all(part.labels.source.weak for part in parts):
        raise ValueError("crops need labels under weak perspective")
    return names.pop()
