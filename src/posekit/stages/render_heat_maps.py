"""Pictures of the heat maps of a Pose ResNet over the crops that it looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from posekit.artifacts.files import Artifact
from posekit.render.drawing import draw_label
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.picture_batches import read_ahead
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.render_portraits import Image
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
