"""Pictures of the heat maps of a Pose ResNet over the crops that it looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from posekit.artifacts.files import Artifact
from posekit.config.results import Render
from posekit.errors import InputError
from posekit.evaluation.keys import Keys
from posekit.progress import track
from posekit.records import cameras_from_columns, clips_from_columns
from posekit.render.drawing import draw_label
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.picture_batches import read_ahead
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.render_inputs import RenderInputs
from posekit.stages.render_pictures import Gallery, contact_sheet, file_stem
from posekit.training.stored_crops import StoredCrops, pixels_from_stored

CELL = 208
"""Side of the picture of one joint, px."""
STRIP = 30
"""Height of the strip below it, for the name of the joint, px."""
COLUMNS = 4
GAP = 4
_AT_ONCE = 8
_SOLID = 0.3
"""Share of the peak from which on a heat map covers the picture."""

Image = UInt8[np.ndarray, "_ _ 3"]


@dataclass
class HeatMaps:
    """Draws the heat maps of everybody in a sequence, or in all of a data set of single pictures."""

    settings: Render
    output: Path
    inputs: RenderInputs
    network: PoseNetwork
    files: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Draws one picture for every person in every view of every frame, and a contact sheet of them.

        Raises InputError for a sequence or camera that is not there, DataError where nobody has a picture.
        """
        dataset = self.inputs.dataset
        clips = clips_from_columns(dataset.table("sequences"))
        stills = bool(dataset.header.facts.get("stills")) and self.settings.sequence is None
        sequence = None if stills else self.inputs.sequence(self.settings.sequence, clips)
        rows = self._rows(sequence)
        title = "pictures" if sequence is None else file_stem(clips[sequence].name, f"sequence_{sequence}")
        gallery = Gallery(self.output / f"{title}_heatmaps", len(rows))
        keys = Keys.read(dataset, "samples").at(rows)
        cameras = cameras_from_columns(dataset.table("cameras"))
        pictures = heat_map_pictures(dataset, self.network, rows)
        for place, picture in track(pictures, "draw heat maps", total=len(rows), unit="person"):
            number, camera = int(keys.sequence[place]), cameras[int(keys.camera[place])].name
            where = f"{number:06d}_{file_stem(clips[number].name, 'picture')}" if stills else camera
            gallery.take(f"{where}_{int(keys.frame[place]):06d}_P{int(keys.person[place])}", picture)
        self.files += gallery.files
        self.counts["people drawn"] = len(gallery.files)
        if len(gallery.files) < len(rows):
            self.counts["no picture"] = len(rows) - len(gallery.files)
        self.files.append(contact_sheet(self.output / f"{title}_heatmaps_sheet.png", gallery.rows))

    def _rows(self, sequence: int | None) -> Int[np.ndarray, " N"]:
        """Samples in the order of sequences, cameras and frames."""
        dataset, settings = self.inputs.dataset, self.settings
        keys = Keys.read(dataset, "samples")
        wanted = np.ones(len(keys), dtype=bool) if sequence is None else keys.sequence == sequence
        names = np.array([camera.name for camera in cameras_from_columns(dataset.table("cameras"))], dtype=str)
        there = sorted(set(names[keys.camera[wanted]].tolist()))
        for name in settings.camera:
            if name not in there:
                raise InputError("no camera of this name in the sequence", got=name, accepted=there)
        if settings.camera:
            wanted &= np.isin(names[keys.camera], settings.camera)
        rows = np.flatnonzero(wanted)
        rows = rows[np.lexsort([part[rows] for part in (keys.person, keys.frame, keys.camera, keys.sequence)])]
        if settings.frames:
            frames = np.unique(keys.frame[rows] if sequence is not None else keys.sequence[rows])[: settings.frames]
            rows = rows[np.isin(keys.frame[rows] if sequence is not None else keys.sequence[rows], frames)]
        return rows


def heat_map_pictures(
    dataset: Artifact, network: PoseNetwork, rows: Int[np.ndarray, " N"]
) -> Iterator[tuple[int, Image]]:
    """For each row of the samples that has a picture its place among the rows, and a grid of its joints."""
    for begin in range(0, len(rows), _AT_ONCE):
        some = rows[begin : begin + _AT_ONCE]
        maps = network.heat_maps(dataset, some)
        with closing(StoredCrops.of(dataset, some)) as stored:
            place = pixels_from_stored(network.crops(dataset, some), stored.crop_from_image, CELL)
            crops = [images.numpy() for images, _ in read_ahead(stored, place, CELL, _AT_ONCE)]
        for number, (crop, joints) in enumerate(zip(np.concatenate(crops), maps, strict=True)):
            if np.isfinite(joints).all():
                form = network.facts.form
                yield begin + number, joint_grid(crop, joints, network.skeleton, half_cell=form.half_cell)


def joint_grid(
    crop: UInt8[np.ndarray, "S S 3"],
    heat_maps: Float[np.ndarray, "J h w"],
    skeleton: Skeleton,
    *,
    half_cell: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """One crop for each joint with its heat map, and its name below.

    Every map is shown in shares of its own peak, and the peak, in shares of the whole, is written beside the name: a flat map
    and a sharp one would look alike else. A ring is where the network puts the joint, the mean of the map (see
    `posekit.models.soft_argmax` for `half_cell`), which need not be where the map is bright.
    """
    cells = []
    for joint, heat in zip(skeleton.joints, heat_maps, strict=True):
        cell = over(crop, heat)
        x, y = _mean_place(heat, len(crop), half_cell)
        for radius, color in ((6.0, (20, 20, 24)), (5.0, (255, 255, 255))):
            cv2.circle(cell, (round(16 * x), round(16 * y)), round(16 * radius), color, 1, cv2.LINE_AA, shift=4)
        strip = np.full((STRIP, len(crop), 3), 255, np.uint8)
        draw_label(strip, f"{joint.replace('_', ' ')}  {100 * heat.max():.1f} %", (0, 0), size=12)
        cell = np.pad(np.concatenate([cell, strip]), ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
        cells.append(cell)
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % COLUMNS)
    lines = [np.concatenate(cells[begin : begin + COLUMNS], axis=1) for begin in range(0, len(cells), COLUMNS)]
    return np.concatenate(lines)


def over(crop: UInt8[np.ndarray, "S S 3"], heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "S S 3"]:
    """A crop, greyed, with a heat map over it; the cells' centres fall where they are in the crop."""
    side = len(crop)
    # OpenCV enlarges about the outer borders, half a pixel outside the centres, which is what cells of a crop are.
    strength = cv2.resize(heat.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR).clip(0)
    strength /= max(float(strength.max()), 1e-12)
    grey = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    colors = cv2.applyColorMap(np.rint(255 * np.sqrt(strength)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    colors = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB).astype(np.float32)
    alpha = (0.9 * np.minimum(strength / _SOLID, 1.0))[..., None]
    return np.rint((1 - alpha) * grey + alpha * colors).astype(np.uint8)


def _mean_place(heat: Float[np.ndarray, "h w"], side: int, half_cell: bool) -> tuple[float, float]:
    """Pixels of a crop of `side`, x and y."""
    shift = 0.5 if half_cell else 0.0
    place = []
    for axis, cells in ((0, heat.shape[1]), (1, heat.shape[0])):
        mean = float(heat.sum(axis=axis) @ (np.arange(cells) + shift)) / float(heat.sum())
        place.append(side * mean / cells - 0.5)
    return place[0], place[1]
