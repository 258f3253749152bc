"""Named vertices, labels for painting, and the vertex order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int

from posekit.body.free_body.charts import limb_weights
from posekit.body.free_body.rig import SIDES
from posekit.body.free_body.sources import BoneRig
from posekit.body.free_body.topology import Topology
from posekit.body.landmarks import SMPL_VERTEX_IDS
from posekit.body.smpl_file import PAINT_LABELS
from posekit.errors import FormatError
from posekit.skeleton.catalog import SMPL24

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def named_vertices(
    vertices: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "24 3"],
    topology: Topology,
    rig: BoneRig,
) -> dict[str, int]:
    """The vertices that SMPL's users select by number: face, fingertips, toes and heels, by the names `smplx` uses."""
    weights = rig.weights[topology.base_index]

    def furthest(direction: Float[np.ndarray, "3"], bone: str, least: float) -> int:
        on_bone = weights[:, rig.index(bone)].toarray().ravel() > least
        return int(np.argmax(np.where(on_bone, vertices @ direction, -np.inf)))

    def foremost(chosen: np.ndarray, axis: int) -> int:
        return int(np.argmax(np.where(chosen, vertices[:, axis], -np.inf)))

    top = vertices[:, 1].max()
    on_head = vertices[:, 1] > top - 0.25
    on_middle = topology.mirror == np.arange(len(vertices))
    left = {"eye": topology.eye_poles[0], "ear": foremost(on_head, 0)}
    wrist, hand = (joints[SMPL24.index(joint)] for joint in ("left_wrist", "left_hand"))
    for i, finger in enumerate(_FINGERS, start=1):
        direction = np.array([0.5, 0, 0.6]) if finger == "thumb" else hand - wrist
        left[finger] = furthest(direction, f"finger{i}-3.L", 0.8)
    left["BigToe"] = furthest(np.array([0, 0, 1.0]), "toe1-2.L", 0.6)
    left["SmallToe"] = furthest(np.array([0.5, 0, 1.0]), "toe5-3.L", 0.6)
    left["Heel"] = furthest(np.array([0, -0.5, -1.0]), "foot.L", 0.6)
    named = {"nose": foremost(on_middle & on_head & (vertices[:, 1] < top - 0.08), 2)}
    for side, _, _ in SIDES:
        for name, vertex in left.items():
            key = f"{side}{name}" if name[0].isupper() else f"{side.lower()}{name}"
            named[key] = vertex if side == "L" else int(topology.mirror[vertex])
    return named


def vertex_order(named: Mapping[str, int], vertex_count: int) -> Int[np.ndarray, " V"]:
    """An order of the vertices that gives the named ones the numbers they have in SMPL; the others keep theirs' order."""
    order = np.full(vertex_count, -1)
    for name, vertex in named.items():
        order[SMPL_VERTEX_IDS[name]] = vertex
    order[order < 0] = np.setdiff1d(np.arange(vertex_count), list(named.values()))
    return order


def paint_labels(
    vertices: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "24 3"],
    weights: Float[np.ndarray, "V 24"],
    named: Mapping[str, int],
    masks: Mapping[str, Float[np.ndarray, " V"]],
) -> Int[np.ndarray, " V"]:
    """What is painted on every vertex, as an index into `PAINT_LABELS`."""
    limb = limb_weights(weights)
    arms, legs, feet = (
        sum(limb[f"{side} {name}"] for side in ("left", "right")) for name in ("upper arm", "upper leg", "foot")
    )
    legs = legs + limb["left lower leg"] + limb["right lower leg"]
    above_waist = vertices[:, 1] > joints[SMPL24.index("spine1"), 1] - 0.02
    labels = np.full(len(vertices), PAINT_LABELS.index("skin"))
    labels[(limb["torso"] + arms > 0.5) & ((arms > limb["torso"]) | above_waist)] = PAINT_LABELS.index("shirt")
    labels[((limb["torso"] > 0.5) & ~above_waist) | (legs > 0.5)] = PAINT_LABELS.index("trousers")
    labels[feet > 0.5] = PAINT_LABELS.index("shoes")
    labels[_hair(vertices, weights, named, masks)] = PAINT_LABELS.index("hair")
    labels[masks["lips"] > 0.5] = PAINT_LABELS.index("lips")
    labels[[named["leye"], named["reye"]]] = PAINT_LABELS.index("eyes")
    return labels


def _hair(
    vertices: Float[np.ndarray, "V 3"],
    weights: Float[np.ndarray, "V 24"],
    named: Mapping[str, int],
    masks: Mapping[str, Float[np.ndarray, " V"]],
) -> np.ndarray:
    """The head without face and ears, above the nape."""
    ear, eye, nose = (vertices[named[name]] for name in ("lear", "leye", "nose"))
    height, depth = vertices[:, 1], vertices[:, 2]
    scalp = (weights[:, SMPL24.index("smpl_head")] > 0.55) & (masks["face"] < 0.4) & (masks["ears"] < 0.3)
    behind_or_above = (height > nose[1]) | (depth < ear[2])
    below_ears = height < ear[1] - 0.055
    cheeks = (depth > ear[2]) & (height < eye[1] + 0.01)
    return scalp & behind_or_above & ~below_ears & ~cheeks


def mask_values(mask_files: Mapping[str, Path], uv: Float[np.ndarray, "V 2"]) -> dict[str, Float[np.ndarray, " V"]]:
    """MakeHuman's texture masks in [0, 1] at the vertices."""
    values = {}
    for name, path in mask_files.items():
        picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise FormatError("a texture mask is no readable picture", got=path)
        height, width = picture.shape
        rows = np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
        columns = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
        values[name] = picture[rows, columns] / 255.0
    return values
