"""Calibration readers: what each writes is read back, and what is no calibration is refused."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posekit.camera_stack import stack_cameras
from posekit.datasets.calibration import find_calibration, pair_with_videos, read_calibration
from posekit.datasets.calibration_images import rotated_quarter
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.records import Camera

NAMES = ("cam01", "cam02", "cam03")


def make_rig(count: int = 3, distortion: tuple[float, ...] = (-0.05, 0.14, 6e-4, -7e-4, 0.0)) -> list[Camera]:
    """Cameras on a circle that look at the origin, z up."""
    cameras = []
    for index in range(count):
        angle = 1.1 * index
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.7 + 0.1 * index])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        cameras.append(
            Camera(
                name=NAMES[index] if count <= 3 else f"cam{index + 1:02d}",
                width=1088,
                height=1920,
                intrinsics=np.array([[1680.0 + index, 0, 533.25], [0, 1679.0, 948.5 + index], [0, 0, 1.0]]),
                lens="opencv",
                distortion=distortion,
                rotation=rotation,
                translation=-rotation @ centre,
            )
        )
    return cameras


def qualisys_text(cameras: list[Camera], left: int = 0, top: int = 0, extra: str = "") -> str:
    rows = []
    for camera in cameras:
        marker = np.diag([1.0, -1.0, -1.0]) @ camera.rotation
        centre = -camera.rotation.T @ camera.translation * 1000
        turn = " ".join(f'r{i + 1}{j + 1}="{float(marker[i, j])!r}"' for i in range(3) for j in range(3))
        place = " ".join(f'{axis}="{float(value)!r}"' for axis, value in zip("xyz", centre, strict=True))
        K, d = camera.intrinsics, camera.distortion
        rows.append(
            f'<camera active="1" model="Miqus Video" serial="{camera.name}" viewrotation="0">'
            f'<fov_video left="{left}" top="{top}" right="{left + camera.width - 1}" bottom="{top + camera.height - 1}"/>'
            f"<transform {turn} {place}/>"
            f'<intrinsic focalLengthU="{K[0, 0] * 64}" focalLengthV="{K[1, 1] * 64}" skew="0"'
            f' centerPointU="{(K[0, 2] + left) * 64}" centerPointV="{(K[1, 2] + top) * 64}"'
            f' radialDistortion1="{d[0]}" radialDistortion2="{d[1]}" radialDistortion3="{d[4]}"'
            f' tangentalDistortion1="{d[2]}" tangentalDistortion2="{d[3]}"/></camera>'
        )
    return f'<?xml version="1.0"?><calibration><cameras>{extra}{"".join(rows)}</cameras></calibration>'


def toml_text(cameras: list[Camera]) -> str:
    parts = []
    for camera in cameras:
        vector = Rotation.from_matrix(camera.rotation).as_rotvec().tolist()
        parts.append(
            f'[{camera.name}]\nname = "{camera.name}"\nsize = [{camera.width}.0, {camera.height}.0]\n'
            f"matrix = {camera.intrinsics.tolist()}\ndistortions = {list(camera.distortion[:4])}\n"
            f"rotation = {vector}\ntranslation = {camera.translation.tolist()}\nfisheye = false\n"
        )
    return "\n".join(parts) + "\n[metadata]\nadjusted = false\nerror = 0.4\n[capture_volume]\nscale = 1\n"


def write_easymocap(folder: Path, cameras: list[Camera], *, with_sizes: bool = True, poses: bool = True) -> Path:
    intri = cv2.FileStorage(str(folder / "intri.yml"), cv2.FILE_STORAGE_WRITE)
    extri = cv2.FileStorage(str(folder / "extri.yml"), cv2.FILE_STORAGE_WRITE)
    for storage in (intri, extri):
        storage.startWriteStruct("names", cv2.FileNode_SEQ)
        for camera in cameras:
            storage.write("", camera.name)
        storage.endWriteStruct()
    for camera in cameras:
        intri.write(f"K_{camera.name}", camera.intrinsics)
        intri.write(f"dist_{camera.name}", np.array([camera.distortion]))
        if with_sizes:
            intri.write(f"H_{camera.name}", camera.height)
            intri.write(f"W_{camera.name}", camera.width)
        extri.write(f"R_{camera.name}", cv2.Rodrigues(camera.rotation)[0])
        extri.write(f"Rot_{camera.name}", camera.rotation)
        extri.write(f"T_{camera.name}", camera.translation.reshape(3, 1))
    intri.release()
    extri.release()
    if not poses:
        (folder / "extri.yml").unlink()
    return folder / "intri.yml"


def write_opencv(folder: Path, cameras: list[Camera], *, poses: bool = True) -> Path:
    for camera in cameras:
        storage = cv2.FileStorage(str(folder / f"{camera.name}.yml"), cv2.FILE_STORAGE_WRITE)
        storage.write("image_width", camera.width)
        storage.write("image_height", camera.height)
        storage.write("camera_matrix", camera.intrinsics)
        storage.write("distortion_coefficients", np.array([camera.distortion]).T)
        if poses:
            storage.write("R", camera.rotation)
            storage.write("T", camera.translation.reshape(3, 1))
        storage.release()
    return folder


def assert_same(found: list[Camera], expected: list[Camera]) -> None:
    """The same cameras: names, sizes and where they put points."""
    assert [camera.name for camera in found] == [camera.name for camera in expected]
    assert [(c.width, c.height) for c in found] == [(c.width, c.height) for c in expected]
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    for one, other in zip(found, expected, strict=True):
        exact, _ = cv2.projectPoints(
            points, cv2.Rodrigues(other.rotation)[0], other.translation, other.intrinsics, np.array(other.distortion)
        )
        ours = stack_cameras([one]).project(_tensor(points))[0].numpy()
        np.testing.assert_allclose(ours, exact[:, 0], atol=1e-5)


def _tensor(points: np.ndarray):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(points)


def test_qualisys_with_an_offset_field_of_view(tmp_path: Path) -> None:
    path = tmp_path / "rig.qca.txt"
    path.write_text(qualisys_text(make_rig(), left=16, top=8))
    assert_same(read_calibration(path), make_rig())


def test_qualisys_leaves_out_marker_and_inactive_cameras(tmp_path: Path) -> None:
    path = tmp_path / "rig.qca.txt"
    extra = '<camera active="1" model="Oqus 7+" serial="m1"/><camera active="0" model="Miqus Video" serial="m2"/>'
    path.write_text(qualisys_text(make_rig(), extra=extra))
    assert [camera.name for camera in read_calibration(path)] == list(NAMES)


def test_qualisys_view_rotation_turns_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "rig.qca.txt"
    path.write_text(qualisys_text(make_rig()).replace('viewrotation="0"', 'viewrotation="90"'))
    points = _tensor(np.random.default_rng(1).uniform(-0.5, 0.5, (20, 3)))
    straight = stack_cameras(make_rig()).project(points).numpy()
    turned = stack_cameras(read_calibration(path)).project(points).numpy()
    np.testing.assert_allclose(turned[..., 0], 1919 - straight[..., 1], atol=1e-6)
    np.testing.assert_allclose(turned[..., 1], straight[..., 0], atol=1e-6)


def test_four_quarter_turns_are_none() -> None:
    camera = make_rig()[0]
    turned = rotated_quarter(rotated_quarter(rotated_quarter(rotated_quarter(camera))))
    assert_same([turned], [camera])


def test_toml_skips_sections_that_are_no_cameras(tmp_path: Path) -> None:
    path = tmp_path / "Calib_qualisys.toml"
    path.write_text(toml_text(make_rig()))
    assert_same(read_calibration(path), make_rig())


def test_toml_without_poses_gives_intrinsics(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    lines = [line for line in toml_text(make_rig()).splitlines() if not line.startswith(("rotation", "translation"))]
    path.write_text("\n".join(lines))
    assert not any(camera.posed for camera in read_calibration(path))


def test_cameras_with_one_and_the_same_pose_have_none(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    text = "\n".join(
        "rotation = [0.0, 0.0, 0.0]" if line.startswith("rotation") else line
        for line in toml_text(make_rig()).splitlines()
    )
    path.write_text(
        "\n".join("translation = [0, 0, 0]" if "translation" in line else line for line in text.splitlines())
    )
    assert not any(camera.posed for camera in read_calibration(path))


@pytest.mark.parametrize("name", ["intri.yml", "extri.yml"])
def test_easymocap_by_either_file(tmp_path: Path, name: str) -> None:
    write_easymocap(tmp_path, make_rig())
    assert_same(read_calibration(tmp_path / name), make_rig())
    assert find_calibration(tmp_path).name == "intri.yml"


def test_easymocap_without_poses_and_sizes(tmp_path: Path) -> None:
    found = read_calibration(write_easymocap(tmp_path, make_rig(), with_sizes=False, poses=False))
    assert [(camera.posed, camera.width) for camera in found] == [(False, 0)] * 3


@pytest.mark.parametrize("poses", [True, False])
def test_one_opencv_file_for_each_camera(tmp_path: Path, poses: bool) -> None:
    found = read_calibration(write_opencv(tmp_path, make_rig(), poses=poses))
    assert {camera.posed for camera in found} == {poses}
    if poses:
        assert_same(found, make_rig())


def test_calibrations_are_found_below_the_recording(tmp_path: Path) -> None:
    (tmp_path / "calibration").mkdir()
    (tmp_path / "Config.toml").write_text("[project]\nframe_rate = 60\n")
    path = tmp_path / "calibration" / "rig.qca.txt"
    path.write_text(qualisys_text(make_rig()))
    assert find_calibration(tmp_path) == path


def test_no_or_several_calibrations(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no calibration found"):
        find_calibration(tmp_path)
    with pytest.raises(MissingFileError, match="calibration not found"):
        read_calibration(tmp_path / "absent.toml")
    with pytest.raises(MissingFileError, match="no calibration in the folder"):
        read_calibration(tmp_path)
    (tmp_path / "a.qca.txt").write_text(qualisys_text(make_rig()))
    (tmp_path / "b.toml").write_text(toml_text(make_rig()))
    with pytest.raises(InputError, match="several calibrations"):
        find_calibration(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rig.qca.txt", "<calibration><cameras>", "not XML"),
        ("rig.qca.txt", "<!DOCTYPE a [<!ENTITY b 'c'>]><calibration/>", "entities"),
        ("rig.qca.txt", "<scene/>", "not a Qualisys calibration"),
        (
            "rig.qca.txt",
            '<calibration><cameras><camera serial="a" model="Oqus"/></cameras></calibration>',
            "video camera",
        ),
        ("rig.qca.txt", '<calibration><cameras><camera serial="a"/></cameras></calibration>', "incomplete"),
        ("rig.qca.txt", "", "empty"),
        ("rig.qca.txt", "hello", "not a calibration that posekit knows"),
        ("rig.toml", "[cam01\n", "not TOML"),
        ("rig.toml", "[metadata]\nerror = 1\n", "no cameras"),
        ("rig.toml", "[a]\nmatrix = [[1]]\n", "no distortions"),
        ("rig.toml", "[a]\nmatrix = [[1]]\ndistortions = [0, 0, 0, 0]\n", "wrong size"),
        ("rig.toml", "[a]\nmatrix = [[1]]\ndistortions = [0, 0, 0]\n", "wrong number of distortions"),
        ("rig.toml", "[a]\nmatrix = 'x'\ndistortions = [0, 0, 0, 0]\nrotation = [0, 0, 0]\n", "no translation"),
        ("rig.toml", "[a]\nmatrix = [[1]]\ndistortions = [0, 0, 0, 0]\nfisheye = true\n", "fisheye"),
        ("rig.yml", "%YAML:1.0\n---\nK_a: [1\n", "FileStorage"),
        ("rig.yml", "%YAML:1.0\n---\nimage_width: 5\n", "no camera matrix"),
        ("rig.yml", "a: b\n", "no camera matrix"),
    ],
)
def test_what_is_no_calibration(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_calibration(path)


def test_a_matrix_that_is_no_rotation(tmp_path: Path) -> None:
    path = tmp_path / "rig.qca.txt"
    text = qualisys_text(make_rig())
    path.write_text(re.sub('r11="[^"]*"', 'r11="1.5"', text))
    with pytest.raises(FormatError, match="camera cam01 is not a rotation"):
        read_calibration(path)


def test_a_reflection_is_no_rotation(tmp_path: Path) -> None:
    flipped = write_opencv(tmp_path, make_rig(1))
    storage = cv2.FileStorage(str(flipped / "cam01.yml"), cv2.FILE_STORAGE_WRITE)
    camera = make_rig(1)[0]
    storage.write("camera_matrix", camera.intrinsics)
    storage.write("distortion_coefficients", np.array([camera.distortion]))
    storage.write("R", camera.rotation * [[1], [1], [-1]])
    storage.write("T", camera.translation)
    storage.release()
    with pytest.raises(FormatError, match="not a rotation"):
        read_calibration(flipped)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_text(toml_text(make_rig()).replace("1679.0", "nan", 1))
    with pytest.raises(FormatError, match="not finite"):
        read_calibration(path)


def test_a_negative_focal_length(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_text(toml_text(make_rig()).replace("1679.0", "-1679.0", 1))
    with pytest.raises(FormatError, match="focal length"):
        read_calibration(path)


def test_a_missing_entry_names_its_key(tmp_path: Path) -> None:
    path = write_easymocap(tmp_path, make_rig())
    extri = tmp_path / "extri.yml"
    extri.write_text(extri.read_text().replace("T_cam02", "S_cam02"))
    with pytest.raises(FormatError, match="T_cam02"):
        read_calibration(path)
    qualisys = tmp_path / "rig.qca.txt"
    qualisys.write_text(qualisys_text(make_rig()).replace("centerPointU", "centrePointU"))
    with pytest.raises(FormatError, match="centerPointU"):
        read_calibration(qualisys)


def test_two_cameras_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_text(toml_text(make_rig()).replace('name = "cam02"', 'name = "cam01"'))
    with pytest.raises(FormatError, match="share a name"):
        read_calibration(path)


def test_videos_find_their_cameras_by_name() -> None:
    paired, notes = pair_with_videos(make_rig(), ["Cam_03", "cam-01"])
    assert [camera.intrinsics[0, 0] for camera in paired] == [1682.0, 1680.0]
    assert [camera.name for camera in paired] == ["Cam_03", "cam-01"]
    assert "cam02" in notes[0]


def test_videos_find_their_cameras_by_order() -> None:
    paired, notes = pair_with_videos(make_rig(), ["left", "middle", "right"])
    assert [camera.name for camera in paired] == ["left", "middle", "right"]
    assert "left = cam01" in notes[0]


def test_too_few_cameras_or_no_way_to_pair_them() -> None:
    with pytest.raises(FormatError, match="fewer cameras than there are videos"):
        pair_with_videos(make_rig(2), ["cam01", "cam02", "cam03"])
    with pytest.raises(InputError, match="which camera belongs to which video"):
        pair_with_videos(make_rig(3), ["left", "right"])


def test_the_real_recording(shared_dir: Path) -> None:
    cameras = read_calibration(find_calibration(shared_dir / "real" / "balancing"))
    assert [camera.name for camera in cameras] == ["cam_01", "cam_02", "cam_03", "cam_04"]
    centres = stack_cameras(cameras).centers().numpy()
    np.testing.assert_allclose(centres[0], [1.460232, -1.909159, 1.896506], atol=1e-6)
    # They stand around the origin at head height and look inwards and down.
    inwards = np.array([camera.rotation[2] for camera in cameras])
    assert (np.einsum("cd,cd->c", inwards[:, :2], -centres[:, :2]) > 0).all()
    assert (inwards[:, 2] < 0).all()
