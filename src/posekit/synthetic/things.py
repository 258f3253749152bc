"""Things that may stand in front of people: simple shapes with textures and shading, and rooms to stand in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

KINDS = ("bottle", "chair", "pottedplant", "tvmonitor", "sofa", "person")
"""Categories of PASCAL VOC that the shapes stand for; `person` is there to be left out."""


@dataclass(frozen=True, eq=False)
class DrawnThing:
    """A thing in a picture: what it stands for, its pixels as they are seen, and whether the frame cuts it off."""

    kind: str
    mask: Bool[np.ndarray, "H W"]
    truncated: bool


def draw_room(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """A wall above a floor, with soft stains and grain."""
    wall, floor = rng.uniform(60, 220, 3), rng.uniform(40, 160, 3)
    horizon = int(height * rng.uniform(0.5, 0.8))
    room = np.empty((height, width, 3))
    room[:horizon], room[horizon:] = wall, floor
    room *= _light(height, width, rng, 0.35)[..., None]
    return (room + rng.normal(0.0, 4.0, room.shape)).clip(0, 255).astype(np.uint8)


def draw_things(
    picture: UInt8[np.ndarray, "H W 3"], count: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "H W 3"], list[DrawnThing]]:
    """The picture with things in it, later ones in front; things of which nothing is seen are not there."""
    height, width = picture.shape[:2]
    result = picture.copy()
    drawn: list[DrawnThing] = []
    for _ in range(count):
        kind = str(rng.choice(KINDS))
        mask, inside = _shape(kind, height, width, rng)
        if not mask.any():
            continue
        colours = _texture(height, width, rng)
        # Fuller towards the middle of the shape, as round things are.
        depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
        colours *= (0.55 + 0.45 * np.sqrt(depth / max(depth.max(), 1.0)))[..., None]
        result[mask] = colours[mask].clip(0, 255).astype(np.uint8)
        drawn = [DrawnThing(one.kind, one.mask & ~mask, one.truncated) for one in drawn]
        drawn.append(DrawnThing(kind, mask, not inside))
    return result, [one for one in drawn if one.mask.any()]


def _shape(kind: str, height: int, width: int, rng: np.random.Generator) -> tuple[Bool[np.ndarray, "H W"], bool]:
    """The pixels of a random outline of a kind, and whether all of it lies in the picture."""
    size = rng.uniform(0.2, 0.7) * min(height, width)
    centre = rng.uniform([0.05 * width, 0.05 * height], [0.95 * width, 0.95 * height])
    turn = rng.normal(0.0, 0.15)
    outline = [_turned(part * size, turn) + centre for part in _parts(kind, rng)]
    mask = np.zeros((height, width), dtype=np.uint8)
    for part in outline:
        cv2.fillPoly(mask, [np.rint(part).astype(np.int32)], 1)
    corners = np.concatenate(outline)
    inside = bool((corners >= 0).all() and (corners < [width - 1, height - 1]).all())
    return mask.astype(bool), inside


def _parts(kind: str, rng: np.random.Generator) -> list[Float[np.ndarray, "N 2"]]:
    """Closed outlines about the origin, about one across, y down."""
    if kind == "bottle":
        half, neck = rng.uniform(0.15, 0.25), rng.uniform(0.05, 0.09)
        right = np.array([[neck, -0.8], [neck, -0.5], [half, -0.3], [half, 0.8]])
        return [np.concatenate([right, right[::-1] * [-1, 1]])]
    if kind == "chair":
        leg = rng.uniform(0.05, 0.09)
        legs = [_box(x - leg, 0.2, x + leg, 0.9) for x in (-0.4, 0.4)]
        return [_box(-0.5, 0.0, 0.5, 0.2), _box(-0.5, -0.8, -0.35, 0.1), *legs]
    if kind == "pottedplant":
        angles = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
        radius = 0.35 + 0.3 * np.abs(np.sin(rng.integers(3, 7) * angles + rng.uniform(0, 3)))
        leaves = np.stack([radius * np.cos(angles), radius * np.sin(angles) - 0.35], axis=1)
        return [leaves, np.array([[-0.3, 0.2], [0.3, 0.2], [0.2, 0.8], [-0.2, 0.8]])]
    if kind == "tvmonitor":
        return [_box(-0.8, -0.5, 0.8, 0.4), _box(-0.08, 0.4, 0.08, 0.6), _box(-0.4, 0.6, 0.4, 0.68)]
    if kind == "sofa":
        return [_box(-1.0, 0.0, 1.0, 0.5), _box(-0.8, -0.5, 0.8, 0.1), _box(-1.1, -0.2, -0.8, 0.5)]
    angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    head = np.stack([0.15 * np.cos(angles), 0.18 * np.sin(angles) - 0.75], axis=1)
    return [head, np.array([[-0.3, -0.55], [0.3, -0.55], [0.2, 0.2], [0.25, 0.9], [-0.25, 0.9], [-0.2, 0.2]])]


def _box(x0: float, y0: float, x1: float, y1: float) -> Float[np.ndarray, "4 2"]:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _turned(points: Float[np.ndarray, "N 2"], angle: float) -> Float[np.ndarray, "N 2"]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def _texture(height: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "H W 3"]:
    """One colour, stripes of two, or stains of several, with grain."""
    first, second = rng.uniform(20, 235, 3), rng.uniform(20, 235, 3)
    rows, columns = np.indices((height, width))
    choice = rng.integers(3)
    if choice == 0:
        share = np.zeros((height, width))
    elif choice == 1:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6.0, 30.0)
        wave = np.sin(2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / period)
        share = (wave > 0).astype(float)
    else:
        share = _light(height, width, rng, 1.0) - 0.5
    colours = first + share[..., None].clip(0, 1) * (second - first)
    return colours * _light(height, width, rng, 0.2)[..., None] + rng.normal(0.0, 6.0, (height, width, 3))


def _light(height: int, width: int, rng: np.random.Generator, strength: float) -> Float[np.ndarray, "H W"]:
    """A smooth field about one."""
    coarse = rng.uniform(-strength, strength, (4, 5)).astype(np.float32)
    return 1.0 + cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
