"""Joints that a network predicted from single images, as something to evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact
from posekit.evaluation.keys import Keys, RowIndex
from posekit.evaluation.predictions import NO_PREDICTION, NOT_TRUSTED, Predicted, Source
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton


class PoseSource(Source):
    """The joints of a poses artifact: of this very view, or none.

    With a skeleton they are given under its names, and joints that the network does not know are NaN.
    """

    def __init__(self, artifact: Artifact, skeleton: Skeleton | None = None, name: str = "predictions") -> None:
        self.name, self.skeleton = name, skeleton or artifact.skeleton
        self._artifact = artifact
        self._map = joint_map(artifact.skeleton, self.skeleton)
        self._index = RowIndex(Keys.read(artifact, "samples"))
        self._usable, self._why = artifact.read("samples", "ok"), artifact.read("samples", "reason")

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the artifact says of its metres: where they are from, and what of the truth was seen."""
        return dict(self._artifact.header.facts)

    def predict(self, keys: Keys) -> Predicted:
        """Joints in axes parallel to the cameras', and their pixels."""
        rows = self._index.find(keys)
        reason = np.where(rows < 0, NO_PREDICTION, "").astype(object)
        refused = (rows >= 0) & ~self._usable[np.maximum(rows, 0)]
        reason[refused] = [f"{NOT_TRUSTED}: {why}" if why else NOT_TRUSTED for why in self._why[rows[refused]]]
        good = np.flatnonzero(reason == "")
        points = np.full((len(keys), len(self.skeleton), 3), np.nan)
        pixels = np.full((len(keys), len(self.skeleton), 2), np.nan)
        points[good] = self._map.points(self._artifact.read("samples", "joints3d", rows[good]).astype(np.float64))
        seen = self._artifact.read("samples", "keypoints2d", rows[good])[..., :2].astype(np.float64)
        pixels[good] = self._map.points(seen)
        return Predicted(points, pixels, reason.tolist())
