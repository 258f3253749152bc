"""Labels of single images from those of camera pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.geometry.relative_pose import PairQuality
from posekit.labeling.epipolar import PairLabels
from posekit.labeling.rig import PairGeometry
from posekit.labeling.view_labels import SEVERAL, Merge, merge_views
from posekit.skeleton.catalog import MPII16

FRAMES, FOCAL = 4, 500.0
QUALITY = PairQuality(10, 10, 1.0, 0.1, 1.0, 0.1, 3.0, 45.0)


def person(seed: int) -> torch.Tensor:
    """In front of a camera."""
    random = torch.Generator().manual_seed(seed)
    return torch.rand(FRAMES, 16, 3, generator=random, dtype=torch.float64) + torch.tensor([0.0, 0.0, 4.0])


def project(points: torch.Tensor) -> torch.Tensor:
    return FOCAL * points[..., :2] / points[..., 2:]


def pair(first: int, second: int, in_first: torch.Tensor, in_second: torch.Tensor) -> tuple[PairGeometry, PairLabels]:
    joints = torch.stack([in_first, in_second], dim=1)
    eye, right = torch.eye(3), torch.tensor([1.0, 0.0, 0.0])
    labels = PairLabels(
        joints, project(joints), torch.ones(FRAMES, 16, dtype=torch.bool), torch.ones(FRAMES, dtype=torch.bool), 1.0
    )
    return PairGeometry(first, second, eye, right, eye, QUALITY, ""), labels


def merged(found: list[tuple[PairGeometry, PairLabels]], how: Merge, keypoints: np.ndarray | None = None) -> object:
    seen = np.zeros((FRAMES, 3, 16, 2)) if keypoints is None else keypoints
    return merge_views(1, found, seen, MPII16, how, [np.random.default_rng(frame) for frame in range(FRAMES)])


def test_the_mean_of_labels_that_differ_in_scale_alone_is_the_label_at_the_mean_depth() -> None:
    found = [pair(0, 1, person(1), person(0)), pair(1, 2, 1.5 * person(0), person(2))]
    labels = merged(found, "average")
    np.testing.assert_allclose(labels.joints, 1.25 * person(0).numpy())
    assert (labels.partner == SEVERAL).all() and labels.ok.all()


def test_frames_that_one_pair_refused_come_from_the_other() -> None:
    found = [pair(0, 1, person(1), person(0)), pair(1, 2, 2.0 * person(0), person(2))]
    found[0][1].frames_ok[1] = False
    found[0][1].frames_ok[2] = found[1][1].frames_ok[2] = False
    labels = merged(found, "average")
    assert labels.partner.tolist()[1] == 2
    np.testing.assert_allclose(labels.joints[1], 2.0 * person(0)[1].numpy())
    assert labels.ok.tolist() == [True, True, False, True]
    assert np.isnan(labels.joints[2]).all()


def test_a_joint_that_one_pair_dropped_comes_from_the_other() -> None:
    found = [pair(0, 1, person(1), person(0)), pair(1, 2, person(0), person(2))]
    found[1][1].joints[0, 0, 3] = torch.nan
    labels = merged(found, "average")
    np.testing.assert_allclose(labels.joints, person(0).numpy())


def test_the_best_label_is_the_one_nearest_to_the_key_points() -> None:
    good, bad = person(0), person(0) + torch.tensor([0.1, 0.0, 0.0])
    keypoints = np.zeros((FRAMES, 3, 16, 2))
    keypoints[:, 1] = project(good).numpy()
    for found, partner in (
        ([pair(0, 1, person(1), good), pair(1, 2, bad, person(2))], 0),
        ([pair(0, 1, person(1), bad), pair(1, 2, good, person(2))], 2),
    ):
        labels = merged(found, "best", keypoints)
        assert (labels.partner == partner).all()
        np.testing.assert_allclose(labels.joints, good.numpy())


def test_a_random_label_is_one_of_both_and_the_same_again() -> None:
    found = [pair(0, 1, person(1), person(0)), pair(1, 2, 2.0 * person(0), person(2))]
    labels, again = merged(found, "random"), merged(found, "random")
    assert np.array_equal(labels.joints, again.joints)
    assert set(labels.partner.tolist()) <= {0, 2}
    for frame, partner in enumerate(labels.partner):
        np.testing.assert_allclose(labels.joints[frame], (1.0 if partner == 0 else 2.0) * person(0)[frame].numpy())


@pytest.mark.parametrize("how", ["average", "best", "random"])
def test_cameras_without_a_pair_have_no_label(how: Merge) -> None:
    assert merged([pair(0, 2, person(0), person(1))], how) is None
