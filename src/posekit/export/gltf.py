"""Animated, skinned bodies as binary glTF 2.0 (GLB): y up, metres, seconds.

A joint becomes a node that turns; its children hang on it. Where a body has segment scales, each joint gets a second node
below it, without children, that carries the scale and is what the skin is bound to. glTF scales are inherited, those of
segments are not: this way a viewer computes exactly ``v = sum_k w_k (scale_k A_k (v_rest - J_k) + P_k)``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

import posekit
from posekit.atomic import replacing
from posekit.geometry.rotations import quaternion_from_matrix

_FLOAT, _UBYTE, _USHORT, _UINT = 5126, 5121, 5123, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_MAGIC, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
_BONES_PER_SET, _MOST_SETS = 4, 2
_NEGLIGIBLE_WEIGHT = 1e-6
_SKIN_COLOUR = (0.72, 0.62, 0.55, 1.0)


@dataclass(frozen=True, eq=False)
class AnimatedBody:
    """A skinned body and its motion, in metres, y up.

    Joint k stands at ``rest_joints[k]`` in the resting mesh. `local_rotations` are relative to the parent, the root's to the
    world; `root_positions` are where the root joint is. `segment_scales` are absolute, not inherited, and constant over
    time. Parents stand before their children; the root is joint 0 with parent -1. `colours` are RGB of the vertices.
    """

    name: str
    rest_vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    weights: Float[np.ndarray, "V K"]
    rest_joints: Float[np.ndarray, "K 3"]
    parents: Sequence[int]
    joint_names: Sequence[str]
    local_rotations: Float[np.ndarray, "T K 3 3"]
    root_positions: Float[np.ndarray, "T 3"]
    times: Float[np.ndarray, "T"]
    segment_scales: Float[np.ndarray, "K"] | None = None
    colours: UInt8[np.ndarray, "V 3"] | None = None


def write_glb(path: Path, bodies: Sequence[AnimatedBody]) -> None:
    """Writes bodies into one file and one animation; before it plays, each stands in its first frame.

    A vertex keeps its eight strongest bones. `times` are seconds and must rise. Raises OutputError where the file cannot be
    written.
    """
    document = _Document()
    for body in bodies:
        _check(body)
        document.add_body(body)
    with replacing(path) as temporary:
        temporary.write_bytes(document.to_bytes())


class _Document:
    """The JSON and the binary part of a file while it grows."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": f"posekit {posekit.__version__}"},
            "scene": 0,
            "scenes": [{"nodes": []}],
            "nodes": [],
            "meshes": [],
            "skins": [],
            "materials": [],
            "accessors": [],
            "bufferViews": [],
        }
        self.channels: list[dict[str, Any]] = []
        self.samplers: list[dict[str, Any]] = []

    def add_body(self, body: AnimatedBody) -> None:
        turning, bound = self._add_nodes(body)
        inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(bound), 1, 1))
        inverse_bind[:, 3, :3] = -body.rest_joints  # matrices are stored by columns
        matrices = self._accessor(inverse_bind.reshape(-1, 16), "MAT4", _FLOAT)
        self.json["skins"].append({"joints": bound, "inverseBindMatrices": matrices, "skeleton": turning[0]})
        self.json["meshes"].append({"name": body.name, "primitives": [self._primitive(body)]})
        mesh, skin = len(self.json["meshes"]) - 1, len(self.json["skins"]) - 1
        self.json["nodes"].append({"name": body.name, "mesh": mesh, "skin": skin})
        self.json["scenes"][0]["nodes"] += [turning[0], len(self.json["nodes"]) - 1]
        if len(body.times) > 1:
            self._animate(body, turning)

    def _add_nodes(self, body: AnimatedBody) -> tuple[list[int], list[int]]:
        nodes: list[dict[str, Any]] = self.json["nodes"]
        offsets, scales = _bone_offsets(body), body.segment_scales
        first = quaternions_over_time(body.local_rotations[:1])[0]
        turning = [len(nodes) + joint for joint in range(len(body.parents))]
        for joint, name in enumerate(body.joint_names):
            children = [turning[child] for child, parent in enumerate(body.parents) if parent == joint]
            place = body.root_positions[0] if joint == 0 else offsets[joint]
            node: dict[str, Any] = {"name": name, "translation": _floats(place), "rotation": _floats(first[joint])}
            nodes.append(node | ({"children": children} if children else {}))
        if scales is None:
            return turning, turning
        bound = []
        for joint, name in enumerate(body.joint_names):
            bound.append(len(nodes))
            nodes[turning[joint]].setdefault("children", []).append(len(nodes))
            nodes.append({"name": f"{name}_segment", "scale": [float(np.float32(scales[joint]))] * 3})
        return turning, bound

    def _primitive(self, body: AnimatedBody) -> dict[str, Any]:
        vertices = body.rest_vertices.astype(np.float32)
        attributes = {
            "POSITION": self._accessor(vertices, "VEC3", _FLOAT, _VERTEX_BUFFER, bounds=True),
            "NORMAL": self._accessor(_normals(body), "VEC3", _FLOAT, _VERTEX_BUFFER),
        }
        for index, (joints, weights) in enumerate(_strongest_bones(body.weights)):
            kind = _UBYTE if joints.dtype == np.uint8 else _USHORT
            attributes[f"JOINTS_{index}"] = self._accessor(joints, "VEC4", kind, _VERTEX_BUFFER)
            attributes[f"WEIGHTS_{index}"] = self._accessor(weights, "VEC4", _FLOAT, _VERTEX_BUFFER)
        if body.colours is not None:
            opaque = np.full((len(vertices), 1), 255, dtype=np.uint8)
            rgba = np.concatenate([body.colours, opaque], axis=1)
            attributes["COLOR_0"] = self._accessor(rgba, "VEC4", _UBYTE, _VERTEX_BUFFER, normalized=True)
        colour = list(_SKIN_COLOUR) if body.colours is None else [1.0, 1.0, 1.0, 1.0]
        surface = {"baseColorFactor": colour, "metallicFactor": 0.0, "roughnessFactor": 0.9}
        self.json["materials"].append({"name": body.name, "pbrMetallicRoughness": surface})
        indices = self._accessor(body.faces.astype(np.uint32).reshape(-1, 1), "SCALAR", _UINT, _INDEX_BUFFER)
        return {"attributes": attributes, "indices": indices, "material": len(self.json["materials"]) - 1, "mode": 4}

    def _animate(self, body: AnimatedBody, turning: Sequence[int]) -> None:
        times = self._accessor(body.times.astype(np.float32)[:, None], "SCALAR", _FLOAT, bounds=True)
        quaternions = quaternions_over_time(body.local_rotations)
        for joint, node in enumerate(turning):
            self._channel(times, quaternions[:, joint], "VEC4", node, "rotation")
        self._channel(times, body.root_positions.astype(np.float32), "VEC3", turning[0], "translation")

    def _channel(self, times: int, values: np.ndarray, kind: str, node: int, path: str) -> None:
        output = self._accessor(values, kind, _FLOAT)
        self.channels.append({"sampler": len(self.samplers), "target": {"node": node, "path": path}})
        self.samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})

    def _accessor(
        self,
        values: np.ndarray,
        kind: str,
        component: int,
        target: int | None = None,
        *,
        bounds: bool = False,
        normalized: bool = False,
    ) -> int:
        raw = np.ascontiguousarray(values).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(raw)}
        self.binary += raw + bytes(-len(raw) % 4)
        self.json["bufferViews"].append(view if target is None else view | {"target": target})
        accessor: dict[str, Any] = {
            "bufferView": len(self.json["bufferViews"]) - 1,
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            accessor |= {"min": _floats(values.min(axis=0)), "max": _floats(values.max(axis=0))}
        self.json["accessors"].append(accessor | ({"normalized": True} if normalized else {}))
        return len(self.json["accessors"]) - 1

    def to_bytes(self) -> bytes:
        content = {key: value for key, value in self.json.items() if value != []}
        content["buffers"] = [{"byteLength": len(self.binary)}]
        if self.channels:
            content["animations"] = [{"name": "motion", "channels": self.channels, "samplers": self.samplers}]
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(self.binary)
        return b"".join(
            [
                struct.pack("<III", _MAGIC, 2, total),
                struct.pack("<II", len(text), _JSON_CHUNK),
                text,
                struct.pack("<II", len(self.binary), _BINARY_CHUNK),
                bytes(self.binary),
            ]
        )


def quaternions_over_time(rotations: Float[np.ndarray, "T K 3 3"]) -> Float[np.ndarray, "T K 4"]:
    """Unit quaternions (x, y, z, w), glTF's order, of one sign over time so that every interpolation goes the short way."""
    wxyz = quaternion_from_matrix(torch.from_numpy(np.asarray(rotations, dtype=np.float64))).numpy()
    turns = np.where((wxyz[1:] * wxyz[:-1]).sum(-1) < 0, -1.0, 1.0)
    signs = np.concatenate([np.ones_like(wxyz[:1, :, 0]), np.cumprod(turns, axis=0)])
    return np.roll(wxyz * signs[..., None], -1, axis=-1).astype(np.float32)


def _check(body: AnimatedBody) -> None:
    if body.parents[0] != -1 or any(not 0 <= parent < joint for joint, parent in enumerate(body.parents) if joint):
        raise ValueError("joint 0 must be the root and parents must stand before their children")
    if len(body.joint_names) != len(body.parents) or len(body.parents) != len(body.rest_joints):
        raise ValueError("parents, names and rest joints must be of one number")
    if len(body.times) == 0 or not (np.diff(body.times) > 0).all():
        raise ValueError("times must rise, and there must be at least one")
    moving = (body.rest_vertices, body.local_rotations, body.root_positions)
    if not all(np.isfinite(values).all() for values in moving):
        raise ValueError("the body holds values that are not finite")


def _bone_offsets(body: AnimatedBody) -> Float[np.ndarray, "K 3"]:
    """Where each joint hangs on its parent: the bone is as long as the parent's segment is scaled."""
    parents = np.maximum(np.asarray(body.parents), 0)
    offsets = body.rest_joints - body.rest_joints[parents]
    return offsets if body.segment_scales is None else offsets * body.segment_scales[parents, None]


def _strongest_bones(weights: Float[np.ndarray, "V K"]) -> list[tuple[np.ndarray, Float[np.ndarray, "V 4"]]]:
    """Up to two sets of four bones for each vertex, strongest first, with weights that sum to one."""
    count = min(weights.shape[1], _BONES_PER_SET * _MOST_SETS)
    order = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    kept = np.take_along_axis(weights, order, axis=1).astype(np.float64)
    kept = np.where(kept > _NEGLIGIBLE_WEIGHT, kept, 0.0)
    kept /= kept.sum(axis=1, keepdims=True)
    order = np.where(kept > 0, order, 0)
    width = _BONES_PER_SET * (1 if count <= _BONES_PER_SET or not kept[:, _BONES_PER_SET:].any() else _MOST_SETS)
    index_type = np.uint8 if weights.shape[1] <= 256 else np.uint16
    joints = np.zeros((len(weights), width), dtype=index_type)
    shares = np.zeros((len(weights), width), dtype=np.float32)
    used = min(count, width)
    joints[:, :used], shares[:, :used] = order[:, :used], kept[:, :used]
    return [
        (joints[:, begin : begin + _BONES_PER_SET], shares[:, begin : begin + _BONES_PER_SET])
        for begin in range(0, width, _BONES_PER_SET)
    ]


def _normals(body: AnimatedBody) -> Float[np.ndarray, "V 3"]:
    corners = body.rest_vertices[body.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(body.rest_vertices)
    for corner in range(3):
        np.add.at(normals, body.faces[:, corner], across)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    upward = np.array([0.0, 1.0, 0.0])
    return np.where(length > 0, normals / np.where(length > 0, length, 1.0), upward).astype(np.float32)


def _floats(values: np.ndarray) -> list[float]:
    return [float(value) for value in np.asarray(values, dtype=np.float32).reshape(-1)]
