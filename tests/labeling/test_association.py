"""People across views and time: the right ones are matched whatever the order of the detections, and no one else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posekit.camera_stack import stack_cameras
from posekit.datasets.calibration import find_calibration, read_calibration
from posekit.datasets.openpose import read_keypoint_folder
from posekit.labeling.association import Association, AssociationSettings, associate
from posekit.labeling.association_tracks import follow
from posekit.labeling.association_views import make_view, pair_distances
from posekit.records import Camera

JOINTS = 12
FRAMES = 40


def rig(count: int = 4) -> list[Camera]:
    cameras = []
    for index in range(count):
        angle = 0.4 + 1.4 * index
        centre = np.array([4.5 * np.cos(angle), 4.5 * np.sin(angle), 1.5 + 0.2 * index])
        forward = np.array([0, 0, 1.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[900.0, 0, 640], [0, 900.0, 480], [0, 0, 1]])
        lens = ("opencv", (-0.05, 0.1, 1e-3, -1e-3, 0.0))
        cameras.append(
            Camera(f"cam{index}", 1280, 960, K, lens[0], lens[1], rotation, -rotation @ centre)  # type: ignore[arg-type]
        )
    return cameras


def walker(start: tuple[float, float], step: tuple[float, float], seed: int, frames: int = FRAMES) -> np.ndarray:
    """Joints (frames x joints x 3) of someone who walks straight on and swings all limbs."""
    rng = np.random.default_rng(seed)
    rest = np.column_stack([rng.normal(0, 0.2, (JOINTS, 2)), np.linspace(0.1, 1.7, JOINTS)])
    swing = rng.normal(0, 0.12, (JOINTS, 3))
    time = np.arange(frames)[:, None, None]
    phase = rng.uniform(0, 6, (JOINTS, 1))
    path = np.array([*start, 0.0]) + time * np.array([*step, 0.0])
    return rest + path + swing * np.sin(0.35 * time + phase)


def detect(
    people: list[np.ndarray], cameras: list[Camera], seed: int = 0, noise: float = 2.0
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Noisy detections in random order, and who each of them is: (people x frames x cameras) indices."""
    rng = np.random.default_rng(seed)
    frames = len(people[0])
    truth = np.full((len(people), frames, len(cameras)), -1)
    detections: list[list[np.ndarray]] = []
    for c, camera in enumerate(cameras):
        seen = [stack_cameras([camera]).project(torch.from_numpy(person))[:, :].numpy() for person in people]
        rows = []
        for t in range(frames):
            order = rng.permutation(len(people))
            found = []
            for place, number in enumerate(order):
                pixels = seen[number].reshape(frames, JOINTS, 2)[t] + rng.normal(0, noise, (JOINTS, 2))
                found.append(np.column_stack([pixels, np.full(JOINTS, 0.8)]))
                truth[number, t, c] = place
            rows.append(np.stack(found))
        detections.append(rows)
    return detections, truth


def remove(detections: list[list[np.ndarray]], truth: np.ndarray, person: int, frame: int, camera: int) -> None:
    gone = truth[person, frame, camera]
    detections[camera][frame] = np.delete(detections[camera][frame], gone, axis=0)
    later = truth[:, frame, camera] > gone
    truth[later, frame, camera] -= 1
    truth[person, frame, camera] = -1


def assert_matches(found: Association, truth: np.ndarray) -> None:
    """The same people, in any order."""
    assert len(found.members) == len(truth)
    left = [person.tolist() for person in truth]
    for person in found.members:
        assert person.tolist() in left
        left.remove(person.tolist())


PEOPLE = [
    walker((-1.0, 0.3), (0.03, 0.0), 1),
    walker((1.2, -0.8), (-0.02, 0.03), 2),
    walker((0.2, 1.4), (0.0, -0.01), 3),
]


@pytest.mark.parametrize("posed", [True, False])
def test_three_people_in_four_views_in_any_order(posed: bool) -> None:
    cameras = rig()
    detections, truth = detect(PEOPLE, cameras)
    found = associate(detections, [replace(camera, posed=posed) for camera in cameras], JOINTS)
    assert_matches(found, truth)
    assert (found.distance_px < 5).all()
    assert found.detections_alone.sum() == 0
    assert found.unusable == 0


def test_poses_of_the_wrong_cameras_match_no_one() -> None:
    detections, _ = detect(PEOPLE[:1], rig(2))
    lifted = replace(rig(2)[1], translation=rig(2)[1].translation + np.array([0.0, 1.5, 0.0]))
    found = associate(detections, [rig(2)[0], lifted], JOINTS)
    assert len(found.members) == 0
    assert found.detections_alone.tolist() == [FRAMES, FRAMES]


def test_people_that_cross_keep_their_numbers() -> None:
    frames = 60
    people = [walker((-1.5, 0.0), (0.05, 0.0), 4, frames), walker((1.5, 0.05), (-0.05, 0.0), 5, frames)]
    detections, truth = detect(people, rig())
    assert_matches(associate(detections, rig(), JOINTS), truth)


def test_gaps_and_late_arrivals() -> None:
    detections, truth = detect(PEOPLE, rig())
    for frame in range(10, 20):
        remove(detections, truth, 0, frame, 2)
    for frame in range(15):
        for camera in range(4):
            remove(detections, truth, 1, frame, camera)
    assert_matches(associate(detections, rig(), JOINTS), truth)


def test_who_is_seen_best_comes_first() -> None:
    detections, truth = detect(PEOPLE, rig())
    for frame in range(FRAMES):
        remove(detections, truth, 0, frame, 1)
        if frame > 5:
            remove(detections, truth, 2, frame, 3)
            remove(detections, truth, 2, frame, 0)
    found = associate(detections, rig(), JOINTS)
    np.testing.assert_array_equal(found.members, truth[[1, 0, 2]])


@pytest.mark.parametrize("posed", [True, False])
def test_a_person_seen_by_one_camera_only_is_counted_not_matched(posed: bool) -> None:
    detections, truth = detect(PEOPLE, rig())
    for frame in range(FRAMES):
        for camera in (0, 1, 3):
            remove(detections, truth, 2, frame, camera)
    found = associate(detections, [replace(camera, posed=posed) for camera in rig()], JOINTS)
    assert_matches(found, truth[:2])
    assert found.detections_alone.tolist() == [0, 0, FRAMES, 0]
    assert found.tracks_alone.tolist() == [0, 0, 1, 0]


def test_a_false_detection_in_one_frame_is_not_taken() -> None:
    detections, truth = detect(PEOPLE[:1], rig())
    rng = np.random.default_rng(3)
    ghost = np.column_stack([rng.uniform(100, 900, (JOINTS, 2)), np.full(JOINTS, 0.9)])
    detections[1][7] = np.stack([ghost, detections[1][7][0]])
    truth[0, 7, 1] = 1
    found = associate(detections, rig(), JOINTS)
    np.testing.assert_array_equal(found.members, truth)
    assert found.detections_alone.tolist() == [0, 1, 0, 0]


def test_uncertain_joints_and_empty_frames() -> None:
    detections, truth = detect(PEOPLE[:2], rig())
    for number, frame in ((0, 5), (1, 6)):
        detections[0][frame][truth[number, frame, 0], 3:, 2] = 0.05
        truth[number, frame, 0] = -1
    for frame in range(4):
        detections[3][frame] = np.zeros((0, JOINTS, 3))
        truth[:, frame, 3] = -1
    found = associate(detections, rig(), JOINTS)
    assert_matches(found, truth)
    assert found.unusable == 2


def test_nothing_detected_gives_no_people() -> None:
    empty = [[np.zeros((0, JOINTS, 3))] * 5 for _ in range(4)]
    for posed in (True, False):
        found = associate(empty, [replace(camera, posed=posed) for camera in rig()], JOINTS)
        assert found.members.shape == (0, 5, 4)


@pytest.mark.slow
def test_the_same_input_gives_the_same_people() -> None:
    detections, _ = detect(PEOPLE, rig())
    cameras = [replace(camera, posed=False) for camera in rig()]
    first, second = (associate(detections, cameras, JOINTS, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.members, second.members)
    np.testing.assert_array_equal(first.distance_px, second.distance_px)


def test_distances_are_those_of_epipolar_lines() -> None:
    """Against OpenCV's epilines, for points that the lens has been taken from."""
    import cv2

    cameras = rig(2)
    detections, truth = detect(PEOPLE[:2], cameras, noise=15.0)
    views = [make_view(frames, camera, JOINTS, 0.2) for frames, camera in zip(detections, cameras, strict=True)]
    found = pair_distances(views[0], views[1], (cameras[0], cameras[1]))
    R = cameras[1].rotation @ cameras[0].rotation.T
    t = cameras[1].translation - R @ cameras[0].translation
    K = [np.diag([1000 / 1280, 1000 / 1280, 1]) @ camera.intrinsics for camera in cameras]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    F = np.linalg.inv(K[1]).T @ cross @ R @ np.linalg.inv(K[0])
    i, j = truth[0, 3]
    x, y = views[0].pixels[3, i], views[1].pixels[3, j]
    lines = [cv2.computeCorrespondEpilines(p.reshape(-1, 1, 2), n, F)[:, 0] for p, n in ((x, 1), (y, 2))]
    away = [
        np.abs((line * np.column_stack([p, np.ones(len(p))])).sum(1)) for line, p in zip(lines, (y, x), strict=True)
    ]
    np.testing.assert_allclose(found[3, i, j], np.median(np.mean(away, axis=0)), rtol=1e-9)


def test_people_behind_a_camera_are_infinitely_far() -> None:
    cameras = rig(2)
    detections, truth = detect(PEOPLE[:1], cameras)
    # The same rays seen the other way round: the second camera moved to the far side of the person.
    turned = replace(cameras[1], translation=-cameras[1].translation)
    views = [make_view(frames, camera, JOINTS, 0.2) for frames, camera in zip(detections, cameras, strict=True)]
    straight = pair_distances(views[0], views[1], (cameras[0], cameras[1]))[0, truth[0, 0, 0], truth[0, 0, 1]]
    assert straight < 5
    mirrored = replace(cameras[0], translation=-cameras[0].translation)
    behind = pair_distances(views[0], views[1], (mirrored, turned))
    assert np.isinf(behind).all()


def test_tracks_are_cut_where_two_people_meet() -> None:
    frames = 30
    view_pixels = np.random.default_rng(0).uniform(0, 200, (JOINTS, 2))
    rows = []
    for t in range(frames):
        left, right = view_pixels + np.array([10.0 * t, 0]), view_pixels + np.array([300 - 10.0 * t, 0])
        rows.append(np.stack([np.column_stack([p, np.ones(JOINTS)]) for p in (left, right)]))
    camera = replace(rig(1)[0], width=1000, distortion=(0.0,) * 5)
    tracks = follow(make_view(rows, camera, JOINTS, 0.2), 0, 5)
    assert sorted(frame for track in tracks for frame in track.members) == sorted([*range(frames), *range(frames)])
    assert len(tracks) > 2
    assert {(track.first, track.last) for track in tracks if len(track.members) > 10} == {(0, 14), (16, 29)} or all(
        len(set(track.members.values())) == 1 for track in tracks if len(track.members) > 3
    )


def test_the_balancing_person_is_matched_in_every_view_and_frame(shared_dir: Path) -> None:
    root = shared_dir / "real" / "balancing"
    cameras = read_calibration(find_calibration(root))
    detections = []
    for index in range(4):
        frames = read_keypoint_folder(root / "openpose" / f"cam{index + 1:02d}").frames
        detections.append([frames[t] for t in range(100)])
    found = associate(detections, cameras, 25)
    assert (found.members[0] >= 0).all()
    # The other person stands far behind: left of the beam in the first view, right of it in the second.
    for camera, (left, right) in enumerate([(150, 650), (300, 700)]):
        for t in range(100):
            person = detections[camera][t][found.members[0, t, camera]]
            assert left < np.median(person[person[:, 2] > 0.3, 0]) < right
    assert found.distance_px[0] < 15
    assert (found.members[1:, :, 2:] < 0).all()


@pytest.mark.slow
def test_the_balancing_person_is_matched_without_poses(shared_dir: Path) -> None:
    root = shared_dir / "real" / "balancing"
    cameras = [replace(camera, posed=False) for camera in read_calibration(find_calibration(root))]
    detections = []
    for index in range(4):
        frames = read_keypoint_folder(root / "openpose" / f"cam{index + 1:02d}").frames
        detections.append([frames[t] for t in range(100)])
    found = associate(detections, cameras, 25, AssociationSettings())
    assert (found.members[0] >= 0).all()
