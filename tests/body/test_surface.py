"""The part atlas, both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from posekit.body.smpl_file import load_body
from posekit.body.surface import (
    COARSE_6,
    COARSE_6_NAMES,
    COARSE_14,
    COARSE_14_NAMES,
    PART_FLIP,
    PART_NAMES,
    SurfaceAtlas,
    atlas_from_uv_processed,
    atlas_of,
    six_parts_of,
)
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.skeleton.catalog import SMPL24


@pytest.fixture(scope="module")
def atlas() -> SurfaceAtlas:
    return atlas_of(load_body())


def _random_surface(atlas: SurfaceAtlas, count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(len(atlas.faces), size=count), random.dirichlet([1, 1, 1], size=count)


def _positions(atlas: SurfaceAtlas, face: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    return (barycentric[:, :, None] * load_body().v_template[atlas.faces[face]]).sum(axis=1)


def test_from_the_surface_to_the_chart_and_back(atlas: SurfaceAtlas) -> None:
    face, barycentric = _random_surface(atlas, 20_000)
    part, u, v = atlas.iuv_from_surface(face, barycentric)
    assert 0 <= u.min() <= u.max() <= 1
    assert 0 <= v.min() <= v.max() <= 1
    found = atlas.surface_from_iuv(part, u, v)
    np.testing.assert_array_equal(atlas.face_part[found[0]], part)
    np.testing.assert_allclose(found[1].sum(axis=1), 1, atol=1e-9)
    assert found[1].min() >= -1e-9
    again = atlas.iuv_from_surface(*found)
    np.testing.assert_allclose(np.stack(again[1:]), np.stack([u, v]), atol=1e-6)
    distance = np.linalg.norm(_positions(atlas, *found) - _positions(atlas, face, barycentric), axis=1)
    # Charts fold in a few places (below 3 % of a part), where two places share a chart point.
    assert np.mean(distance < 1e-3) > 0.97
    assert np.mean(distance) < 1e-3


def test_located_faces_are_the_nearest_of_all(atlas: SurfaceAtlas) -> None:
    """Brute force over all faces of the part, in float64, for points in and outside the charts."""
    random = np.random.default_rng(1)
    for part in (1, 3, 24):
        rows = np.flatnonzero(atlas.face_part == part)
        points = random.uniform(-0.2, 1.2, size=(20, 2))
        face, barycentric = atlas.surface_from_iuv(np.full(20, part), points[:, 0], points[:, 1])
        reached = (barycentric[:, :, None] * atlas.face_uv[face]).sum(axis=1)
        corner = atlas.face_uv[rows].astype(float)
        shares = random.dirichlet([0.3, 0.3, 0.3], size=60)
        samples = np.einsum("sk,fkd->fsd", shares, corner).reshape(-1, 2)
        best = np.array([np.linalg.norm(point - samples, axis=1).min() for point in points])
        assert (np.linalg.norm(reached - points, axis=1) <= best + 1e-9).all()


def test_the_nearest_vertex_is_of_the_same_part_and_nearest(atlas: SurfaceAtlas) -> None:
    random = np.random.default_rng(2)
    part, (u, v) = random.integers(1, 25, size=300), random.random((2, 300))
    vertices = atlas.vertices_from_iuv(part, u, v)
    for i in range(300):
        rows = atlas.face_part == part[i]
        corners, ids = atlas.face_uv[rows].reshape(-1, 2), atlas.faces[rows].ravel()
        distance = (corners[:, 0] - u[i]) ** 2 + (corners[:, 1] - v[i]) ** 2
        assert distance[ids == vertices[i]].min() == pytest.approx(distance.min(), abs=1e-12)


def test_unknown_parts_are_refused(atlas: SurfaceAtlas) -> None:
    for part in (0, 25, -1):
        with pytest.raises(InputError, match="body part"):
            atlas.surface_from_iuv(np.array([part]), np.array([0.5]), np.array([0.5]))
        with pytest.raises(InputError, match="body part"):
            atlas.vertices_from_iuv(np.array([part]), np.array([0.5]), np.array([0.5]))


def test_no_points_are_fine(atlas: SurfaceAtlas) -> None:
    none = np.zeros(0)
    face, barycentric = atlas.surface_from_iuv(none.astype(int), none, none)
    assert face.shape == (0,)
    assert barycentric.shape == (0, 3)


def test_flipping_goes_to_the_flipped_part_and_the_mirrored_place(atlas: SurfaceAtlas) -> None:
    face, barycentric = _random_surface(atlas, 500)
    flipped = atlas.mirrored_surface(face, barycentric)
    np.testing.assert_array_equal(atlas.face_part[flipped[0]], PART_FLIP[atlas.face_part[face]])
    np.testing.assert_allclose(
        _positions(atlas, *flipped), _positions(atlas, face, barycentric) * [-1, 1, 1], atol=1e-6
    )
    twice = atlas.mirrored_surface(*flipped)
    np.testing.assert_array_equal(twice[0], face)
    np.testing.assert_allclose(twice[1], barycentric)


def test_parts_lie_where_their_names_say(atlas: SurfaceAtlas) -> None:
    body = load_body()
    centre = {part: body.v_template[atlas.faces[atlas.face_part == part]].mean(axis=(0, 1)) for part in range(1, 25)}
    for part, name in enumerate(PART_NAMES[1:], start=1):
        if "left" in name or "right" in name:
            assert (centre[part][0] > 0) == ("left" in name), name
    for back in ("torso", "right upper leg", "left upper leg", "right lower leg", "left lower leg"):
        assert centre[PART_NAMES.index(f"{back} back")][2] < centre[PART_NAMES.index(f"{back} front")][2]
    # of an arm stretched sideways, the front is the inner side that faces down
    for arm in ("left upper arm", "right lower arm"):
        assert centre[PART_NAMES.index(f"{arm} back")][1] > centre[PART_NAMES.index(f"{arm} front")][1]
    near = {"hand": "wrist", "foot": "ankle"}
    for part, joint in near.items():
        for side in ("left", "right"):
            place = body.rest_joints[SMPL24.index(f"{side}_{joint}")]
            assert np.linalg.norm(centre[PART_NAMES.index(f"{side} {part}")] - place) < 0.2


def test_coarse_groups_and_flips_agree_with_the_names() -> None:
    assert len(PART_NAMES) == len(COARSE_14) == len(COARSE_6) == len(PART_FLIP) == 25
    for part, name in enumerate(PART_NAMES):
        coarse = (
            name.removesuffix(" back").removesuffix(" front").replace("head left", "head").replace("head right", "head")
        )
        assert COARSE_14_NAMES[COARSE_14[part]] == coarse
        six = COARSE_6_NAMES[COARSE_6[part]]
        side = next((s for s in ("left", "right") if name.startswith(s)), "")
        limb = (
            "arm" if "arm" in name or "hand" in name else "leg" if "leg" in name or "foot" in name else name.split()[0]
        )
        assert six == f"{side} {limb}".strip()
        swap = {"left": "right", "right": "left"}
        assert PART_NAMES[PART_FLIP[part]] == " ".join(swap.get(word, word) for word in name.split())


def test_vertex_parts_are_the_majority_around(atlas: SurfaceAtlas) -> None:
    assert atlas.vertex_part.min() >= 1
    for vertex in (0, 332, 3000, 6889):
        around = atlas.face_part[(atlas.faces == vertex).any(axis=1)]
        assert (around == atlas.vertex_part[vertex]).sum() == np.bincount(around).max()


def _uv_processed(atlas: SurfaceAtlas) -> dict[str, np.ndarray]:
    """The free body's atlas as DensePose stores its own: seam vertices doubled, 1-based, two faces missing."""
    keep = slice(0, len(atlas.faces) - 2)
    corners = np.concatenate([atlas.faces[keep].reshape(-1, 1), atlas.face_uv[keep].reshape(-1, 2)], axis=1)
    unique, place = np.unique(corners, axis=0, return_inverse=True)
    return {
        "All_FaceIndices": atlas.face_part[keep, None].astype(np.uint8),
        "All_Faces": np.roll(place.reshape(-1, 3), 1, axis=1) + 1,
        "All_vertices": unique[None, :, 0].astype(np.uint32) + 1,
        "All_U_norm": unique[:, 1:2],
        "All_V_norm": unique[:, 2:3],
    }


def test_the_charts_of_densepose_are_read(tmp_path: Path, atlas: SurfaceAtlas) -> None:
    path = tmp_path / "UV_Processed.mat"
    scipy.io.savemat(path, _uv_processed(atlas))
    read = atlas_from_uv_processed(path, load_body())
    keep = slice(0, len(atlas.faces) - 2)
    np.testing.assert_array_equal(read.face_part[keep], atlas.face_part[keep])
    np.testing.assert_array_equal(read.face_uv[keep], atlas.face_uv[keep])
    assert (read.face_part[-2:] == 0).all()
    face, _ = read.surface_from_iuv(np.array([24]), np.array([0.5]), np.array([0.5]))
    assert read.face_part[face] == 24


def test_chart_files_that_do_not_fit(tmp_path: Path, atlas: SurfaceAtlas) -> None:
    body, path = load_body(), tmp_path / "UV_Processed.mat"
    with pytest.raises(MissingFileError):
        atlas_from_uv_processed(path, body)
    path.write_text("nothing")
    with pytest.raises(FormatError, match="no DensePose chart file"):
        atlas_from_uv_processed(path, body)
    arrays = _uv_processed(atlas)
    scipy.io.savemat(path, {key: value for key, value in arrays.items() if key != "All_U_norm"})
    with pytest.raises(FormatError, match="All_U_norm"):
        atlas_from_uv_processed(path, body)
    scipy.io.savemat(path, {**arrays, "All_vertices": arrays["All_vertices"][:, ::-1]})
    with pytest.raises(FormatError, match="faces that the body has not"):
        atlas_from_uv_processed(path, body)


def test_a_body_without_atlas_or_mirror_says_so(atlas: SurfaceAtlas) -> None:
    with pytest.raises(InputError, match=r"UV_Processed\.mat"):
        atlas_of(replace(load_body(), face_part=None))
    with pytest.raises(InputError, match="mirror"):
        replace(atlas, mirror=None).mirrored_surface(np.array([0]), np.array([[1.0, 0, 0]]))


def test_six_parts_follow_from_the_joints_where_there_is_no_atlas() -> None:
    body = load_body()
    own = six_parts_of(body)
    np.testing.assert_array_equal(own, COARSE_6[atlas_of(body).face_part])
    derived = six_parts_of(replace(body, face_part=None))
    assert set(np.unique(derived)) == set(range(1, 7))
    # They differ only along the seams: at the neck, the shoulders and the hips.
    assert (derived == own).mean() > 0.85
    for part, side in ((1, 1), (2, -1), (4, 1), (5, -1)):
        assert (side * body.v_template[body.faces[derived == part]].mean(axis=1)[:, 0] > -0.02).all()
