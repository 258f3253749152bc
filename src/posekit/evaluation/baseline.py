"""What can be had without looking at the picture: one and the same pose for everybody."""

from __future__ import annotations

import numpy as np

from posekit.artifacts.files import Artifact
from posekit.errors import InputError
from posekit.evaluation.keys import Keys
from posekit.evaluation.predictions import Predicted, Source
from posekit.evaluation.protocols import Protocol
from posekit.records import clips_from_columns
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton

_SAMPLES_AT_ONCE = 8192


class MeanPose(Source):
    """The mean over all training samples of the joints about their root, in the axes of each sample's camera.

    People face all ways, so their limbs average out and the mean is smaller than a body: rescaling it to the length of a
    body makes it worse, and its plain MPJPE is the one to be below. It has no place in the image, so errors in pixels
    are not measured. Raises InputError where no training sample has ground truth.
    """

    name = "mean pose"

    def __init__(self, dataset: Artifact, protocol: Protocol) -> None:
        self.skeleton = dataset.skeleton
        roots = joint_map(
            self.skeleton, Skeleton("root", protocol.roots, (-1,) * len(protocol.roots)), require_all=True
        )
        training = np.array(
            [clip.split == "train" for clip in clips_from_columns(dataset.table("sequences"))], dtype=bool
        )
        total, count = np.zeros((len(self.skeleton), 3)), np.zeros((len(self.skeleton), 1))
        self.samples = 0
        for rows in dataset.blocks("samples", _SAMPLES_AT_ONCE):
            chosen = training[dataset.read("samples", "sequence", rows)]
            if not chosen.any():
                continue
            points = dataset.read("samples", "joints3d", rows)[chosen].astype(np.float64)
            points -= roots.points(points).mean(1, keepdims=True)
            known = np.isfinite(points).all(-1, keepdims=True)
            total += np.where(known, points, 0.0).sum(0)
            count += known.sum(0)
            self.samples += int(known.any((1, 2)).sum())
        if not self.samples:
            raise InputError(
                "no mean pose: the data set has no training samples with ground truth",
                got=dataset.path,
                hint="Leave --baseline out, or preprocess the training subjects, too",
            )
        self.pose = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    def predict(self, keys: Keys) -> Predicted:
        """The mean pose, once for each sample."""
        points = np.repeat(self.pose[None], len(keys), axis=0)
        return Predicted(points, np.full((*points.shape[:2], 2), np.nan), [""] * len(keys))
