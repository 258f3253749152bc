"""Labels of single images, made from two views, as something to evaluate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posekit.artifacts.files import Artifact
from posekit.evaluation.keys import Keys, RowIndex
from posekit.evaluation.predictions import NO_PREDICTION, NOT_TRUSTED, Optics, Predicted, Source
from posekit.records import Camera


class ViewLabelSource(Source):
    """The joints of a view-labels artifact; they are in the frame of each sample's own camera already."""

    name = "joints3d"

    def __init__(self, artifact: Artifact, dataset_cameras: Sequence[Camera]) -> None:
        self.skeleton = artifact.skeleton
        self._artifact = artifact
        self._index = RowIndex(Keys.read(artifact, "samples"))
        self._usable = artifact.read("samples", "ok")
        self._optics = Optics(dataset_cameras)

    def predict(self, keys: Keys) -> Predicted:
        """Labels in the cameras' frames; joints that the filter dropped are NaN."""
        rows = self._index.find(keys)
        reason = np.where(rows < 0, NO_PREDICTION, "").astype(object)
        reason[(rows >= 0) & ~self._usable[np.maximum(rows, 0)]] = NOT_TRUSTED
        good = np.flatnonzero(reason == "")
        points = np.full((len(keys), len(self.skeleton), 3), np.nan)
        points[good] = self._artifact.read("samples", "joints3d", rows[good])
        return Predicted(points, self._optics.pixels(points, keys.camera), reason.tolist())
