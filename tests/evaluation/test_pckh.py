from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, KEYPOINTS, POSES
from posekit.artifacts.writing import ArtifactWriter
from posekit.datasets.mpii import shared_camera
from posekit.errors import DataError, InputError
from posekit.evaluation.comparison import Resampling
from posekit.evaluation.pckh import JOINT_GROUPS, PckhProtocol, compare_keypoints, group_table
from posekit.evaluation.report import Summary
from posekit.records import Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import COCO17, MPII16
from posekit.skeleton.skeleton import Skeleton

PEOPLE = 40
MEAN = [joint for joint in range(16) if joint not in (6, 7)]


def rows(people: int) -> dict[str, Any]:
    half = people // 2
    return {
        "sequence": np.repeat([0, 1], [half, people - half]),
        "frame": np.arange(people) // 2,
        "person": np.arange(people) % 2,
        "camera": np.zeros(people, int),
    }


def write_dataset(path: Path, points: np.ndarray, head: np.ndarray | None, skeleton: Skeleton = MPII16) -> Path:
    with ArtifactWriter(path, Header(DATASET.name, "test", skeleton=skeleton)) as writer:
        writer.append("cameras", camera_columns([shared_camera()]))
        writer.append("sequences", clip_columns([Clip("train", 1.0, split="train"), Clip("val", 1.0, split="test")]))
        seen = np.isfinite(points).all(-1, keepdims=True)
        columns = {
            **rows(len(points)),
            "bbox": np.ones((len(points), 4)),
            "keypoints2d": np.concatenate([points, seen], -1),
        }
        writer.append("samples", columns if head is None else {**columns, "head_px": head})
    return path


def write_keypoints(
    path: Path, points: np.ndarray, keep: np.ndarray | None = None, skeleton: Skeleton = MPII16
) -> Path:
    with ArtifactWriter(path, Header(KEYPOINTS.name, "test", skeleton=skeleton)) as writer:
        columns = {**rows(len(points)), "keypoints2d": np.concatenate([points, np.ones((*points.shape[:2], 1))], -1)}
        writer.append(
            "samples", columns if keep is None else {name: np.asarray(v)[keep] for name, v in columns.items()}
        )
    return path


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (some missing), predictions and head sizes; all exact in single precision, so that edges are edges."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 400, (PEOPLE, 16, 2)).astype(float)
    predicted = truth + rng.integers(-24, 25, truth.shape) / 2
    truth[rng.uniform(size=truth.shape[:2]) < 0.2] = np.nan
    return truth, predicted, rng.integers(8, 60, PEOPLE) / 2.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def compared(stack: ExitStack, dataset: Path, prediction: Path, draws: int = 0, **protocol: Any) -> Summary:
    settings: dict[str, Any] = {"split": "all", **protocol}
    a, b = stack.enter_context(Artifact(dataset)), stack.enter_context(Artifact(prediction))
    return compare_keypoints(a, b, PckhProtocol(**settings), Resampling(draws, 1), "keypoints")


def official(truth: np.ndarray, predicted: np.ndarray, head: np.ndarray, threshold: float) -> tuple[np.ndarray, float]:
    """HRNet's evaluation of MPII, written anew: shares by joint, and their mean weighted by how often each is labelled."""
    there = ~np.isnan(truth).any(-1)
    error = np.sqrt(((predicted - np.nan_to_num(truth)) ** 2).sum(-1)) / head[:, None]
    count = there.sum(0)
    by_joint = 100.0 * ((error <= threshold) & there).sum(0) / count
    weight = count[MEAN] / count[MEAN].sum()
    return by_joint, float((by_joint[MEAN] * weight).sum())


def test_agrees_with_the_official_computation(tmp_path: Path, stack: ExitStack, data: Any) -> None:
    truth, predicted, head = data
    summary = compared(
        stack, write_dataset(tmp_path / "d.h5", truth, head), write_keypoints(tmp_path / "k.h5", predicted)
    )
    assert summary.evaluated == PEOPLE and not summary.skipped
    for metric, thresholds in {"pckh_50": [0.5], "pckh_10": [0.1], "pckh_auc": np.arange(51) * 0.01}.items():
        parts = [official(truth, predicted, head, threshold) for threshold in thresholds]
        (found,) = (m for m in summary.metrics if m.metric == metric)
        assert found.mean == pytest.approx(np.mean([mean for _, mean in parts]), abs=1e-6)
        by_joint = np.mean([joints for joints, _ in parts], axis=0)
        assert list(found.per_point.values()) == pytest.approx(by_joint, abs=1e-6)
        assert list(found.per_point) == list(MPII16.joints)
    wrists = ~np.isnan(truth[:, [10, 15]]).any(-1)
    right = (np.linalg.norm(predicted - truth, axis=-1) <= 0.5 * head[:, None])[:, [10, 15]] & wrists
    assert summary.facts["groups"]["pckh_50"]["wrist"] == pytest.approx(100 * right.sum() / wrists.sum(), abs=1e-9)
    columns, table = group_table(summary.to_dict())
    assert columns[1:-2] == list(JOINT_GROUPS) and [row[0] for row in table] == ["pckh_50", "pckh_10", "pckh_auc"]


def test_pelvis_and_thorax_do_not_count(tmp_path: Path, stack: ExitStack, data: Any) -> None:
    truth, predicted, head = data
    dataset = write_dataset(tmp_path / "d.h5", truth, head)
    before = compared(stack, dataset, write_keypoints(tmp_path / "k.h5", predicted))
    predicted[:, [6, 7]] += 500.0
    after = compared(stack, dataset, write_keypoints(tmp_path / "l.h5", predicted))
    assert [m.mean for m in before.metrics] == [m.mean for m in after.metrics]
    assert after.metrics[0].per_point["pelvis"] == 0.0
    assert before.samples is not None and after.samples is not None
    assert np.array_equal(before.samples.values["pckh_50"], after.samples.values["pckh_50"])


def test_the_threshold_itself_is_right(tmp_path: Path, stack: ExitStack) -> None:
    truth = np.full((2, 16, 2), 100.0)
    predicted = truth.copy()
    predicted[0, :, 0] += 8.0
    predicted[1, :, 0] += 8.5
    dataset = write_dataset(tmp_path / "d.h5", truth, np.array([16.0, 16.0]))
    summary = compared(stack, dataset, write_keypoints(tmp_path / "k.h5", predicted))
    assert summary.metrics[0].mean == 50.0
    assert summary.samples is not None and summary.samples.values["pckh_50"].tolist() == [100.0, 0.0]


def test_what_is_not_predicted_is_wrong_or_left_out(tmp_path: Path, stack: ExitStack, data: Any) -> None:
    truth, _, head = data
    truth[5], head[6] = np.nan, np.nan
    predicted = np.nan_to_num(truth)
    predicted[7, 12] = np.nan
    truth[7, 12] = 3.0
    keep = np.arange(PEOPLE) % 4 != 0
    dataset = write_dataset(tmp_path / "d.h5", truth, head)
    points = write_keypoints(tmp_path / "k.h5", predicted, keep)
    strict = compared(stack, dataset, points)
    assert strict.skipped == {"no labelled joint": 1, "size of the head unknown": 1}
    there = ~np.isnan(truth).any(-1) & (np.arange(PEOPLE) != 6)[:, None]
    right = there & keep[:, None]
    right[7, 12] = False
    assert strict.metrics[0].mean == pytest.approx(100 * right[:, MEAN].sum() / there[:, MEAN].sum(), abs=1e-9)
    assert strict.facts["labelled_without_prediction"] == (there & ~right).sum()
    mild = compared(stack, dataset, points, not_predicted="left-out")
    assert mild.skipped["no prediction"] == (~keep).sum() and mild.metrics[0].mean > 99.0
    none = write_keypoints(tmp_path / "n.h5", predicted, np.zeros(PEOPLE, bool) | (np.arange(PEOPLE) == 5))
    with pytest.raises(DataError, match="no prediction"):
        compared(stack, dataset, none, not_predicted="left-out")
    assert compared(stack, dataset, none).metrics[0].mean == 0.0


def test_splits_and_refused_poses(tmp_path: Path, stack: ExitStack, data: Any) -> None:
    truth, predicted, head = data
    dataset = write_dataset(tmp_path / "d.h5", truth, head)
    half = PEOPLE // 2
    found = compared(stack, dataset, write_keypoints(tmp_path / "k.h5", predicted), split="test")
    assert found.evaluated == PEOPLE - half
    assert found.metrics[0].mean == pytest.approx(
        official(truth[half:], predicted[half:], head[half:], 0.5)[1], abs=1e-6
    )
    with ArtifactWriter(tmp_path / "p.h5", Header(POSES.name, "test", skeleton=MPII16)) as writer:
        ok = np.arange(PEOPLE) != 3
        columns = {
            "joints3d": np.zeros((PEOPLE, 16, 3)),
            "keypoints2d": np.concatenate([np.nan_to_num(truth), np.ones((PEOPLE, 16, 1))], -1),
            "ok": ok,
            "reason": np.where(ok, "", "bad"),
        }
        writer.append("samples", {**rows(PEOPLE), **columns})
    poses = compared(stack, dataset, tmp_path / "p.h5", not_predicted="left-out")
    assert poses.skipped == {"prediction marked as not usable": 1} and poses.metrics[0].mean == 100.0


def test_other_skeletons_give_what_they_can(tmp_path: Path, stack: ExitStack, data: Any) -> None:
    truth, _, head = data
    dataset = write_dataset(tmp_path / "d.h5", truth, head)
    exact = np.full((PEOPLE, 17, 2), np.nan)
    for column, joint in enumerate(COCO17.joints):
        if joint in MPII16:
            exact[:, column] = np.nan_to_num(truth[:, MPII16.index(joint)])
    summary = compared(stack, dataset, write_keypoints(tmp_path / "k.h5", exact, skeleton=COCO17))
    assert summary.facts["joints_left_out"] == ["neck", "head_top"]
    assert summary.facts["groups"]["pckh_50"]["head"] is None and summary.metrics[0].mean == 100.0
    assert group_table(summary.to_dict())[1][0][1] == "n/a"
    hands = Skeleton("hands", ("left_thumb", "right_thumb"), (-1, -1))
    with pytest.raises(InputError, match="no joint that PCKh"):
        compared(stack, dataset, write_keypoints(tmp_path / "h.h5", np.zeros((PEOPLE, 2, 2)), skeleton=hands))
    bare = write_dataset(tmp_path / "b.h5", truth, None)
    with pytest.raises(InputError, match="no head sizes"):
        compared(stack, bare, tmp_path / "k.h5")


def test_intervals_hold_the_mean_and_shrink_with_the_number_of_people(
    tmp_path: Path, stack: ExitStack, data: Any
) -> None:
    truth, predicted, head = data

    def width(times: int, name: str) -> float:
        many = [np.tile(values, (times, *([1] * (values.ndim - 1)))) for values in (truth, predicted, head)]
        dataset = write_dataset(tmp_path / f"{name}.h5", many[0], many[2])
        metric = compared(stack, dataset, write_keypoints(tmp_path / f"{name}k.h5", many[1]), draws=300).metrics[0]
        assert metric.interval is not None and metric.interval[0] < metric.mean < metric.interval[1]
        return metric.interval[1] - metric.interval[0]

    assert width(9, "many") == pytest.approx(width(1, "few") / 3, rel=0.3)
