"""Two-view labels without extrinsics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.errors import DataError
from posekit.geometry.transforms import fit_similarity
from posekit.labeling.epipolar import PairLabelSettings, label_pair, neighbouring_pairs
from posekit.labeling.rig import RigSettings, estimate_pairs, pool_points


def pairs_of(recording, indices=((0, 2),)):
    settings = RigSettings(pairs=tuple(indices))
    pooled = pool_points(recording.cameras, recording.keypoints, recording.confidence, settings)
    return estimate_pairs(recording.cameras, pooled, settings, recording.names)


def labels_of(recording, **settings):
    (pair,) = pairs_of(recording)
    data = (recording.cameras, recording.keypoints, recording.confidence, recording.skeleton)
    return pair, label_pair(pair, *data, PairLabelSettings(**settings))


@pytest.mark.parametrize("method", ["poly", "dlt", "iter_ls"])
def test_noise_free_labels_are_the_truth_in_each_camera_at_canonical_size(clean, method):
    pair, labels = labels_of(clean, method=method)
    assert labels.valid.all() and labels.frames_ok.all()
    for k, camera in enumerate((pair.first, pair.second)):
        truth = clean.cameras[camera].camera_from_world(clean.joints.reshape(-1, 3)).reshape(clean.joints.shape)
        assert torch.linalg.vector_norm(labels.joints[:, k] - truth, dim=-1).max() < 1e-4
        assert torch.linalg.vector_norm(labels.pixels[:, k] - clean.keypoints[:, camera], dim=-1).max() < 1e-4


def test_optimal_correction_is_no_worse_than_the_linear_method(noisy):
    errors = {}
    for method in ("poly", "dlt"):
        _, labels = labels_of(noisy, method=method)
        weights = labels.valid.double()
        fit = fit_similarity(labels.joints[:, 0], noisy.joints, weights)
        distance = torch.linalg.vector_norm(fit.apply(torch.nan_to_num(labels.joints[:, 0])) - noisy.joints, dim=-1)
        errors[method] = float((distance * weights).sum() / weights.sum())
    assert errors["poly"] <= 1.02 * errors["dlt"]
    assert errors["poly"] < 0.060


def test_outliers_are_dropped(noisy):
    _, labels = labels_of(noisy)
    off = (
        (noisy.keypoints - noisy.cameras.project(noisy.joints.reshape(-1, 3)).reshape(4, 200, 17, 2).transpose(0, 1))
        .norm(dim=-1)[:, [0, 2]]
        .amax(dim=1)
    )
    assert labels.valid[off < 5].double().mean() > 0.99
    assert labels.valid[off > 200].double().mean() < 0.4  # those along the epipolar line stay
    assert labels.joints[~labels.valid.unsqueeze(1).expand(-1, 2, -1)].isnan().all()


def test_unsure_joints_are_dropped(noisy):
    confidence = noisy.confidence.clone()
    confidence[:, 2, 5] = 0.1
    (pair,) = pairs_of(noisy)
    labels = label_pair(pair, noisy.cameras, noisy.keypoints, confidence, noisy.skeleton)
    assert not labels.valid[:, 5].any() and labels.valid[:, 6].any()


def test_scale_comes_from_stature_or_baseline(clean):
    _, canonical = labels_of(clean)
    _, tall = labels_of(clean, stature=2.0)
    _, wide = labels_of(clean, baseline=3.6)
    assert tall.scale > canonical.scale
    assert wide.scale == 3.6
    true_baseline = float((clean.cameras.centers()[0] - clean.cameras.centers()[2]).norm())
    assert np.isclose(canonical.scale, true_baseline, rtol=1e-3)


def test_no_limb_no_scale(clean):
    (pair,) = pairs_of(clean)
    confidence = clean.confidence.clone()
    for joint in ("left_knee", "right_knee", "left_elbow", "right_elbow"):
        confidence[:, :, clean.skeleton.index(joint)] = 0.0
    with pytest.raises(DataError, match="no limb was seen whole"):
        label_pair(pair, clean.cameras, clean.keypoints, confidence, clean.skeleton)


def test_neighbours_of_human36m_are_not_opposite(clean):
    pairs = neighbouring_pairs(clean.names)
    assert len(pairs) == 4 and (0, 3) not in pairs and (1, 2) not in pairs
    assert neighbouring_pairs(["a", "b", "c"]) == ((0, 1), (0, 2), (1, 2))
