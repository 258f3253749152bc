"""Batches of person crops with masks and joints, for mesh estimators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.errors import ConfigError, DataError
from posekit.labeling.masks import decode_counts
from posekit.registration.bodies import KeyedRows, pack_keys
from posekit.registration.labels import CROP_MARGIN
from posekit.skeleton.skeleton import mirrored
from posekit.training.augmentation import Augmentation, CropChange
from posekit.training.pose_labels import person_crops
from posekit.training.stored_crops import StoredCrops, pixels_from_stored

_KEY = ("sequence", "frame", "person", "camera")
_DRAWS = 9


@dataclass(frozen=True, eq=False)
class MeshBatch:
    """Crops of people, and what is known of them in these very crops.

    `upright` are the same crops without the turn in the image plane. `masks` are 0 and 1, and mean something where `masked`
    is set. `keypoints` are in normalised crop units (-1 to 1 over the crop), `joints` in metres in axes parallel to the
    camera's, from an origin of their own; what has weight zero may be anything. `samples` are rows of the source.
    """

    images: UInt8[Tensor, "B S S 3"]
    upright: UInt8[Tensor, "B S S 3"]
    masks: UInt8[Tensor, "B S S"]
    masked: Bool[Tensor, " B"]
    keypoints: Float[Tensor, "B J 2"]
    keypoint_weights: Float[Tensor, "B J"]
    joints: Float[Tensor, "B J 3"]
    joint_weights: Float[Tensor, "B J"]
    samples: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device) -> MeshBatch:
        """The same batch on a device."""
        return MeshBatch(*(value.to(device, non_blocking=True) for value in vars(self).values()))


@dataclass(frozen=True, eq=False)
class MeshPart:
    """Rows of one data set, masks of its people if there are any, and which of its labels are learned from."""

    dataset: Artifact
    rows: Int[np.ndarray, " N"]
    masks: Artifact | None = None
    keypoints: bool = True
    joints: bool = True


class MeshSource:
    """Samples of one or several data sets, one after the other.

    Key points and joints are in the order of `joint_names`; those that a data set does not have weigh nothing. Rows without a
    stored picture are left out; `without_picture` counts them. With `shares`, one for each part, an epoch has as many draws
    as the largest part has samples: each takes a part by its share and the next of its samples in a random order
    (Kolotouros et al. 2019); without, every sample comes once. A batch depends on its arguments and on the seed alone, and
    may be made by any thread. Raises DataError when no sample is left, ConfigError for shares that do not fit.
    """

    def __init__(
        self,
        parts: Sequence[MeshPart],
        size: int,
        joint_names: Sequence[str],
        augmentation: Augmentation | None,
        seed: int,
        *,
        shares: Sequence[float] = (),
        upright: bool = False,
    ) -> None:
        self.size, self.joint_names = size, tuple(joint_names)
        stored = [StoredCrops.of(part.dataset, part.rows) for part in parts]
        chosen = [np.flatnonzero(crops.present) for crops in stored]
        self.without_picture = sum(len(part.rows) for part in parts) - sum(map(len, chosen))
        if not sum(map(len, chosen)):
            raise DataError("no sample is left to learn from", got="rows with a stored picture: 0")
        _check_shares(shares, [len(rows) for rows in chosen])
        self.rows = [part.rows[rows] for part, rows in zip(parts, chosen, strict=True)]
        self._pictures = [crops.select(rows) for crops, rows in zip(stored, chosen, strict=True)]
        self.part = np.repeat(np.arange(len(parts)), [len(rows) for rows in chosen])
        self._place = np.concatenate([np.arange(len(rows)) for rows in chosen])
        self._first = np.cumsum([0, *(len(rows) for rows in chosen)])[:-1]
        labels = [_Labels.of(part, rows, self.joint_names) for part, rows in zip(parts, self.rows, strict=True)]
        self.labels = _Labels.joined(labels)
        self._stored = np.concatenate([pictures.crop_from_image for pictures in self._pictures])
        self._augmentation, self._seed, self._shares, self._upright = augmentation, seed, tuple(shares), upright
        places = {name: place for place, name in enumerate(self.joint_names)}
        self._swap = np.array([places.get(mirrored(name), place) for name, place in places.items()])
        self._unpaired = np.array([mirrored(name) not in places for name in places])

    def __len__(self) -> int:
        if self._shares:
            return int(np.bincount(self.part).max())
        return len(self.part)

    def close(self) -> None:
        """Closes the files that pictures are read from."""
        for pictures in self._pictures:
            pictures.close()

    def rows_of(self, draws: Int[np.ndarray, " B"], epoch: int) -> Int[np.ndarray, " B"]:
        """Which sample each draw of an epoch takes."""
        if not self._shares:
            return draws
        generator = np.random.default_rng([self._seed, epoch, _DRAWS])
        parts = generator.choice(len(self._shares), len(self), p=np.array(self._shares))
        rows = np.zeros(len(self), dtype=np.int64)
        for part, first in enumerate(self._first):
            mine = np.flatnonzero(parts == part)
            count = int((self.part == part).sum())
            orders = [generator.permutation(count) for _ in range(-(-len(mine) // count))] if len(mine) else []
            rows[mine] = first + np.concatenate([*orders, np.zeros(0, np.int64)])[: len(mine)]
        chosen: np.ndarray = rows[draws]
        return chosen

    def batch(self, samples: Int[np.ndarray, " B"], epoch: int) -> MeshBatch:
        """Some draws, changed as the augmentation draws it for this epoch.

        Raises FormatError for a stored picture that cannot be decoded.
        """
        rows = self.rows_of(samples, epoch)
        generators = [np.random.default_rng([self._seed, epoch, int(sample)]) for sample in samples]
        change = None if self._augmentation is None else self._augmentation.draw(generators)
        labels = self.labels.select(rows)
        crops = labels.crops if change is None else change.linear @ labels.crops
        images, masks = self._images(rows, crops, change), self._masks(labels, crops)
        upright = images
        if self._upright and change is not None:
            upright = self._images(rows, change.upright.linear @ labels.crops, change)
        if change is not None:
            labels = self._changed(labels, change)
        keypoints, keypoint_weights, joints, joint_weights = (
            torch.from_numpy(values.astype(np.float32)) for values in labels.positions()
        )
        return MeshBatch(
            images=images,
            upright=upright,
            masks=masks,
            masked=torch.from_numpy(labels.masked),
            keypoints=keypoints,
            keypoint_weights=keypoint_weights,
            joints=joints,
            joint_weights=joint_weights,
            samples=torch.tensor(rows),
        )

    def _changed(self, labels: _Labels, change: CropChange) -> _Labels:
        flip = change.flip[:, None]
        lost = flip & self._unpaired

        def swapped(values: np.ndarray) -> np.ndarray:
            return np.where(flip.reshape(-1, *[1] * (values.ndim - 1)), values[:, self._swap], values)

        across = np.where(change.flip, -1.0, 1.0)[:, None]
        joints = swapped(labels.joints) * np.stack([across, np.ones_like(across), np.ones_like(across)], axis=2)
        flat = np.einsum("bij,bnj->bni", change.turns, joints[..., :2])
        return _Labels(
            labels.crops,
            np.einsum("bij,bnj->bni", change.linear, swapped(labels.keypoints)),
            np.where(lost, 0.0, swapped(labels.keypoint_weights)),
            np.concatenate([flat, joints[..., 2:]], axis=2),
            np.where(lost, 0.0, swapped(labels.joint_weights)),
            labels.masked,
            labels.counts,
            labels.sizes,
        )

    def _images(
        self, rows: Int[np.ndarray, " B"], crops: Float[np.ndarray, "B 2 3"], change: CropChange | None
    ) -> UInt8[Tensor, "B S S 3"]:
        images = torch.empty((len(rows), self.size, self.size, 3), dtype=torch.uint8)
        pixels = images.numpy()
        maps = pixels_from_stored(crops, self._stored[rows], self.size)
        for place, row in enumerate(rows):
            pictures = self._pictures[self.part[row]]
            gain = None if change is None else change.gain[place]
            pixels[place] = pictures.warped(int(self._place[row]), maps[place], self.size, gain)
        return images

    def _masks(self, labels: _Labels, crops: Float[np.ndarray, "B 2 3"]) -> UInt8[Tensor, "B S S"]:
        masks = torch.zeros((len(crops), self.size, self.size), dtype=torch.uint8)
        values = masks.numpy()
        maps = self.size / 2.0 * (crops + np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
        maps[..., 2] -= 0.5
        for place in np.flatnonzero(labels.masked):
            height, width = labels.sizes[place]
            mask = 255 * decode_counts(labels.counts[place], int(height), int(width)).astype(np.uint8)
            values[place] = cv2.warpAffine(mask, maps[place], (self.size, self.size)) > 127
        return masks


@dataclass(frozen=True, eq=False)
class _Labels:
    """What is known of samples; `crops` are unit_from_image, `counts` run lengths of masks over images of `sizes`."""

    crops: Float[np.ndarray, "N 2 3"]
    keypoints: Float[np.ndarray, "N J 2"]
    keypoint_weights: Float[np.ndarray, "N J"]
    joints: Float[np.ndarray, "N J 3"]
    joint_weights: Float[np.ndarray, "N J"]
    masked: Bool[np.ndarray, " N"]
    counts: np.ndarray
    sizes: Int[np.ndarray, "N 2"]

    def select(self, rows: Int[np.ndarray, " M"]) -> _Labels:
        return _Labels(*(value[rows] for value in vars(self).values()))

    def positions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.keypoints, self.keypoint_weights, self.joints, self.joint_weights

    @staticmethod
    def joined(parts: Sequence[_Labels]) -> _Labels:
        return _Labels(*(np.concatenate(values) for values in zip(*(vars(p).values() for p in parts), strict=True)))

    @staticmethod
    def of(part: MeshPart, rows: Int[np.ndarray, " N"], names: tuple[str, ...]) -> _Labels:
        dataset, count = part.dataset, len(names)
        crops = person_crops(dataset.read("samples", "bbox", rows).astype(np.float64), CROP_MARGIN)
        known = [name for name in dataset.skeleton.joints if name in names]
        ours, theirs = [names.index(name) for name in known], list(dataset.skeleton.indices(*known))
        keypoints, keypoint_weights = np.zeros((len(rows), count, 2)), np.zeros((len(rows), count))
        if part.keypoints and known:
            given = dataset.read("samples", "keypoints2d", rows)[:, theirs].astype(np.float64)
            flat = np.einsum("nij,nkj->nki", crops[..., :2], given[..., :2]) + crops[:, None, :, 2]
            usable = np.isfinite(flat).all(axis=2) & (given[..., 2] > 0)
            keypoints[:, ours] = np.where(usable[..., None], flat, 0.0)
            keypoint_weights[:, ours] = np.where(usable, given[..., 2], 0.0)
        joints, joint_weights = np.zeros((len(rows), count, 3)), np.zeros((len(rows), count))
        if part.joints and known and dataset.has("samples", "joints3d"):
            given = dataset.read("samples", "joints3d", rows)[:, theirs].astype(np.float64)
            usable = np.asarray(np.isfinite(given).all(axis=2))
            joints[:, ours] = np.where(usable[..., None], given, 0.0)
            joint_weights[:, ours] = np.asarray(usable, dtype=np.float64)
        return _Labels(crops, keypoints, keypoint_weights, joints, joint_weights, *_masks_of(part, rows))


def _masks_of(part: MeshPart, rows: Int[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each sample has a mask, its run lengths, and the size of its image."""
    masked, counts = np.zeros(len(rows), dtype=bool), np.full(len(rows), None, dtype=object)
    sizes = np.zeros((len(rows), 2), dtype=np.int64)
    if part.masks is None:
        return masked, counts, sizes
    keys = KeyedRows(pack_keys(*(part.masks.read("samples", name) for name in _KEY)))
    found = keys.find(pack_keys(*(part.dataset.read("samples", name, rows) for name in _KEY)))
    there = np.flatnonzero(found >= 0)
    masked[there] = part.masks.read("samples", "found", found[there])
    sizes[there] = part.masks.read("samples", "size", found[there])
    for place, encoded in zip(there, part.masks.read_ragged("samples", "counts", found[there]), strict=True):
        counts[place] = encoded
    return masked, counts, sizes


def _check_shares(shares: Sequence[float], sizes: Sequence[int]) -> None:
    if not shares:
        return
    if len(shares) != len(sizes) or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
        raise ConfigError(
            "the shares of the data sets do not fit",
            got=list(shares),
            accepted=f"{len(sizes)} numbers from 0 that sum to 1",
        )
    if any(share > 0 and not size for share, size in zip(shares, sizes, strict=True)):
        raise DataError("a data set with a share has no sample left", got=list(sizes))
