"""2D poses to learn from: whole skeletons of key points from data sets, normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.labeling.lifting import ROOT, mirrored_poses, normalised_poses
from posekit.labeling.whole_poses import split_rows, whole_keypoints
from posekit.skeleton.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class PoseBatch:
    """Normalised 2D poses: y down, the pelvis at the origin, joints at a mean distance of one from it."""

    poses: Float[Tensor, "B J 2"]

    def __len__(self) -> int:
        return len(self.poses)

    def to(self, device: torch.device) -> PoseBatch:
        """The same poses on a device."""
        return PoseBatch(self.poses.to(device))


class PoseSource:
    """Poses in memory; with `flip`, half of them are mirrored, others in every epoch."""

    def __init__(self, poses: Float[Tensor, "N J 2"], skeleton: Skeleton, *, flip: bool, seed: int) -> None:
        self._poses = poses
        self._mirrored = mirrored_poses(poses, skeleton.flip_permutation) if flip else poses
        self._seed = seed

    def __len__(self) -> int:
        return len(self._poses)

    def batch(self, samples: Int[np.ndarray, " B"], epoch: int) -> PoseBatch:
        """These poses as they are, or mirrored, in this epoch."""
        rows = torch.from_numpy(np.array(samples, dtype=np.int64))
        chosen = torch.from_numpy(_coins(len(self), self._seed, epoch)[rows.numpy()])
        return PoseBatch(torch.where(chosen[:, None, None], self._mirrored[rows], self._poses[rows]))


@lru_cache(maxsize=4)
def _coins(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).random(count) < 0.5


def read_poses(
    datasets: Sequence[Artifact], skeleton: Skeleton, split: str
) -> tuple[Float[Tensor, "N J 2"], dict[str, int]]:
    """Normalised poses of a part of data sets, and how many samples were left out, by reason."""
    poses, counts = [], {"poses": 0, "without every joint": 0, "of no extent": 0}
    for dataset in datasets:
        rows = split_rows(dataset, split)
        keypoints, found = whole_keypoints(dataset, skeleton, rows)
        normalised, sizes = normalised_poses(torch.from_numpy(keypoints), skeleton.index(ROOT))
        extended = sizes > 0
        poses.append(normalised[extended].float())
        counts["poses"] += int(extended.sum())
        counts["without every joint"] += len(rows) - len(found)
        counts["of no extent"] += int((~extended).sum())
    return torch.cat(poses) if poses else torch.zeros(0, len(skeleton), 2), counts
