"""Fitted bodies as the samples of a data set see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int

from posekit.artifacts.files import Artifact
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.evaluation.keys import ALL_VIEWS, Keys
from posekit.evaluation.predictions import FitViews
from posekit.labeling.surface_points import BodiesInView
from posekit.records import cameras_from_columns
from posekit.registration.posing import crop_pixels, posed_bodies
from posekit.render.screen import screen_from_cameras
from posekit.render.shading import vertex_normals
from posekit.render.topology import MeshTopology
from posekit.stages.render_people import cameras_as_posed


@dataclass(frozen=True, eq=False)
class SampleFits:
    """Samples of a data set with the row of the fit of each, and whether that fit is weak perspective."""

    keys: Keys
    rows: Int[np.ndarray, " N"]
    weak: Bool[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: slice | Bool[np.ndarray, " N"] | Int[np.ndarray, " M"]) -> SampleFits:
        """Some of them."""
        return SampleFits(self.keys.at(rows), self.rows[rows], self.weak[rows])


def fits_of_samples(
    dataset: Artifact, fits: Artifact, max_residual_px: float | None = None
) -> tuple[SampleFits, Counter[str]]:
    """The samples that have a usable fit, all views of an instant together, and how many have none for which reason.

    Fits are usable when they are ok and their residual (px of a 224 crop) is at most `max_residual_px`.
    """
    keys = Keys.read(dataset, "samples")
    keys = keys.at(np.lexsort((keys.camera, keys.person, keys.frame, keys.sequence)))
    found = FitViews(fits, cameras_from_columns(dataset.table("cameras"))).find(keys)
    reason = found.reason
    if max_residual_px is not None:
        residual = fits.read("fits", "residual_px")[found.rows.clip(0)] if fits.rows("fits") else np.zeros(len(keys))
        reason = np.where(
            (reason == "") & ~(residual <= max_residual_px), f"residual above {max_residual_px:g} px", reason
        )
    usable = reason == ""
    left_out = Counter(str(why) for why in reason[~usable])
    return SampleFits(keys, found.rows, found.weak).select(usable), left_out


class FittedViews:
    """Puts fitted bodies, and those around them, in front of the cameras of a data set."""

    def __init__(self, dataset: Artifact, fits: Artifact, body: SegmentScaledBody) -> None:
        self._fits, self._body = fits, body
        cameras = cameras_from_columns(dataset.table("cameras"))
        self._sizes = [(camera.width, camera.height) for camera in cameras]
        device = body.template.device
        posed = cameras_as_posed(cameras, fits)
        self._cameras = [None if camera is None else camera.to(device) for camera in posed]
        self._people = _People(fits)
        self._topology = MeshTopology.from_faces(torch.from_numpy(body.body.faces)).to(device)

    def seen(self, samples: SampleFits) -> Callable[[int], BodiesInView]:
        """A function that gives the view of each of some samples; their bodies are posed at once.

        Only bodies that were fitted to posed cameras share a world, in which they can hide each other.
        """
        rows = [
            [int(row)] if weak else [int(row), *self._people.beside(samples.keys, place)]
            for place, (row, weak) in enumerate(zip(samples.rows, samples.weak, strict=True))
        ]
        used = np.unique(np.concatenate([np.zeros(0, np.int64), *(np.array(row) for row in rows)]))
        columns = self._fits.table("fits", used)
        posed = posed_bodies(columns, self._body).points
        # Once for all views of an instant: normals take longer than anything else that a view needs.
        points, normals = posed.double(), vertex_normals(posed, self._topology).double()

        def view(place: int) -> BodiesInView:
            these = np.searchsorted(used, rows[place])
            bodies = points[torch.from_numpy(these).to(points.device)]
            camera = int(samples.keys.camera[place])
            size, normal = self._sizes[camera], normals[int(these[0])]
            lens = None if samples.weak[place] else self._cameras[camera]
            if lens is not None:
                sight = torch.nn.functional.normalize(lens.centers() - bodies[0], dim=1)
                return BodiesInView(screen_from_cameras(lens, bodies), (normal * sight).sum(1), True, size)
            pixels = crop_pixels(bodies, columns["crop_from_image"][these])
            depth = bodies[..., 2:] / float(columns["scale"][these[0]])
            return BodiesInView(torch.cat([pixels, depth], -1), -normal[:, 2], False, size)

        return view


class _People:
    """Who else was fitted at the same instant."""

    def __init__(self, fits: Artifact) -> None:
        keys = Keys.read(fits, "fits")
        # Fits that hold crops are of one image each, except those that join all views.
        world = np.full(len(keys), not fits.has("fits", "crop_from_image")) | (keys.camera == ALL_VIEWS)
        rows = np.flatnonzero(fits.read("fits", "ok") & world)
        self._by_instant: dict[tuple[int, int], list[int]] = {}
        for row in rows:
            self._by_instant.setdefault((int(keys.sequence[row]), int(keys.frame[row])), []).append(int(row))
        self._keys = keys

    def beside(self, keys: Keys, place: int) -> list[int]:
        """Rows of the fits of other people, one for each, that a sample's camera may see."""
        camera, person = int(keys.camera[place]), int(keys.person[place])
        others: dict[int, int] = {}
        for row in self._by_instant.get((int(keys.sequence[place]), int(keys.frame[place])), ()):
            who, seen_by = int(self._keys.person[row]), int(self._keys.camera[row])
            if who != person and (seen_by == camera or (seen_by == ALL_VIEWS and who not in others)):
                others[who] = row
        return list(others.values())
