"""Clothes by paint: every surface point gets its colour from its place on the resting body."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posekit.body.smpl_file import BodyData
from posekit.skeleton.catalog import SMPL24
from posekit.synthetic.seeding import stream

Pattern = Literal["plain", "stripes", "checks", "print", "heather"]
Colour = tuple[float, float, float]

HAIR, LIPS, EYE = 4, 5, 6
"""Labels of vertices that the free body carries."""

_SKINS: tuple[Colour, ...] = (
    (0.90, 0.72, 0.61),
    (0.82, 0.61, 0.48),
    (0.70, 0.49, 0.36),
    (0.53, 0.35, 0.25),
    (0.36, 0.23, 0.17),
)
_HAIRS: tuple[Colour, ...] = (
    (0.08, 0.06, 0.05),
    (0.20, 0.13, 0.09),
    (0.36, 0.24, 0.14),
    (0.62, 0.47, 0.28),
    (0.45, 0.43, 0.42),
)
_SHOES: tuple[Colour, ...] = ((0.10, 0.10, 0.11), (0.85, 0.85, 0.83), (0.35, 0.20, 0.12), (0.15, 0.20, 0.35))
_SOLE: Colour = (0.80, 0.78, 0.74)
_EYES: Colour = (0.10, 0.09, 0.09)

_EDGE = 0.004
"""Width (m) over which one cloth passes into the next."""
_LABEL_EDGE = 0.15
_CONTRAST = 0.45
"""Least distance of a shirt's colour from the skin's, so that it looks like one."""
_TRIES = 20


@dataclass(frozen=True)
class Outfit:
    """Colours (sRGB, 0 to 1) and cuts of one person's clothes.

    `sleeves` and `legs` are lengths between 0 (none) and 1 (to wrist and ankle).
    """

    skin: Colour
    hair: Colour
    shirt: Colour
    accent: Colour
    trousers: Colour
    shoes: Colour
    pattern: Pattern
    sleeves: float
    legs: float
    scale: float


def random_outfit(seed: int, subject: str) -> Outfit:
    """What a subject wears."""
    rng = stream(seed, "clothes", subject)
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    for _ in range(_TRIES):
        hue = rng.uniform()
        shirt = _hsv(hue, rng.uniform(0.25, 0.85), rng.uniform(0.35, 0.95))
        if np.linalg.norm(np.subtract(shirt, skin)) > _CONTRAST:
            break
    accent = _hsv(hue + rng.uniform(0.25, 0.75), rng.uniform(0.1, 0.7), rng.uniform(0.6, 1.0))
    trousers = _hsv(rng.uniform(0.52, 0.72), rng.uniform(0.1, 0.55), rng.uniform(0.16, 0.5))
    if rng.uniform() < 0.3:
        trousers = _hsv(rng.uniform(0.05, 0.14), rng.uniform(0.15, 0.4), rng.uniform(0.4, 0.75))
    patterns = get_args(Pattern)
    return Outfit(
        skin=skin,
        hair=_HAIRS[int(rng.integers(len(_HAIRS)))],
        shirt=shirt,
        accent=accent,
        trousers=trousers,
        shoes=_SHOES[int(rng.integers(len(_SHOES)))],
        pattern=patterns[int(rng.integers(len(patterns)))],
        sleeves=float(rng.choice([0.32, 0.45, 0.95])),
        legs=float(rng.choice([0.42, 0.97, 0.97, 0.97])),
        scale=float(rng.uniform(0.7, 1.4)),
    )


@dataclass(frozen=True, eq=False)
class Wardrobe:
    """What painting needs to know about a body: places on it, and `fields` (rest position, hair, lips, eye) per vertex."""

    fields: Float[Tensor, "V 6"]
    neck: Float[np.ndarray, "3"]
    waist: float
    hip: float
    ankle: float
    floor: float
    shoulder: float
    wrist: float

    @staticmethod
    def of(body: BodyData) -> Wardrobe:
        """The wardrobe of a body."""
        joint = {name: body.rest_joints[SMPL24.index(name)] for name in SMPL24.joints}
        labels = body.vertex_label if body.vertex_label is not None else _guessed_labels(body)
        flags = np.stack([labels == value for value in (HAIR, LIPS, EYE)], axis=1)
        fields = np.concatenate([body.v_template, flags], axis=1).astype(np.float32)
        return Wardrobe(
            fields=torch.from_numpy(fields),
            neck=joint["smpl_neck"],
            waist=float(joint["spine1"][1]) - 0.03,
            hip=float(joint["left_hip"][1]),
            ankle=float(joint["left_ankle"][1]),
            floor=float(body.v_template[:, 1].min()),
            shoulder=float(joint["left_shoulder"][0]),
            wrist=float(joint["left_wrist"][0]),
        )

    def paint(self, outfit: Outfit, fields: Float[Tensor, "N 6"]) -> Float[Tensor, "N 3"]:
        """Colours (linear light) at surface points whose interpolated `fields` are given."""
        x, y, z, hair, lips, eye = fields.unbind(-1)
        grain = _grain(x, y, z)
        colours = _fill(outfit.skin, x) * (1.0 + 0.05 * grain[:, None])
        aside = (x * x + (z - float(self.neck[2])).square()).sqrt()
        above_neck = y - float(self.neck[1])
        collar = torch.maximum(-0.045 - above_neck, torch.minimum(aside - 0.078, 0.03 - above_neck))
        sleeve = self.shoulder + outfit.sleeves * (self.wrist - self.shoulder) - x.abs()
        shirt = torch.minimum(torch.minimum(collar, sleeve), y - (self.waist - 0.06))
        colours = _cover(colours, self._shirt(outfit, x, y, z, grain), shirt)
        cuff = self.hip + outfit.legs * (self.ankle - self.hip)
        trousers = torch.minimum(self.waist - 0.055 - y, y - cuff)
        cloth = _fill(outfit.trousers, x) * (1.0 + 0.10 * grain[:, None])
        colours = _cover(colours, cloth, trousers)
        colours = _cover(colours, _fill(outfit.shoes, x), self.ankle + 0.02 - y)
        colours = _cover(colours, _fill(_SOLE, x), self.floor + 0.018 - y)
        colours = _cover(colours, _fill(outfit.hair, x) * (1.0 + 0.25 * grain[:, None]), hair - 0.5, _LABEL_EDGE)
        mouth = (outfit.skin[0] * 0.85, outfit.skin[1] * 0.62, outfit.skin[2] * 0.62)
        colours = _cover(colours, _fill(mouth, x), lips - 0.5, _LABEL_EDGE)
        return _cover(colours, _fill(_EYES, x), eye - 0.5, _LABEL_EDGE).clamp(0.0, 1.0)

    def _shirt(self, outfit: Outfit, x: Tensor, y: Tensor, z: Tensor, grain: Tensor) -> Tensor:
        plain = _fill(outfit.shirt, x) * (1.0 + 0.06 * grain[:, None])
        # Along the sleeves the weave turns with the arm.
        along = torch.where(x.abs() > self.shoulder, x.abs(), y)
        period = 0.07 * outfit.scale
        if outfit.pattern == "plain":
            return plain
        if outfit.pattern == "heather":
            return plain * (1.0 + 0.22 * grain[:, None])
        if outfit.pattern == "stripes":
            share = torch.sin(2.0 * torch.pi * along / period)
        elif outfit.pattern == "checks":
            share = torch.sin(2.0 * torch.pi * along / period) * torch.sin(2.0 * torch.pi * (x + z) / period)
        else:
            centre = 0.62 * float(self.neck[1])
            share = (0.075 * outfit.scale - (x * x + (y - centre).square()).sqrt()) / _EDGE
            share = torch.where(z > 0, share, -torch.ones_like(share))
        weight = (0.5 + 2.0 * share).clamp(0.0, 1.0)[:, None]
        return plain * (1.0 - weight) + _fill(outfit.accent, x) * weight


def linear(colour: Colour) -> Colour:
    """Linear light of an sRGB colour (gamma 2.2)."""
    return (colour[0] ** 2.2, colour[1] ** 2.2, colour[2] ** 2.2)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def _fill(colour: Colour, like: Tensor) -> Tensor:
    return like.new_tensor(linear(colour)).expand(len(like), 3)


def _cover(below: Tensor, above: Tensor, inside: Tensor, edge: float = _EDGE) -> Tensor:
    """`above` where `inside` is positive."""
    weight = (inside / edge + 0.5).clamp(0.0, 1.0)[:, None]
    return below + (above - below) * weight


def _grain(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """A fine irregular pattern in [-1, 1] that sticks to the body."""
    first = torch.sin(91.0 * x + 37.0 * y) * torch.sin(83.0 * y - 41.0 * z)
    second = torch.sin(263.0 * x - 311.0 * z + 4.0 * first) * torch.sin(241.0 * y + 197.0 * x)
    return 0.5 * (first + second)


def _guessed_labels(body: BodyData) -> np.ndarray:
    """Hair for bodies that do not say where it grows: the head above the ears, and its back."""
    head = body.rest_joints[SMPL24.index("smpl_head")]
    on_head = body.weights[:, SMPL24.index("smpl_head")] > 0.5
    up, front = body.v_template[:, 1] - head[1], body.v_template[:, 2] - head[2]
    return np.where(on_head & (up > 0.0) & (up > 0.05 + 0.6 * front), HAIR, 0)
