"""Starts from earlier fits or from what a network predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.geometry.rotations import matrix_from_9d
from posekit.registration.bodies import BodyRows, KeyedRows, pack_keys
from posekit.registration.parameters import LARGEST_SEGMENT, SMALLEST_SEGMENT, BodyParameters

_PARTS = ("pose", "segment_scales", "betas", "orientation", "translation", "scale")


@dataclass(frozen=True, eq=False)
class Start:
    """Starting values of bodies, and for which of them there were any; the others' values mean nothing."""

    parameters: BodyParameters
    found: Bool[Tensor, " B"]

    def select(self, rows: Int[Tensor, " M"]) -> Start:
        """Those of some of the bodies."""
        return Start(self.parameters.select(rows), self.found[rows])

    def to(self, like: Tensor) -> Start:
        """The same on the device and with the precision of a tensor."""
        return Start(
            BodyParameters(*(getattr(self.parameters, name).to(like) for name in _PARTS)), self.found.to(like.device)
        )


class StartReader:
    """Finds starts by sequence, frame, person and (fits to single views) camera; only rows that are ok."""

    def __init__(self, fits: Artifact) -> None:
        self._fits = fits
        names = ("sequence", "frame", "person", "camera")
        sequence, frame, person, camera = (fits.read("fits", name).astype(np.int64) for name in names)
        # Fits to several views have no camera; a key without one is found by bodies without one.
        keys = pack_keys(sequence, frame, person, camera + 1)
        self._rows = KeyedRows(np.where(fits.read("fits", "ok"), keys, -1))

    def find(self, bodies: BodyRows) -> Int[np.ndarray, " B"]:
        """Rows of the fits, -1 where there is none."""
        return self._rows.find(pack_keys(bodies.sequence, bodies.frame, bodies.person, bodies.camera + 1))

    def read(self, bodies: BodyRows, crops: Float[np.ndarray, "B C 2 3"]) -> Start:
        """The starts of bodies whose crops map image pixels to crop units as `crops` says."""
        rows = self.find(bodies)
        found = rows >= 0
        table = {name: self._fits.read("fits", name, rows.clip(0)).astype(np.float64) for name in _PARTS}
        if self._fits.has("fits", "crop_from_image"):
            _to_other_crop(table, self._fits.read("fits", "crop_from_image", rows.clip(0)), crops[:, 0])
        found &= np.all([np.isfinite(part.reshape(len(rows), -1)).all(1) for part in table.values()], axis=0)
        parts = {name: torch.from_numpy(np.ascontiguousarray(part, np.float32)) for name, part in table.items()}
        parts["pose"][:, 0] = 0.0
        parts["orientation"] = matrix_from_9d(parts["orientation"])
        parameters = BodyParameters(**parts).with_mean_scale_one()
        scales = parameters.segment_scales.clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT)
        parts |= {"segment_scales": scales, "scale": parameters.scale}
        return Start(BodyParameters(**parts), torch.from_numpy(found))


def _to_other_crop(
    table: dict[str, np.ndarray], theirs: Float[np.ndarray, "B 2 3"], ours: Float[np.ndarray, "B 2 3"]
) -> None:
    """Moves weak-perspective placements from one upright crop of an image to another."""
    ratio = ours[:, 0, 0] / theirs[:, 0, 0]
    shift = ours[..., 2] - ratio[:, None] * theirs[..., 2]
    table["translation"] = ratio[:, None] * table["translation"]
    table["translation"][:, :2] += shift
    table["scale"] = ratio * table["scale"]
