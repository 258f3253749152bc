"""Loading bodies: the shipped one, the layouts of the SMPL family, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from posekit.body.smpl_file import FREE_BODY, BodyData, load_body
from posekit.errors import FormatError, MissingFileError, UnsafeFileError


def _arrays(joints: int = 3, shapes: int = 10) -> dict[str, object]:
    """A tetrahedron with a chain of joints, in SMPL's keys."""
    random = np.random.default_rng(0)
    weights = random.random((4, joints))
    regressor = random.random((joints, 4))
    return {
        "v_template": random.normal(size=(4, 3)),
        "f": np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], dtype=np.uint32),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, *range(joints - 1)], range(joints)], dtype=np.uint32),
        "shapedirs": random.normal(size=(4, 3, shapes)),
        "posedirs": random.normal(size=(4, 3, 9 * (joints - 1))),
    }


def _save_npz(path: Path, **changes: object) -> Path:
    np.savez(path, **{key: value for key, value in {**_arrays(), **changes}.items() if value is not None})  # type: ignore[arg-type]  # any array
    return path


def test_the_free_body_is_closed_symmetric_and_complete() -> None:
    body = load_body()
    assert (body.vertex_count, len(body.faces), body.joint_count) == (6890, 13776, 24)
    edges = np.sort(body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()
    assert body.vertex_count - len(unique) + len(body.faces) == 2
    assert body.mirror is not None
    np.testing.assert_array_equal(body.mirror[body.mirror], np.arange(6890))
    np.testing.assert_allclose(body.v_template[body.mirror] * [-1, 1, 1], body.v_template, atol=1e-6)
    np.testing.assert_allclose(body.rest_joints[0], 0, atol=2e-3)
    left_hip, right_hip, head = body.rest_joints[[1, 2, 15]]
    assert left_hip[0] > 0.05 > -0.05 > right_hip[0]
    assert head[1] > 0.5
    assert 1.5 < np.ptp(body.v_template[:, 1]) < 1.8


def test_loading_again_gives_the_same_body() -> None:
    assert load_body() is load_body()
    assert load_body(FREE_BODY).digest == load_body().digest


def test_the_digest_follows_every_array(tmp_path: Path) -> None:
    base = load_body(_save_npz(tmp_path / "a.npz")).digest
    assert load_body(_save_npz(tmp_path / "b.npz")).digest == base
    for key, value in _arrays().items():
        changed = np.array(value)
        if key == "kintree_table":
            changed[0, 2] = 0
        elif key in ("weights", "f"):
            changed[[0, 1]] = changed[[1, 0]]
        else:
            changed[0] += 1
        assert load_body(_save_npz(tmp_path / "c.npz", **{key: changed})).digest != base, key


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickle_and_npz_hold_the_same_body(tmp_path: Path, protocol: int) -> None:
    arrays = _arrays()
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    sparse = {**arrays, "J_regressor": sp.csc_matrix(arrays["J_regressor"]), "bs_style": "lbs"}
    path.write_bytes(pickle.dumps(sparse, protocol=protocol))
    assert load_body(path).digest == load_body(_save_npz(tmp_path / "body.npz")).digest


def test_a_pickle_with_byte_keys(tmp_path: Path) -> None:
    path = tmp_path / "body.pkl"
    path.write_bytes(pickle.dumps({key.encode(): value for key, value in _arrays().items()}, protocol=2))
    assert load_body(path).joint_count == 3


def test_only_the_first_ten_shape_components_are_kept(tmp_path: Path) -> None:
    many = _arrays(shapes=300)
    np.savez(tmp_path / "many.npz", **many)  # type: ignore[arg-type]  # arrays
    body = load_body(tmp_path / "many.npz")
    assert body.shapedirs.shape == (4, 3, 10)
    np.testing.assert_allclose(body.shapedirs, np.asarray(many["shapedirs"])[..., :10], rtol=1e-6)


def test_other_layouts_of_the_family(tmp_path: Path) -> None:
    """SMPL-H and SMPL-X: more joints, -1 for the root's parent, pickled extras that must not be opened."""
    arrays = _arrays(joints=5, shapes=16)
    arrays["kintree_table"] = np.array([[-1, 0, 1, 0, 3], range(5)], dtype=np.int64)
    np.savez(tmp_path / "x.npz", joint2num=np.array({"pelvis": 0}, dtype=object), **arrays)  # type: ignore[arg-type]  # arrays
    assert load_body(tmp_path / "x.npz").parents == (-1, 0, 1, 0, 3)


def test_joints_of_a_shape_come_from_the_regressor(tmp_path: Path) -> None:
    body = load_body(_save_npz(tmp_path / "body.npz"))
    betas = np.arange(10.0)
    joints = body.joint_regressor @ (body.v_template + body.shapedirs @ betas)
    np.testing.assert_allclose(body.rest_joints + body.joint_shapedirs @ betas, joints, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "lacks weights"),
        ({"v_template": np.zeros((4, 2))}, r"v_template has the wrong shape; got \(4, 2\); accepted: \(any, 3\)"),
        ({"v_template": np.array([["a"] * 3] * 4)}, "v_template is no array of numbers"),
        ({"v_template": np.full((4, 3), np.nan)}, "not finite"),
        ({"f": np.array([[0, 1, 4]])}, r"outside 0\.\.3"),
        ({"f": np.zeros((0, 3), int)}, "outside"),
        ({"f": np.zeros((4, 3))}, "f is no array of numbers"),
        ({"weights": np.ones((4, 3))}, "sum to 1"),
        ({"weights": np.array([[2.0, -1, 0]] * 4)}, "non-negative"),
        ({"kintree_table": np.array([[0, 0, 1], [0, 1, 2]])}, "must be the root"),
        ({"kintree_table": np.array([[-1, 2, 0], [0, 1, 2]])}, "precede"),
        ({"posedirs": np.zeros((4, 3, 207))}, "posedirs has the wrong shape"),
        ({"J_regressor": np.zeros((24, 4))}, "J_regressor has the wrong shape"),
        ({"mirror": np.zeros(3, int)}, "mirror has the wrong shape"),
    ],
)
def test_a_broken_file_gets_a_clear_error(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=message) as error:
        load_body(_save_npz(tmp_path / "broken.npz", **changes))
    assert "broken.npz" in str(error.value)


def test_files_that_are_no_bodies(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes(FREE_BODY.read_bytes()[:5000])
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "objects.npz").write_bytes(b"")
    for name in ("text.npz", "cut.npz", "list.pkl", "objects.npz"):
        with pytest.raises(FormatError, match=name):
            load_body(tmp_path / name)
    np.savez(tmp_path / "objects.npz", v_template=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match="objects"):
        load_body(tmp_path / "objects.npz")
    with pytest.raises(MissingFileError, match=r"body\.path"):
        load_body(tmp_path / "nowhere.pkl")


def test_no_damage_to_an_archive_raises_anything_else(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "body.npz", **_arrays())  # type: ignore[arg-type]  # arrays
    whole = (tmp_path / "body.npz").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(whole)
        for place in random.integers(0, len(whole), size=3):
            changed[place] = random.integers(256)
        (tmp_path / "changed.npz").write_bytes(bytes(changed))
        try:
            load_body(tmp_path / "changed.npz")
        except FormatError:
            refused += 1
    assert refused > 200


def test_a_pickle_that_calls_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeFileError, match=r"os\.system"):
        load_body(tmp_path / "evil.pkl")


def test_extras_are_empty_where_the_file_has_none(tmp_path: Path) -> None:
    body = load_body(_save_npz(tmp_path / "body.npz"))
    assert isinstance(body, BodyData)
    assert body.mirror is None
    assert body.face_part is None
    assert dict(body.vertex_ids) == {}
