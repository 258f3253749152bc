"""Steps of the recipe on small data or on the shipped body, and the whole rebuilt where its sources are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posekit.body.free_body import sources as sources_module
from posekit.body.free_body.annotations import vertex_order
from posekit.body.free_body.build import build_free_body
from posekit.body.free_body.charts import build_charts
from posekit.body.free_body.correctives import twist_correctives
from posekit.body.free_body.phenotypes import Phenotypes, _quasi_random, blend_weights, mean_adult
from posekit.body.free_body.posing import PlainBody, random_bodies
from posekit.body.free_body.regressors import JointSamples, rest_joint_regressor
from posekit.body.free_body.rig import rotation, shortest_arc
from posekit.body.free_body.sources import ShapeTargets, _target_files, find_sources, read_sources
from posekit.body.smpl_file import BodyData, load_body
from posekit.errors import DependencyError, FormatError, MissingFileError, OutputError
from posekit.skeleton.catalog import SMPL24


def _plain(body: BodyData) -> PlainBody:
    arrays = (body.v_template, body.shapedirs, body.posedirs, body.weights, body.joint_regressor)
    return PlainBody(*(array.astype(np.float64) for array in arrays))


def test_rotations_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    axes, angles = random.normal(size=(20, 3)), random.uniform(-3, 3, 20)
    unit = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    expected = Rotation.from_rotvec(unit * angles[:, None]).as_matrix()
    np.testing.assert_allclose(rotation(axes, angles), expected, atol=1e-12)
    target = random.normal(size=3)
    turned = (shortest_arc(axes, target) @ unit[..., None])[..., 0]
    np.testing.assert_allclose(turned, np.broadcast_to(target / np.linalg.norm(target), (20, 3)), atol=1e-9)


def test_blend_weights_share_out_every_combination() -> None:
    traits = tuple(traits for traits, _ in _target_files(Path()))
    assert len(traits) == 192
    random = np.random.default_rng(1)
    numbers = random.random((5, 30))
    races = random.dirichlet([1, 1, 1], 30)
    people = Phenotypes(numbers[0], 2 / 3 + numbers[1] / 3, *numbers[2:], np.full(30, 0.5), races)
    blend = blend_weights(people, ShapeTargets(traits, np.zeros((192, 1, 3), np.float32)))
    assert blend.min() >= 0
    kinds = {"universal": 4, "race": 3}
    for size in kinds.values():
        rows = [i for i, names in enumerate(traits) if len(names) == size]
        np.testing.assert_allclose(blend[:, rows].sum(axis=1), 1)
    middle = blend_weights(mean_adult(), ShapeTargets(traits, np.zeros((192, 1, 3), np.float32)))[0]
    strongest = {traits[i][0] for i in np.argsort(middle)[-2:]}
    assert strongest == {"male", "female"}


def test_the_sequence_is_even_and_independent() -> None:
    points = _quasi_random(600, 10)
    assert 0 < points.min() < points.max() < 1
    np.testing.assert_allclose(points.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(points.var(axis=0), 1 / 12, atol=0.003)
    assert np.abs(np.corrcoef(points.T) - np.eye(10)).max() < 0.1


def test_twisted_limbs_stay_round() -> None:
    """The radius of the forearm where it twists, with and without correctives."""
    body = load_body()
    plain = _plain(body)
    joints = plain.regressor @ plain.vertices
    bare = PlainBody(plain.vertices, plain.shapes, np.zeros_like(plain.correctives), plain.weights, plain.regressor)
    made = PlainBody(
        plain.vertices,
        plain.shapes,
        twist_correctives(plain.vertices, joints, plain.weights),
        plain.weights,
        plain.regressor,
    )
    elbow = SMPL24.index("left_elbow")
    ring = np.flatnonzero(np.abs(plain.weights[:, [elbow, 20, 22]].sum(axis=1) - 0.5) < 0.15)
    ring = ring[plain.weights[ring, SMPL24.index("left_shoulder")] > 0.3]
    pose = np.zeros((24, 3))
    pose[elbow, 0] = np.pi / 2

    def radius(vertices: np.ndarray) -> float:
        return float(np.linalg.norm(vertices[ring, 1:] - joints[elbow, 1:], axis=1).mean())

    at_rest = radius(plain.vertices)
    assert len(ring) > 10
    assert radius(bare.posed(pose, np.zeros(10))[0]) < 0.85 * at_rest
    assert radius(made.posed(pose, np.zeros(10))[0]) == pytest.approx(at_rest, rel=0.06)
    bend = np.zeros((24, 3))
    bend[elbow, 1] = -1.0
    moved = made.posed(bend, np.zeros(10))[0] - bare.posed(bend, np.zeros(10))[0]
    assert np.abs(moved).max() < 2e-3


def test_random_bodies_are_always_the_same_people() -> None:
    plain = _plain(load_body())
    vertices, joints = random_bodies(plain, 2, seed=3)
    again, _ = random_bodies(plain, 2, seed=3)
    other, _ = random_bodies(plain, 2, seed=4)
    np.testing.assert_array_equal(vertices, again)
    assert np.abs(vertices - other).max() > 0.1
    assert joints.shape == (2, 24, 3)


def test_a_regressor_finds_joints_that_are_means_of_vertices() -> None:
    """Known rows on symmetric random bodies come back."""
    random = np.random.default_rng(5)
    half = random.normal(size=(30, 40, 3))
    bodies = np.concatenate([half, half * [-1, 1, 1]], axis=1)
    mirror = np.roll(np.arange(80), 40)
    rows = np.zeros((24, 80))
    for joint, partner in enumerate(SMPL24.flip_permutation):
        if partner < joint:
            rows[joint] = rows[partner][mirror]
        else:
            chosen = random.choice(80, 4, replace=False)
            rows[joint, chosen] = 0.25
            if partner == joint:
                rows[joint] = (rows[joint] + rows[joint][mirror]) / 2
    samples = JointSamples(bodies, np.einsum("jv,nvd->njd", rows, bodies))
    np.testing.assert_allclose(rest_joint_regressor(bodies.mean(axis=0), mirror, [samples]), rows, atol=1e-6)


def test_charts_of_the_shipped_body_are_those_of_the_recipe() -> None:
    body = load_body()
    assert body.face_uv is not None
    charts = build_charts(
        body.v_template.astype(np.float64), body.faces, body.weights.astype(np.float64), body.rest_joints, body.face_uv
    )
    same = charts.part == body.face_part
    assert same.mean() > 0.998
    distance = np.abs(charts.uv - body.face_part_uv)[same]
    assert np.mean(distance) < 5e-3


def test_named_vertices_get_the_numbers_of_smpl() -> None:
    order = vertex_order({"nose": 5, "lear": 0}, 1000)
    assert order[332] == 5
    assert order[583] == 0
    assert sorted(order.tolist()) == list(range(1000))


def test_without_the_wheel_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"posekit\[body-build\]"):
        build_free_body(None, tmp_path / "body.npz")
    assert not any(tmp_path.iterdir())


def test_another_version_of_the_wheel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec("numpy")
    monkeypatch.setattr(sources_module.importlib.util, "find_spec", lambda _: found)
    monkeypatch.setattr(sources_module.importlib.metadata, "version", lambda _: "0.7.0")
    with pytest.raises(DependencyError, match=r"0\.7\.0"):
        find_sources(None)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"base\.obj is missing"):
        find_sources(tmp_path)
    for name in ("3dobjs/base.obj", "mesh_metadata/hm08.mirror", "rigs/standard/rig.default.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(FormatError, match="unreadable"):
        read_sources(tmp_path)


@pytest.fixture
def makehuman_folder() -> Path:
    try:
        return find_sources(None)
    except DependencyError as missing:
        pytest.skip(str(missing))


@pytest.mark.extra
@pytest.mark.slow
def test_the_shipped_body_is_what_the_recipe_makes(makehuman_folder: Path, tmp_path: Path) -> None:
    """Equal numbers on the same machine; other builds of BLAS and libm may move them by the tolerances here."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        build_free_body(makehuman_folder, tmp_path / "file" / "body.npz")
    built = load_body(build_free_body(makehuman_folder, tmp_path / "body.npz"))
    shipped = load_body()
    for name in ("faces", "mirror", "face_part", "vertex_label"):
        np.testing.assert_array_equal(getattr(built, name), getattr(shipped, name), err_msg=name)
    assert built.parents == shipped.parents
    assert built.vertex_ids == shipped.vertex_ids
    assert (built.version, built.licence) == (shipped.version, shipped.licence)
    for name, tolerance in (("v_template", 1e-6), ("shapedirs", 1e-5), ("weights", 1e-5), ("posedirs", 1e-4)):
        np.testing.assert_allclose(getattr(built, name), getattr(shipped, name), atol=tolerance, err_msg=name)
    np.testing.assert_allclose(built.rest_joints, shipped.rest_joints, atol=1e-4)
    np.testing.assert_allclose(built.face_part_uv, shipped.face_part_uv, atol=1e-3)
