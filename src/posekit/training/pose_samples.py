"""Batches of person crops with joints in normalised coordinates of the crop, for Pose ResNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from posekit.errors import DataError
from posekit.skeleton.skeleton import Skeleton, mirrored
from posekit.training.augmentation import Augmentation, CropChange
from posekit.training.occlusion import Occluders, Occlusion
from posekit.training.pose_labels import PoseLabels
from posekit.training.stored_crops import StoredCrops, pixels_from_stored

EDGE = 0.5
"""Normalised coordinates of a crop go from minus to plus this."""


@dataclass(frozen=True, eq=False)
class PoseBatch:
    """Crops and the joints in them.

    `joints` are x and y in shares of the crop's side from its centre, and z from the root in the unit of the labels; zero
    where `weights` are. `covered` is the share of each person's box that something was pasted over.
    """

    images: UInt8[Tensor, "B S S 3"]
    joints: Float[Tensor, "B J 3"]
    weights: Float[Tensor, "B J 3"]
    covered: Float[Tensor, " B"]
    samples: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> PoseBatch:
        """The same batch on a device."""
        return PoseBatch(*(value.to(device, non_blocking=True) for value in vars(self).values()))


@dataclass(frozen=True, eq=False)
class PosePart:
    """Labelled rows of one data set and their stored pictures, row by row."""

    pictures: StoredCrops
    labels: PoseLabels


@dataclass(frozen=True, eq=False)
class PasteOver:
    """What is pasted over people, and how."""

    occlusion: Occlusion
    occluders: Occluders


class PoseSource:
    """Samples of one or several data sets, one after the other.

    Rows without a stored picture are left out; `without_picture` counts them. A batch depends on its arguments and on the
    seed alone, and may be made by any thread. Raises DataError when no sample is left.
    """

    def __init__(
        self,
        parts: Sequence[PosePart],
        size: int,
        skeleton: Skeleton,
        augmentation: Augmentation | None,
        seed: int,
        paste_over: PasteOver | None = None,
    ) -> None:
        chosen = [np.flatnonzero(part.pictures.present) for part in parts]
        self.without_picture = sum(len(part.labels) for part in parts) - sum(map(len, chosen))
        if not sum(map(len, chosen)):
            raise DataError("no sample is left to learn from", got="rows with labels and a stored picture: 0")
        self.size = size
        self.labels = PoseLabels.joined([part.labels.select(rows) for part, rows in zip(parts, chosen, strict=True)])
        self._pictures = [part.pictures.select(rows) for part, rows in zip(parts, chosen, strict=True)]
        self._part = np.repeat(np.arange(len(parts)), [len(rows) for rows in chosen])
        self._place = np.concatenate([np.arange(len(rows)) for rows in chosen])
        self._stored = np.concatenate([pictures.crop_from_image for pictures in self._pictures])
        self._augmentation, self._seed, self._paste_over = augmentation, seed, paste_over
        self._swap = np.array([skeleton.index(mirrored(name)) for name in skeleton.joints])

    def __len__(self) -> int:
        return len(self._part)

    def close(self) -> None:
        """Closes the files that pictures are read from."""
        for pictures in self._pictures:
            pictures.close()

    def batch(self, samples: Int[np.ndarray, " B"], epoch: int) -> PoseBatch:
        """Some samples, changed as the augmentation draws it for this epoch.

        Joints that a change moves out of the crop have no weight: the network cannot say them. Raises FormatError for a
        stored picture that cannot be decoded.
        """
        generators = [np.random.default_rng([self._seed, epoch, int(sample)]) for sample in samples]
        change = None if self._augmentation is None else self._augmentation.draw(generators)
        labels = self.labels.select(samples)
        joints, weights, crops = labels.joints, labels.weights, labels.crops
        if change is not None:
            joints, weights, crops = self._changed(change, labels)
        inside = (np.abs(joints) <= EDGE).all(axis=2, keepdims=True)
        weights = np.where(inside, weights, 0.0)
        images, covered = self._images(samples, crops, change, generators)
        return PoseBatch(
            images,
            torch.from_numpy(np.where(weights > 0, joints, 0.0).astype(np.float32)),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(covered),
            torch.tensor(samples),
        )

    def _changed(self, change: CropChange, labels: PoseLabels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        flip = change.flip[:, None, None]
        joints = np.where(flip, labels.joints[:, self._swap], labels.joints)
        weights = np.where(flip, labels.weights[:, self._swap], labels.weights)
        flat = np.einsum("bij,bnj->bni", change.linear, joints[..., :2])
        deep = change.zoom[:, None, None] * joints[..., 2:]
        return np.concatenate([flat, deep], axis=2), weights, change.linear @ labels.crops

    def _images(
        self,
        samples: Int[np.ndarray, " B"],
        crops: Float[np.ndarray, "B 2 3"],
        change: CropChange | None,
        generators: Sequence[np.random.Generator],
    ) -> tuple[UInt8[Tensor, "B S S 3"], Float[np.ndarray, " B"]]:
        images = torch.empty((len(samples), self.size, self.size, 3), dtype=torch.uint8)
        pixels, covered = images.numpy(), np.zeros(len(samples), dtype=np.float32)
        target_from_stored = pixels_from_stored(crops, self._stored[samples], self.size)
        for row, sample in enumerate(samples):
            pictures, place = self._pictures[self._part[sample]], int(self._place[sample])
            gain = None if change is None else change.gain[row]
            picture = pictures.warped(place, target_from_stored[row], self.size, gain)
            if self._paste_over is not None:
                box = box_in(crops[row], self.labels.boxes[sample], self.size)
                picture, covered[row] = self._paste_over.occlusion.paste(
                    self._paste_over.occluders, picture, box, generators[row]
                )
            pixels[row] = picture
        return images, covered


def box_in(unit_from_image: Float[np.ndarray, "2 3"], box: Float[np.ndarray, "4"], size: int) -> Float[np.ndarray, "4"]:
    """The box around a box of the image, in pixels of the crop."""
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0, 1.0], [x1, y0, 1.0], [x0, y1, 1.0], [x1, y1, 1.0]])
    seen = size / 2.0 * (corners @ unit_from_image.T + 1.0) - 0.5
    return np.concatenate([seen.min(axis=0), seen.max(axis=0)])
