"""Skeletons, boxes, labels and part masks on RGB frames; everything is drawn in place, with smooth edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Integer, UInt8

from posekit.skeleton.skeleton import Skeleton

Color = tuple[int, int, int]
Frame = UInt8[np.ndarray, "H W 3"]

SIDE_COLORS: dict[str, Color] = {"left": (38, 139, 255), "right": (255, 112, 38), "centre": (64, 200, 120)}
"""RGB of the person's left, right and middle."""

PERSON_COLORS: tuple[Color, ...] = (
    (166, 196, 236),
    (240, 170, 130),
    (150, 210, 160),
    (214, 160, 214),
    (240, 214, 120),
    (140, 214, 220),
    (230, 150, 160),
    (190, 190, 190),
)
"""RGB of body surfaces, by number of the person."""

PART_COUNT = 24

_SHIFT = 4
"""Fractional bits of OpenCV's coordinates."""


@dataclass(frozen=True)
class SkeletonStyle:
    """How a skeleton is drawn. Bones with a joint below `min_confidence` are left out; others fade with it."""

    thickness: float = 4.0
    opacity: float = 0.95
    min_confidence: float = 0.05
    colors: tuple[tuple[str, Color], ...] = tuple(SIDE_COLORS.items())


def style_for(frame: Frame, scale: float = 1.0) -> SkeletonStyle:
    """A style whose lines suit the size of the frame."""
    return SkeletonStyle(thickness=max(1.5, scale * min(frame.shape[:2]) / 220))


def person_color(person: int) -> Color:
    """The colour of a person, the same in all pictures."""
    return PERSON_COLORS[person % len(PERSON_COLORS)]


def part_colors() -> UInt8[np.ndarray, "25 3"]:
    """Distinct colours of the background (black) and the 24 parts of the surface; left and right differ in lightness."""
    hue = (np.arange(PART_COUNT) * 0.61803398875) % 1.0
    lightness = np.where(np.arange(PART_COUNT) % 2 == 0, 230, 170)
    hsv = np.stack([hue * 180, np.full(PART_COUNT, 150), lightness], -1).astype(np.uint8)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    return np.concatenate([np.zeros((1, 3), np.uint8), rgb])


def draw_skeleton(
    frame: Frame,
    joints: Float[np.ndarray, "J 2"],
    skeleton: Skeleton,
    *,
    confidence: Float[np.ndarray, " J"] | None = None,
    style: SkeletonStyle | None = None,
) -> None:
    """Draws bones and joints (pixels; NaN: not there), coloured by the person's side."""
    style = style or style_for(frame)
    colors = dict(style.colors)
    seen = np.isfinite(joints).all(1)
    trust = np.where(seen, 1.0 if confidence is None else np.nan_to_num(confidence), 0.0).clip(0, 1)
    trust = np.where(trust >= style.min_confidence, trust, 0.0)
    bones = [(a, b) for a, b in skeleton.bones if trust[a] > 0 and trust[b] > 0]
    for width, dark in ((style.thickness + 2.0, True), (style.thickness, False)):
        for a, b in bones:
            color = (20, 20, 24) if dark else colors[_bone_side(skeleton, a, b)]
            alpha = style.opacity * min(trust[a], trust[b]) * (0.55 if dark else 1.0)
            _blend_line(frame, joints[a], joints[b], color, alpha, width)
    for index in np.flatnonzero(trust):
        color = colors[skeleton.side(skeleton.joints[index])]
        alpha = style.opacity * trust[index]
        _blend_disk(frame, joints[index], (250, 250, 250), alpha, 0.95 * style.thickness)
        _blend_disk(frame, joints[index], color, alpha, 0.62 * style.thickness)


def draw_box(
    frame: Frame, box: Float[np.ndarray, "4"], color: Color = (255, 214, 64), *, thickness: float | int = 2.0
) -> None:
    """Draws the border of a box x0, y0, x1, y1 (pixels)."""
    x0, y0, x1, y1 = (float(value) for value in box)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    for k in range(4):
        _blend_line(frame, corners[k], corners[(k + 1) % 4], color, 0.95, thickness)


def draw_label(
    frame: Frame,
    text: str,
    position: tuple[float | int, float | int],
    *,
    color: Color = (255, 255, 255),
    size: float | int | None = None,
) -> None:
    """Writes text (ASCII) on a dark plate whose upper left corner is at `position` (x, y), moved into the frame."""
    height, width = frame.shape[:2]
    scale = (max(12.0, min(height, width) / 34) if size is None else size) / 22
    weight = max(1, round(1.4 * scale))
    (text_width, text_height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    pad = round(0.45 * text_height)
    plate = (text_width + 2 * pad, text_height + baseline + 2 * pad)
    x = int(np.clip(round(position[0]), 0, max(0, width - plate[0])))
    y = int(np.clip(round(position[1]), 0, max(0, height - plate[1])))
    region = frame[y : y + plate[1], x : x + plate[0]]
    region[:] = (0.42 * region + 0.58 * np.array([24, 26, 32])).astype(np.uint8)
    origin = (x + pad, y + pad + text_height)
    cv2.putText(frame, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, color, weight, cv2.LINE_AA)


def draw_parts(frame: Frame, parts: Integer[np.ndarray, "H W"], *, opacity: float = 0.6) -> None:
    """Colours the pixels of parts 1 to 24; 0 is left as it is."""
    inside = parts > 0
    color = part_colors()[parts[inside]]
    frame[inside] = np.rint((1 - opacity) * frame[inside] + opacity * color).astype(np.uint8)


def draw_mask(
    frame: Frame, mask: Float[np.ndarray, "H W"], color: Color = (90, 200, 255), *, opacity: float = 0.5
) -> None:
    """Tints a mask (0 to 1)."""
    alpha = opacity * mask[..., None]
    frame[:] = np.rint((1 - alpha) * frame + alpha * np.array(color)).astype(np.uint8)


def _bone_side(skeleton: Skeleton, parent: int, child: int) -> str:
    side = skeleton.side(skeleton.joints[child])
    return side if side != "centre" else skeleton.side(skeleton.joints[parent])


def _blend_line(frame: Frame, a: np.ndarray, b: np.ndarray, color: Color, alpha: float, thickness: float) -> None:
    height, width = frame.shape[:2]
    inside, start, end = _clip(a, b, width, height, margin=thickness + 2)
    if inside:
        axis = end - start
        length = float(np.hypot(*axis))
        normal = np.array([-axis[1], axis[0]]) / length if length > 1e-6 else np.zeros(2)
        side = normal * thickness / 2
        polygon = np.array([start + side, end + side, end - side, start - side])
        _blend_shape(frame, polygon, thickness / 2, color, alpha, (start, end))


def _blend_disk(frame: Frame, centre: np.ndarray, color: Color, alpha: float, radius: float) -> None:
    height, width = frame.shape[:2]
    if -radius - 1 <= centre[0] <= width + radius and -radius - 1 <= centre[1] <= height + radius:
        _blend_shape(frame, None, radius, color, alpha, (centre,))


def _blend_shape(
    frame: Frame,
    polygon: np.ndarray | None,
    radius: float,
    color: Color,
    alpha: float,
    disks: tuple[np.ndarray, ...],
) -> None:
    """Blends the union of a polygon and disks into the frame, touching its bounding box only."""
    height, width = frame.shape[:2]
    points = np.stack(disks)
    x0, y0 = np.maximum(np.floor(points.min(0) - radius - 2).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(points.max(0) + radius + 3).astype(int), (width, height))
    if x0 >= x1 or y0 >= y1:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    if polygon is not None:
        cv2.fillConvexPoly(mask, _fixed(polygon - (x0, y0)), 255, cv2.LINE_AA, _SHIFT)
    for disk in disks:
        x, y = _fixed(disk - (x0, y0))
        cv2.circle(mask, (int(x), int(y)), max(1, round(radius * (1 << _SHIFT))), 255, -1, cv2.LINE_AA, _SHIFT)
    region = frame[y0:y1, x0:x1]
    weight = mask[..., None].astype(np.float32) * np.float32(alpha / 255)
    region[:] = np.rint(region + weight * (np.array(color, np.float32) - region)).astype(np.uint8)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)


def _clip(a: np.ndarray, b: np.ndarray, width: int, height: int, margin: float) -> tuple[bool, np.ndarray, np.ndarray]:
    """The part of a segment within the frame and a margin (Liang and Barsky 1984): OpenCV overflows far outside."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False, a, b
    run, enter, leave = b - a, 0.0, 1.0
    for axis, size in ((0, width), (1, height)):
        for sign, border in ((-1.0, margin), (1.0, size + margin)):
            speed, room = sign * run[axis], border - sign * a[axis]
            if speed == 0 and room < 0:
                return False, a, b
            if speed < 0:
                enter = max(enter, room / speed)
            elif speed > 0:
                leave = min(leave, room / speed)
    return bool(enter <= leave), a + enter * run, a + leave * run
