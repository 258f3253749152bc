from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import BodyData, load_body
from posekit.export.gltf import AnimatedBody, quaternions_over_time, write_glb

COMPONENTS = {5126: "<f4", 5121: "u1", 5123: "<u2", 5125: "<u4"}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Viewer:
    """A second implementation of glTF skinning, as the specification has it."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        magic, version, length = struct.unpack_from("<III", raw)
        assert (magic, version, length) == (0x46546C67, 2, len(raw))
        size, kind = struct.unpack_from("<II", raw, 12)
        assert kind == 0x4E4F534A and size % 4 == 0
        self.document: dict[str, Any] = json.loads(raw[20 : 20 + size])
        binary_size, kind = struct.unpack_from("<II", raw, 20 + size)
        assert kind == 0x004E4942 and binary_size % 4 == 0
        self.binary = raw[28 + size :]
        assert len(self.binary) == binary_size == self.document["buffers"][0]["byteLength"]

    def accessor(self, index: int) -> np.ndarray:
        accessor = self.document["accessors"][index]
        view = self.document["bufferViews"][accessor["bufferView"]]
        width, kind = WIDTHS[accessor["type"]], COMPONENTS[accessor["componentType"]]
        assert view["byteOffset"] % 4 == 0
        values = np.frombuffer(self.binary, kind, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)
        assert values.nbytes == view["byteLength"]
        if "min" in accessor:
            np.testing.assert_array_equal(values.min(0), np.float32(accessor["min"]))
            np.testing.assert_array_equal(values.max(0), np.float32(accessor["max"]))
        return values

    def global_matrices(self, frame: int | None) -> np.ndarray:
        nodes = [dict(node) for node in self.document["nodes"]]
        if frame is not None:
            animation = self.document["animations"][0]
            for channel in animation["channels"]:
                values = self.accessor(animation["samplers"][channel["sampler"]]["output"])
                nodes[channel["target"]["node"]][channel["target"]["path"]] = values[frame]
        matrices = np.zeros((len(nodes), 4, 4))

        def visit(index: int, above: np.ndarray) -> None:
            node = nodes[index]
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, :3] *= np.asarray(node.get("scale", [1, 1, 1]))
            local[:3, 3] = node.get("translation", [0, 0, 0])
            matrices[index] = above @ local
            for child in node.get("children", []):
                visit(child, matrices[index])

        for root in self.document["scenes"][0]["nodes"]:
            visit(root, np.eye(4))
        return matrices

    def skinned(self, frame: int | None, body: int = 0) -> np.ndarray:
        node = [node for node in self.document["nodes"] if "skin" in node][body]
        attributes = self.document["meshes"][node["mesh"]]["primitives"][0]["attributes"]
        skin = self.document["skins"][node["skin"]]
        inverse_bind = self.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        joints = self.global_matrices(frame)[skin["joints"]] @ inverse_bind
        positions = np.pad(self.accessor(attributes["POSITION"]), ((0, 0), (0, 1)), constant_values=1.0)
        matrices = np.zeros((len(positions), 4, 4))
        for number in range(2):
            if f"JOINTS_{number}" in attributes:
                weights = self.accessor(attributes[f"WEIGHTS_{number}"])
                chosen = joints[self.accessor(attributes[f"JOINTS_{number}"])]
                matrices += (weights[..., None, None] * chosen).sum(1)
        return np.einsum("vij,vj->vi", matrices, positions)[:, :3]


@pytest.fixture(scope="module")
def free_body() -> BodyData:
    return load_body()


def _motion(body: BodyData, frames: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    vectors = 0.5 * generator.normal(size=(frames, body.joint_count, 3))
    rotations = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(frames, -1, 3, 3)
    return rotations, generator.normal(size=(frames, 3))


def _animated(body: BodyData, frames: int = 5, **changes: Any) -> AnimatedBody:
    rotations, roots = _motion(body, frames)
    values = {
        "name": "person 0",
        "rest_vertices": body.v_template.astype(np.float64),
        "faces": body.faces,
        "weights": body.weights.astype(np.float64),
        "rest_joints": body.rest_joints,
        "parents": body.parents,
        "joint_names": [f"joint{index}" for index in range(body.joint_count)],
        "local_rotations": rotations,
        "root_positions": roots,
        "times": np.arange(frames) / 25.0,
    }
    return AnimatedBody(**(values | changes))


def _expected(body: BodyData, animated: AnimatedBody) -> np.ndarray:
    model = SegmentScaledBody(body, dtype=torch.float64)
    scales = np.ones(body.joint_count) if animated.segment_scales is None else animated.segment_scales
    local = torch.from_numpy(animated.local_rotations.copy())
    root_turn = local[:, :1].clone()
    local[:, 0] = torch.eye(3, dtype=torch.float64)
    posed = model.posed_vertices(local, torch.from_numpy(scales).expand(len(local), -1))
    turned = posed.points @ root_turn[:, 0].mT
    return turned.numpy() + animated.root_positions[:, None]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_viewer_sees_the_posed_body(tmp_path: Path, free_body: BodyData, scaled: bool) -> None:
    scales = np.random.default_rng(1).uniform(0.7, 1.4, free_body.joint_count) if scaled else None
    animated = _animated(free_body, segment_scales=scales)
    write_glb(tmp_path / "a.glb", [animated])
    viewer = Viewer(tmp_path / "a.glb")
    expected = _expected(free_body, animated)
    for frame in (0, 2, 4):
        np.testing.assert_allclose(viewer.skinned(frame), expected[frame], atol=2e-5)
    np.testing.assert_allclose(viewer.skinned(None), expected[0], atol=2e-5)
    np.testing.assert_allclose(viewer.accessor(_sampler(viewer)["input"])[:, 0], animated.times, atol=1e-6)


def _sampler(viewer: Viewer) -> dict[str, int]:
    return viewer.document["animations"][0]["samplers"][0]


def test_structure_and_weights(tmp_path: Path, free_body: BodyData) -> None:
    write_glb(tmp_path / "a.glb", [_animated(free_body)])
    viewer = Viewer(tmp_path / "a.glb")
    attributes = viewer.document["meshes"][0]["primitives"][0]["attributes"]
    total = sum(viewer.accessor(attributes[f"WEIGHTS_{i}"]).sum(1) for i in range(2) if f"WEIGHTS_{i}" in attributes)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(viewer.accessor(attributes["NORMAL"]), axis=1), 1.0, atol=1e-5)
    for channel in viewer.document["animations"][0]["channels"]:
        if channel["target"]["path"] == "rotation":
            sampler = viewer.document["animations"][0]["samplers"][channel["sampler"]]
            quaternions = viewer.accessor(sampler["output"])
            np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1.0, atol=1e-6)
            assert ((quaternions[1:] * quaternions[:-1]).sum(1) >= 0).all()
    reached = [child for node in viewer.document["nodes"] for child in node.get("children", [])]
    reached += viewer.document["scenes"][0]["nodes"]
    assert sorted(reached) == list(range(len(viewer.document["nodes"])))


def test_trimesh_reads_it(tmp_path: Path, free_body: BodyData) -> None:
    write_glb(tmp_path / "a.glb", [_animated(free_body)])
    scene = trimesh.load(tmp_path / "a.glb", process=False)
    (mesh,) = scene.geometry.values()
    np.testing.assert_allclose(mesh.vertices, free_body.v_template, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, free_body.faces)


def test_two_people_and_colours(tmp_path: Path, free_body: BodyData) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (free_body.vertex_count, 3), dtype=np.uint8)
    first, second = _animated(free_body), _animated(free_body, name="person 1", colours=colours)
    second = AnimatedBody(**{**vars(second), "root_positions": second.root_positions + 3.0})
    write_glb(tmp_path / "a.glb", [first, second])
    viewer = Viewer(tmp_path / "a.glb")
    np.testing.assert_allclose(viewer.skinned(3, 1), _expected(free_body, second)[3], atol=2e-5)
    attributes = viewer.document["meshes"][1]["primitives"][0]["attributes"]
    np.testing.assert_array_equal(viewer.accessor(attributes["COLOR_0"])[:, :3], colours)
    assert "COLOR_0" not in viewer.document["meshes"][0]["primitives"][0]["attributes"]


def test_one_frame_has_no_animation(tmp_path: Path, free_body: BodyData) -> None:
    animated = _animated(free_body, frames=1)
    write_glb(tmp_path / "a.glb", [animated])
    viewer = Viewer(tmp_path / "a.glb")
    assert "animations" not in viewer.document
    np.testing.assert_allclose(viewer.skinned(None), _expected(free_body, animated)[0], atol=2e-5)


def test_quaternions_do_not_jump_over_time() -> None:
    angles = np.linspace(0, 4 * np.pi, 60)
    rotations = Rotation.from_rotvec(angles[:, None] * np.array([0.0, 1.0, 0.0])).as_matrix()[:, None]
    quaternions = quaternions_over_time(rotations)[:, 0]
    assert np.abs(np.diff(quaternions, axis=0)).max() < 0.12
    np.testing.assert_allclose(Rotation.from_quat(quaternions).as_matrix(), rotations[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parents": [0] * 24}, "root"),
        ({"joint_names": ["a"]}, "one number"),
        ({"times": np.zeros(5)}, "rise"),
        ({"root_positions": np.full((5, 3), np.nan)}, "finite"),
    ],
)
def test_impossible_bodies_are_refused(
    tmp_path: Path, free_body: BodyData, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_glb(tmp_path / "a.glb", [_animated(free_body, **changes)])
    assert list(tmp_path.iterdir()) == []
