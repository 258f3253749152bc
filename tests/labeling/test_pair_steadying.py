"""Two-view labels with bones that keep their lengths and smooth motion."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from posekit.geometry.transforms import fit_similarity
from posekit.labeling.epipolar import PairLabels, label_pair
from posekit.labeling.pair_steadying import measure_pair_bones, steady_pair
from posekit.labeling.rig import PairGeometry, RigSettings, estimate_pairs, pool_points


@pytest.fixture(scope="module")
def labelled(noisy: Any) -> tuple[PairGeometry, PairLabels]:
    settings = RigSettings(pairs=((0, 2),))
    pooled = pool_points(noisy.cameras, noisy.keypoints, noisy.confidence, settings)
    (pair,) = estimate_pairs(noisy.cameras, pooled, settings, noisy.names)
    return pair, label_pair(pair, noisy.cameras, noisy.keypoints, noisy.confidence, noisy.skeleton)


def steadied(recording: Any, pair: PairGeometry, labels: PairLabels) -> PairLabels:
    bones = measure_pair_bones(pair, recording.cameras, labels, recording.keypoints, recording.skeleton.bones)
    frames = torch.arange(len(labels.joints))
    return steady_pair(pair, recording.cameras, labels, recording.keypoints, frames, bones)


def error(recording: Any, labels: PairLabels, weights: torch.Tensor) -> float:
    joints = torch.nan_to_num(labels.joints[:, 0])
    fit = fit_similarity(joints, recording.joints, weights)
    distance = torch.linalg.vector_norm(fit.apply(joints) - recording.joints, dim=-1)
    return float((distance * weights).sum() / weights.sum())


def test_steadied_labels_are_nearer_to_the_truth(noisy: Any, labelled: tuple[PairGeometry, PairLabels]) -> None:
    pair, labels = labelled
    after = steadied(noisy, pair, labels)
    weights = labels.valid.double()
    assert error(noisy, after, weights) < 0.8 * error(noisy, labels, weights)


def test_both_views_and_their_pixels_stay_one_geometry(noisy: Any, labelled: tuple[PairGeometry, PairLabels]) -> None:
    pair, labels = labelled
    after = steadied(noisy, pair, labels)
    assert torch.equal(after.joints.isnan(), labels.joints.isnan()) and torch.equal(after.valid, labels.valid)
    moved = after.joints[:, 0] @ pair.rotation.T + labels.scale * pair.translation
    torch.testing.assert_close(after.joints[:, 1][labels.valid], moved[labels.valid])
    views = noisy.cameras[[pair.first, pair.second]]
    seen = views.project_camera(after.joints.transpose(0, 1).flatten(1, 2)).reshape(2, -1, 17, 2).transpose(0, 1)
    known = labels.valid[:, None].expand(-1, 2, -1)
    torch.testing.assert_close(after.pixels[known], seen[known])


def test_lengths_of_bones_are_those_of_the_person(noisy: Any, labelled: tuple[PairGeometry, PairLabels]) -> None:
    pair, labels = labelled
    bones = measure_pair_bones(pair, noisy.cameras, labels, noisy.keypoints, noisy.skeleton.bones)
    parents, children = torch.tensor(noisy.skeleton.bones).T
    true = torch.linalg.vector_norm(noisy.joints[:, parents] - noisy.joints[:, children], dim=-1).median(dim=0).values
    assert float((bones.lengths / true - 1).abs().median()) < 0.05


def test_exact_labels_stay_as_they_are(clean: Any) -> None:
    settings = RigSettings(pairs=((0, 2),))
    pooled = pool_points(clean.cameras, clean.keypoints, clean.confidence, settings)
    (pair,) = estimate_pairs(clean.cameras, pooled, settings, clean.names)
    labels = label_pair(pair, clean.cameras, clean.keypoints, clean.confidence, clean.skeleton)
    assert float((steadied(clean, pair, labels).joints - labels.joints).abs().max()) < 1e-3
    empty = PairLabels(labels.joints[:0], labels.pixels[:0], labels.valid[:0], labels.frames_ok[:0], labels.scale)
    bones = measure_pair_bones(pair, clean.cameras, labels, clean.keypoints, clean.skeleton.bones)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert steady_pair(pair, clean.cameras, empty, clean.keypoints[:0], nothing, bones) is empty
