"""Batches of person crops with their labels and registered bodies, for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.mirror import mirror_of
from posekit.body.smpl_file import BodyData
from posekit.errors import DataError, InputError
from posekit.registration.bodies import BodyRows
from posekit.registration.labels import LabelReader
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import WEAK_PROJECTION, Targets
from posekit.training.augmentation import Augmentation, CropChange, Sides
from posekit.training.crop_fits import PARTS, CropFits
from posekit.training.crop_labels import POINT_BYTES, CropLabels, Points
from posekit.training.stored_crops import StoredCrops

POINTS = 500
"""Correspondences of a sample, at most."""


@dataclass(frozen=True, eq=False)
class CropBatch:
    """Crops, and what is known of the people in them, in normalised units of these very crops.

    `images` are RGB. `targets` have one view each, under weak perspective. `fits` are resting bodies where `fitted` is not
    set. `samples` are rows of the source.
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
        return CropBatch(
            images=self.images.to(device),
            targets=self.targets.to(device),
            fits=BodyParameters(*(getattr(self.fits, name).to(device) for name in PARTS)),
            fitted=self.fitted.to(device),
            samples=self.samples.to(device),
        )


@dataclass(frozen=True, eq=False)
class CropPart:
    """Bodies of one data set, one view of each, with their labels (weak perspective) and, if there are any, their fits.

    With `require_fit` only bodies whose fit is ok are taken.
    """

    dataset: Artifact
    labels: LabelReader
    bodies: BodyRows
    fits: Artifact | None = None
    require_fit: bool = False


class CropSource:
    """Samples of one or several data sets, one after the other.

    All readers must speak of the same joints (ValueError). `body` is the one whose vertices labels and fits mean. Bodies
    without a stored picture are left out; `without_picture` counts them. `bodies` are those of each part that became
    samples, in the samples' order, `part` says which part each sample belongs to, and `crops` leads from pixels of its
    image to normalised crop units as they are without augmentation.

    A batch depends on its arguments and on the seed alone, and may be made by any thread. Raises InputError for parts that
    cannot be used, DataError when no sample is left.
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
        _check(parts, body)
        self.size = size
        self.augmentation = augmentation
        self.joint_names = parts[0].labels.source.joint_names
        self._seed = seed
        self._most_points = points
        self._sides = Sides.of(self.joint_names, mirror_of(body))
        stored = [StoredCrops.of(part.dataset, part.bodies.samples[:, 0]) for part in parts]
        fits = [CropFits.of(part.bodies, part.fits, body) for part in parts]
        chosen = [
            np.flatnonzero(crops.present & (found.fitted.numpy() | (not part.require_fit)))
            for part, crops, found in zip(parts, stored, fits, strict=True)
        ]
        self.without_picture = sum(int((~crops.present).sum()) for crops in stored)
        if not sum(map(len, chosen)):
            raise _nothing_left(parts)
        self.part = np.repeat(np.arange(len(parts)), [len(rows) for rows in chosen])
        self._place = np.concatenate([np.arange(len(rows)) for rows in chosen])
        self.bodies = [part.bodies.select(rows) for part, rows in zip(parts, chosen, strict=True)]
        self._stored = [crops.select(rows) for crops, rows in zip(stored, chosen, strict=True)]
        self._labels = [
            CropLabels(part.labels, bodies, point_bytes) for part, bodies in zip(parts, self.bodies, strict=True)
        ]
        self._keypoints, self._keypoint_weights, self._joints, self._joint_weights, self.crops = (
            np.concatenate(column) for column in zip(*(labels.columns for labels in self._labels), strict=True)
        )
        found = CropFits.joined([found.select(rows) for found, rows in zip(fits, chosen, strict=True)])
        self._fits, self._fitted = found.in_crops(self.crops), found.fitted
        self._unit_from_stored = _chained(self.crops, np.concatenate([c.crop_from_image for c in self._stored]))

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
        rows = torch.tensor(samples)
        targets, fits = self._targets(samples, generators), self._fits.select(rows)
        if change is not None:
            targets, fits = change.targets(targets, self._sides), change.bodies(fits, self._sides)
        return CropBatch(self._images(samples, change), targets, fits, self._fitted[rows], rows)

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
            gain = None if change is None else change.gain[row]
            stored, place = self._stored[self.part[sample]], int(self._place[sample])
            pixels[row] = stored.warped(place, maps[row], self.size, gain)
        return images

    def _targets(self, samples: Int[np.ndarray, " B"], generators: Sequence[np.random.Generator]) -> Targets:
        positions, weights, vertices = self._points(samples, generators)
        return Targets(
            projections=torch.tensor(WEAK_PROJECTION).repeat(len(samples), 1, 1, 1),
            keypoints=torch.from_numpy(self._keypoints[samples][:, None]),
            keypoint_weights=torch.from_numpy(self._keypoint_weights[samples][:, None]),
            joints=torch.from_numpy(self._joints[samples]),
            joint_weights=torch.from_numpy(self._joint_weights[samples]),
            points=torch.from_numpy(positions[:, None]),
            point_weights=torch.from_numpy(weights[:, None]),
            vertices=torch.from_numpy(vertices[:, None]),
            linked=torch.zeros(len(samples), dtype=torch.bool),
            weak=True,
        )

    def _points(
        self, samples: Int[np.ndarray, " B"], generators: Sequence[np.random.Generator]
    ) -> tuple[Float[np.ndarray, "B N 2"], Float[np.ndarray, "B N"], Int[np.ndarray, "B N"]]:
        """Correspondences of samples, padded to one number; of those with too many a random choice."""
        found: dict[int, tuple[Points, slice]] = {}
        parts = self.part[samples]
        for number in np.unique(parts):
            here = np.flatnonzero(parts == number)
            points, bodies = self._labels[number].points(self._place[samples[here]])
            found |= {int(row): (points, points.rows(int(b))) for row, b in zip(here, bodies, strict=True)}
        count = min(self._most_points, max((rows.stop - rows.start for _, rows in found.values()), default=0))
        positions = np.zeros((len(samples), count, 2), np.float32)
        weights = np.zeros((len(samples), count), np.float32)
        vertices = np.zeros((len(samples), count), np.int64)
        for row, (points, rows) in found.items():
            there = rows.stop - rows.start
            chosen: slice | np.ndarray = rows
            if there > count:
                chosen = rows.start + np.sort(generators[row].choice(there, count, replace=False, shuffle=False))
            used = min(there, count)
            positions[row, :used] = points.positions[chosen]
            weights[row, :used] = points.weights[chosen]
            vertices[row, :used] = points.vertices[chosen]
        return positions, weights, vertices


def _chained(
    unit_from_image: Float[np.ndarray, "N 2 3"], crop_from_image: Float[np.ndarray, "N 2 3"]
) -> Float[np.ndarray, "N 2 3"]:
    """unit_from_crop."""
    linear = unit_from_image[..., :2] @ np.linalg.inv(crop_from_image[..., :2])
    return np.concatenate([linear, unit_from_image[..., 2:] - linear @ crop_from_image[..., 2:]], axis=2)


def _check(parts: Sequence[CropPart], body: BodyData) -> None:
    if len({part.labels.source.joint_names for part in parts}) != 1:
        raise ValueError("the label readers of all parts must speak of the same joints, in one order")
    for part in parts:
        if not part.labels.source.weak or part.bodies.samples.shape[1] != 1:
            raise ValueError("crops need labels under weak perspective, with one view of each body")
        dense = part.labels.source.dense
        meant = None if dense is None else dense.header.facts.get("body_digest")
        if dense is not None and meant is not None and meant != body.digest:
            raise InputError(
                f"the correspondences of {dense.path} name vertices of another body",
                got=f"digest {body.digest[:12]}",
                accepted=str(meant)[:12],
                hint="Give the body that they were made with: --body FILE",
            )


def _nothing_left(parts: Sequence[CropPart]) -> DataError:
    return DataError(
        "no sample is left to learn from",
        got=", ".join(str(part.dataset.path) for part in parts),
        hint="Look at the fits with `posekit report`: none is ok" if any(part.require_fit for part in parts) else None,
    )
