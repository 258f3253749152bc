"""Labels of single images against what is known otherwise."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.evaluation.keys import Keys
from posekit.skeleton.catalog import H36M17, MPII16
from posekit.stages.label_agreement import LabelAgreement, TrueJoints, agreement_table


def people(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, (6, 16, 3)) + np.array([0.0, 0.0, 4.0])


def test_scale_and_similarity_are_forgiven_where_they_should_be() -> None:
    truth = people()
    agreement = LabelAgreement(MPII16)
    agreement.add(1.5 * truth, truth)
    found = agreement.metrics("truth")
    assert found["truth_mpjpe_mm"] > 100.0
    assert found["truth_n_mpjpe_mm"] < 1e-2 and found["truth_pa_mpjpe_mm"] < 1e-2
    turned = LabelAgreement(MPII16)
    turned.add(truth[..., [1, 2, 0]] + 1.0, truth)
    assert turned.metrics("a")["a_n_mpjpe_mm"] > 100.0 and turned.metrics("a")["a_pa_mpjpe_mm"] < 1e-2


def test_dropped_joints_and_people_without_root_are_left_out() -> None:
    truth, labels = people(), people()
    labels[0, 3] = np.nan
    labels[1, 4] += 0.016
    labels[1, 5] = np.nan
    labels[2, MPII16.index("pelvis")] = np.nan
    labels[2, 0] += 9.0
    agreement = LabelAgreement(MPII16)
    agreement.add(labels, truth)
    agreement.add(labels[:0], truth[:0])
    # One joint of fifteen is off by 16 mm along each axis, in one of five people.
    assert agreement.metrics("x")["x_mpjpe_mm"] == pytest.approx(16.0 * np.sqrt(3.0) / 15 / 5, rel=1e-3)


def test_without_anything_to_compare_there_is_no_table() -> None:
    agreement = LabelAgreement(MPII16)
    agreement.add(np.full((2, 16, 3), np.nan), people()[:2])
    assert agreement.metrics("truth") == {} and agreement_table({}) == []
    agreement.add(people(), people())
    (table,) = agreement_table(agreement.metrics("truth"))
    assert [row[0] for row in table.rows] == ["true joints"] and len(table.rows[0]) == len(table.columns)


def test_true_joints_come_in_the_order_of_the_labels(pose_data: ModuleType, tmp_path: Path) -> None:
    pose_data.write_dataset(tmp_path / "a.h5")
    with Artifact(tmp_path / "a.h5") as dataset:
        truth = TrueJoints.of(dataset, MPII16)
        assert truth is not None
        keys = Keys.read(dataset, "samples")
        stored = dataset.read("samples", "joints3d")
        unknown = Keys(keys.sequence[:1], keys.frame[:1] + 1, keys.person[:1], keys.camera[:1])
        found, none = truth.read(keys.at(np.array([3, 1]))), truth.read(unknown)
    for joint in ("left_wrist", "right_ankle", "pelvis"):
        expected = stored[[3, 1], H36M17.index(joint)]
        np.testing.assert_allclose(found[:, MPII16.index(joint)], expected, rtol=1e-6)
    assert np.isnan(none).all()
    pose_data.write_dataset(tmp_path / "b.h5", truth=False)
    with Artifact(tmp_path / "b.h5") as dataset:
        assert TrueJoints.of(dataset, MPII16) is None
