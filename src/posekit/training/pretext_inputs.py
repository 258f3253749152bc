"""What the pretext tasks of Cha et al. 2021 show to their networks, and the answers (their section 3.2).

Pictures are square RGB crops in [0, 1] (``plain``) until they go into a network, which takes them normalised as
`posekit.models.backbone.normalised_colours` does. Whatever is drawn comes from a generator on the CPU that is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations as orders
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, Num
from torch import Tensor, nn

from posekit.errors import InputError
from posekit.models.backbone import normalised_colours, plain_colours

InPaintingTarget = Literal["pm1", "imagenet"]
Composite = Literal["soft", "hard"]

RIGHT_ANGLES = (0, 90, 180, 270)
"""Angles of the rotation task, degrees counter-clockwise."""

_TILE_SHARE = 256 / 224
"""Side that tiles are enlarged to before the crop, over the crop's: 256 and 224 px in the authors' code."""
_OCTAVES = (2, 4, 8, 16, 32)


def random_classes(count: int, classes: int, generator: torch.Generator) -> Int64[Tensor, " B"]:
    """The answers of a batch, evenly drawn."""
    return torch.randint(classes, (count,), generator=generator)


@lru_cache
def tile_orders(grid: int = 2) -> Int64[Tensor, "N T"]:
    """All orders of grid x grid tiles, lexicographic: in order c, slot k shows tile ``tile_orders()[c, k]``.

    Raises InputError for a grid that is not 2 or 3 (which has 362,880 orders).
    """
    if grid not in (2, 3):
        raise InputError("a jigsaw has 2 or 3 tiles on a side", got=grid, accepted=(2, 3))
    return torch.tensor(list(orders(range(grid * grid))))


def cut_tiles(images: Num[Tensor, "B 3 S S"], grid: int = 2) -> Num[Tensor, "B T 3 s s"]:
    """Tiles in row-major order; InputError where they would not all be of one size."""
    side = images.shape[-1]
    if side % grid:
        raise InputError(
            "the picture cannot be cut into equal tiles", got=f"{side} px", accepted=f"multiples of {grid}"
        )
    tile = side // grid
    return images.reshape(-1, 3, grid, tile, grid, tile).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def joined_tiles(tiles: Num[Tensor, "B T 3 s s"]) -> Num[Tensor, "B 3 S S"]:
    """The picture of tiles in row-major order; inverse of `cut_tiles`."""
    grid, tile = math.isqrt(tiles.shape[1]), tiles.shape[-1]
    rows = tiles.reshape(-1, grid, grid, 3, tile, tile).permute(0, 3, 1, 4, 2, 5)
    return rows.reshape(-1, 3, grid * tile, grid * tile)


def shuffled(tiles: Num[Tensor, "B T *tile"], classes: Int64[Tensor, " B"]) -> Num[Tensor, "B T *tile"]:
    """Each sample's tiles in the order of its class."""
    return _reordered(tiles, tile_orders(math.isqrt(tiles.shape[1]))[classes.cpu()])


def unshuffled(slots: Num[Tensor, "B T *tile"], classes: Int64[Tensor, " B"]) -> Num[Tensor, "B T *tile"]:
    """The tiles that `shuffled` was given."""
    return _reordered(slots, tile_orders(math.isqrt(slots.shape[1]))[classes.cpu()].argsort(1))


def _reordered(tiles: Num[Tensor, "B T *tile"], order: Int64[Tensor, "B T"]) -> Num[Tensor, "B T *tile"]:
    rows = torch.arange(len(tiles), device=tiles.device)
    return tiles[rows[:, None], order.to(tiles.device)]


def jigsaw_pictures(
    images: Float[Tensor, "B 3 S S"], classes: Int64[Tensor, " B"], places: Float[Tensor, "B T 2"], grid: int = 2
) -> Float[Tensor, "B T 3 S S"]:
    """Shuffled tiles, each enlarged to a little more than the picture and cropped to its size.

    `places` are random numbers from 0 to 1 (not 1) that say where: down and across. Because of the crop, the borders of
    tiles do not tell which of them were neighbours.
    """
    side = images.shape[-1]
    large = round(_TILE_SHARE * side)
    slots = shuffled(cut_tiles(images, grid), classes)
    enlarged = nn.functional.interpolate(slots.flatten(0, 1), size=(large, large), mode="bilinear", align_corners=False)
    return _crops_at(enlarged, side, places.flatten(0, 1)).view(*slots.shape[:2], 3, side, side)


def _crops_at(images: Float[Tensor, "N 3 H W"], side: int, places: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3 S S"]:
    room = torch.tensor([images.shape[2] - side + 1, images.shape[3] - side + 1], dtype=torch.float64)
    corners = (places.cpu() * room).long().tolist()
    crops = zip(images, corners, strict=True)
    return torch.stack([image[:, y : y + side, x : x + side] for image, (y, x) in crops])


def turned(
    images: Num[Tensor, "B 3 S S"], classes: Int64[Tensor, " B"], angles: Sequence[int] = RIGHT_ANGLES
) -> Num[Tensor, "B 3 S S"]:
    """Each picture turned counter-clockwise by its class's angle, pixel for pixel.

    Raises InputError for angles that are no multiples of 90 degrees.
    """
    if any(angle % 90 for angle in angles):
        raise InputError("pictures turn by right angles", got=list(angles), accepted="multiples of 90 degrees")
    turns = [torch.rot90(images[k], angles[c] // 90, (-2, -1)) for k, c in enumerate(classes.tolist())]
    return torch.stack(turns)


def _hole(side: int, patch: int) -> slice:
    if not 0 < patch <= side or (side - patch) % 2:
        raise InputError(
            "the hole cannot lie in the middle of the picture",
            got=f"{patch} px in {side} px",
            accepted="a hole no larger than the picture, and even or odd like it",
        )
    start = (side - patch) // 2
    return slice(start, start + patch)


def patch_of(images: Num[Tensor, "B 3 S S"], patch: int = 64) -> Num[Tensor, "B 3 P P"]:
    """The middle of each picture: rows and columns 80 to 143 for 64 of 224 pixels."""
    hole = _hole(images.shape[-1], patch)
    return images[..., hole, hole]


def with_hole(images: Num[Tensor, "B 3 S S"], patch: int = 64) -> Num[Tensor, "B 3 S S"]:
    """Plain pictures whose middle is black."""
    hole = _hole(images.shape[-1], patch)
    holed = images.clone()
    holed[..., hole, hole] = 0
    return holed


def inpainting_target(patch: Float[Tensor, "B 3 P P"], target: InPaintingTarget = "pm1") -> Float[Tensor, "B 3 P P"]:
    """What the in-painter is to give for a plain patch.

    ``pm1`` is the patch in [-1, 1], which its last layer can reach; ``imagenet`` the normalised patch, as in the authors'
    code, which it cannot where the patch is bright or dark.
    """
    return 2 * patch - 1 if target == "pm1" else normalised_colours(patch)


def pasted(
    images: Float[Tensor, "B 3 S S"], given: Float[Tensor, "B 3 P P"], target: InPaintingTarget = "pm1"
) -> Float[Tensor, "B 3 S S"]:
    """Normalised pictures of plain ones whose middle is what the in-painter gave; gradients flow to that."""
    colours = (given + 1) / 2 if target == "pm1" else plain_colours(given)
    hole = _hole(images.shape[-1], given.shape[-1])
    whole = images.to(colours.dtype).clone()
    whole[..., hole, hole] = colours
    return normalised_colours(whole)


def render_target(
    images: Float[Tensor, "B 3 S S"], masks: Num[Tensor, "B S S"] | Bool[Tensor, "B S S"]
) -> Float[Tensor, "B 3 S S"]:
    """The person alone over black, from plain pictures and masks of 0 and 1: what the rendered body is to look like."""
    return images * masks[:, None].to(images.dtype)


def over_background(
    rgb: Float[Tensor, "B 3 S S"],
    alpha: Float[Tensor, "B S S"],
    backgrounds: Float[Tensor, "B 3 S S"],
    composite: Composite = "soft",
) -> Float[Tensor, "B 3 S S"]:
    """Bodies rendered over black, laid over plain backgrounds.

    ``soft`` lets through what `alpha` leaves, so that gradients also reach the outline; ``hard`` takes every pixel that
    is covered at all from the rendered picture, as the authors' code does.
    """
    if composite == "soft":
        return rgb + (1 - alpha[:, None]) * backgrounds
    return torch.where(alpha[:, None] > 0, rgb, backgrounds)


def background_crops(
    images: Sequence[Float[Tensor, "3 _ _"]], side: int, places: Float[Tensor, "B 2"]
) -> Float[Tensor, "B 3 S S"]:
    """A square of `side` pixels out of each picture, which may be of any size; smaller ones are enlarged first.

    `places` are random numbers from 0 to 1 (not 1) that say where: down and across.
    """
    crops = []
    for image, place in zip(images, places, strict=True):
        scale = side / min(image.shape[-2:])
        if scale > 1:
            size = [max(side, round(length * scale)) for length in image.shape[-2:]]
            image = nn.functional.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        crops.append(_crops_at(image[None], side, place[None])[0])
    return torch.stack(crops) if crops else torch.zeros(0, 3, side, side)


def noise_backgrounds(count: int, side: int, generator: torch.Generator) -> Float[Tensor, "B 3 S S"]:
    """Smooth coloured noise in [0, 1], for where there are no pictures without people: coarse blobs and finer ones."""
    total = torch.zeros(count, 3, side, side)
    for cells in _OCTAVES:
        coarse = torch.randn(count, 3, cells, cells, generator=generator)
        fine = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
        total += fine / math.sqrt(cells)
    return torch.sigmoid(total)
