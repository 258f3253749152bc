"""The people of one sequence as a network predicted their joints, frame by frame, for `posekit render`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from posekit.artifacts.files import Artifact
from posekit.stages.render_people import APART, JointSource, SeenJoints, TableRows


class PredictedJoints(JointSource):
    """Joints of a poses artifact: in the images as their key points say, in space as one view sees them."""

    def __init__(self, poses: Artifact, sequence: int) -> None:
        self.skeleton = poses.skeleton
        self._table = TableRows(poses, "samples", sequence)
        self._placed = poses.header.facts.get("root_depth") == "gt"

    def frames(self, camera: int | None = None) -> set[int]:
        """Frames with usable joints, in one view or in any."""
        return self._table.frames(camera)

    def seen(self, frame: int, camera: int) -> SeenJoints | None:
        """The joints in an image."""
        rows = self._table.rows(frame, camera)
        if not rows:
            return None
        points = self._table.select(rows)["keypoints2d"].astype(np.float64)
        # Confidence is the share of the heat map about its peak; joints are drawn whole, however flat theirs is.
        there = np.asarray(np.isfinite(points[..., :2]).all(axis=-1), dtype=np.float64)
        return SeenJoints([int(self._table.people[row]) for row in rows], points[..., :2], there, self.skeleton)

    def standing(self, frame: int) -> tuple[list[int], Float[np.ndarray, "P J 3"], Float[np.ndarray, "P J"]] | None:
        """People, their joints in the frame of the first camera that has some, and confidences.

        People who are known about their roots alone, and so have no place, stand side by side.
        """
        views = self._table.views(frame)
        if not views:
            return None
        rows = self._table.rows(frame, views[0])
        points = self._table.select(rows)["joints3d"].astype(np.float64)
        if not self._placed:
            points[..., 0] += APART * np.arange(len(rows))[:, None]
        return [int(self._table.people[row]) for row in rows], points, np.ones(points.shape[:2])
