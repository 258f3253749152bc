"""Crops, masks and joints for mesh estimators: what belongs together stays together."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.errors import ConfigError, DataError
from posekit.labeling.masks import encode_counts
from posekit.skeleton.catalog import H36M17
from posekit.skeleton.skeleton import mirrored
from posekit.training.augmentation import Augmentation
from posekit.training.mesh_samples import MeshPart, MeshSource
from posekit.training.pose_labels import person_crops

SIZE = 64
PLAIN = Augmentation(flip=0.0, gain=0.0, scale_sd=0.0, rotation_p=0.0)
SWAP = [H36M17.index(mirrored(name)) for name in H36M17.joints]


@pytest.fixture(scope="module")
def dataset(pose_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("mesh")
    pose_data.write_dataset(folder / "a.h5", without=2)
    return Artifact(folder / "a.h5")


@pytest.fixture(scope="module")
def white(
    pose_data: ModuleType, dataset: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, Artifact]:
    """The same people as white ellipses on black, and masks of just these; the second row has no mask."""
    folder = tmp_path_factory.mktemp("white")
    columns = dataset.table("samples")
    boxes, maps = columns["bbox"].astype(float), columns["crop_from_image"]
    images, counts = [], []
    for box, crop in zip(boxes, maps, strict=True):
        mask = np.zeros((300, 400), np.uint8)
        centre = (round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2))
        cv2.ellipse(mask, centre, (round((box[2] - box[0]) / 3), round((box[3] - box[1]) / 2.2)), 20, 0, 360, 255, -1)
        stored = cv2.warpAffine(cv2.merge([mask] * 3), crop, (pose_data.STORED, pose_data.STORED))
        images.append(cv2.imencode(".png", stored)[1].reshape(-1))
        counts.append(encode_counts(mask > 0))
    samples = {name: columns[name] for name in ("sequence", "frame", "person", "camera", "bbox", "crop_from_image")}
    samples |= {"keypoints2d": columns["keypoints2d"], "joints3d": columns["joints3d"], "image": images}
    with ArtifactWriter(folder / "w.h5", Header("dataset", "test", skeleton=H36M17)) as writer:
        for table in ("cameras", "sequences", "videos"):
            writer.append(table, dataset.table(table))
        writer.append("samples", samples)
    key = {name: columns[name] for name in ("sequence", "frame", "person", "camera")}
    found = np.arange(len(boxes)) != 1
    with ArtifactWriter(folder / "w.masks.h5", Header("masks", "test")) as writer:
        writer.append(
            "samples",
            key
            | {"size": np.tile([300, 400], (len(boxes), 1)), "counts": counts, "bbox": boxes, "found": found}
            | {"score": found.astype(float)},
        )
    return Artifact(folder / "w.h5"), Artifact(folder / "w.masks.h5")


def source(dataset: Artifact, augmentation: Augmentation | None = None, **changes: object) -> MeshSource:
    part = MeshPart(dataset, np.arange(dataset.rows("samples")), changes.pop("masks", None))  # type: ignore[arg-type]
    return MeshSource([part], SIZE, H36M17.joints, augmentation, 3, **changes)  # type: ignore[arg-type]


def test_labels_are_those_of_the_data_set_in_crop_units(dataset: Artifact) -> None:
    made = source(dataset)
    assert (len(made), made.without_picture) == (23, 1)
    batch = made.batch(np.arange(23), 0)
    rows = np.delete(np.arange(24), 2)
    crops = person_crops(dataset.read("samples", "bbox", rows).astype(float), 1.2)
    pixels = dataset.read("samples", "keypoints2d", rows)[..., :2].astype(float)
    expected = np.einsum("nij,nkj->nki", crops[..., :2], pixels) + crops[:, None, :, 2]
    np.testing.assert_allclose(batch.keypoints.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(batch.joints.numpy(), dataset.read("samples", "joints3d", rows), atol=1e-6)
    assert batch.keypoint_weights.min() == 1 and batch.joint_weights.min() == 1
    assert not batch.masked.any()


def test_a_mirrored_crop_has_mirrored_masks_key_points_and_joints(white: tuple[Artifact, Artifact]) -> None:
    data, masks = white
    rows = np.arange(6)
    plain = source(data, PLAIN, masks=masks).batch(rows, 0)
    flipped = source(data, Augmentation(1.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0), masks=masks).batch(rows, 0)
    assert torch.equal(flipped.images.flip(2), plain.images)
    assert torch.equal(flipped.masks.flip(2), plain.masks)
    across = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(flipped.keypoints[:, SWAP] * across[:2], plain.keypoints)
    torch.testing.assert_close(flipped.joints[:, SWAP] * across, plain.joints)


def test_masks_lie_on_the_people_however_the_crop_is_changed(white: tuple[Artifact, Artifact]) -> None:
    data, masks = white
    batch = source(data, Augmentation(rotation_p=1.0), masks=masks).batch(np.arange(24), 1)
    assert batch.masked.tolist() == [row != 1 for row in range(24)]
    assert not batch.masks[1].any()
    seen = batch.images.float().mean(3) > 100
    for row in np.flatnonzero(batch.masked.numpy()):
        both = (seen[row] & (batch.masks[row] > 0)).sum()
        either = (seen[row] | (batch.masks[row] > 0)).sum()
        assert both / either > 0.9


def test_joints_turn_as_their_picture_does(dataset: Artifact) -> None:
    rows = np.arange(8)
    plain = source(dataset, PLAIN).batch(rows, 0)
    turned = source(dataset, Augmentation(0.0, 0.0, 0.0, 0.25, 30.0, 60.0, 1.0)).batch(rows, 0)
    for row in rows:
        before, after = plain.keypoints[row].double(), turned.keypoints[row].double()
        turn = torch.linalg.lstsq(before, after).solution.T
        torch.testing.assert_close(turn @ turn.T, torch.eye(2).double(), atol=1e-4, rtol=0)
        assert not torch.allclose(turn, torch.eye(2).double(), atol=0.01)
        torch.testing.assert_close(
            turned.joints[row, :, :2].double(), plain.joints[row, :, :2].double() @ turn.T, atol=1e-4, rtol=0
        )
        assert torch.equal(turned.joints[row, :, 2], plain.joints[row, :, 2])


def test_upright_crops_lack_the_turn_alone(dataset: Artifact) -> None:
    rows = np.arange(5)
    turning = Augmentation(rotation_p=1.0)
    both = source(dataset, turning, upright=True).batch(rows, 2)
    still = source(dataset, Augmentation(rotation_p=0.0), upright=True).batch(rows, 2)
    assert torch.equal(both.upright, still.images)
    assert not torch.equal(both.upright, both.images)


def test_a_batch_depends_on_its_arguments_alone(dataset: Artifact) -> None:
    one, other = source(dataset, Augmentation()), source(dataset, Augmentation())
    first = one.batch(np.array([4, 9]), 1)
    one.batch(np.array([9, 4]), 0)
    again = other.batch(np.array([9, 4]), 1)
    assert torch.equal(first.images, again.images.flip(0)) and torch.equal(first.joints, again.joints.flip(0))


def test_shares_say_how_often_a_data_set_is_drawn(dataset: Artifact) -> None:
    large, small = MeshPart(dataset, np.arange(3, 24)), MeshPart(dataset, np.arange(3, 7))
    made = MeshSource([large, small], SIZE, H36M17.joints, None, 0, shares=(0.25, 0.75))
    assert len(made) == 21
    drawn = np.concatenate([made.rows_of(np.arange(21), epoch) for epoch in range(200)])
    assert (drawn >= 21).mean() == pytest.approx(0.75, abs=0.02)
    once = made.rows_of(np.arange(21), 5)
    assert np.array_equal(once[[3, 8]], made.rows_of(np.array([3, 8]), 5))
    assert not np.array_equal(once, made.rows_of(np.arange(21), 6))
    counts = np.bincount(once[once >= 21] - 21, minlength=4)
    assert counts.max() - counts.min() <= 1, "a small set comes around evenly"
    for wrong in ((0.5,), (0.7, 0.7), (-0.5, 1.5)):
        with pytest.raises(ConfigError, match="shares of the data sets"):
            MeshSource([large, small], SIZE, H36M17.joints, None, 0, shares=wrong)


def test_switched_off_labels_weigh_nothing(dataset: Artifact) -> None:
    part = MeshPart(dataset, np.arange(3, 9), None, keypoints=False, joints=False)
    batch = MeshSource([part], SIZE, ("left_hip", "nobody", "right_knee"), None, 0).batch(np.arange(6), 0)
    assert not batch.keypoint_weights.any() and not batch.joint_weights.any()
    with pytest.raises(DataError, match="no sample is left"):
        MeshSource([MeshPart(dataset, np.array([2]))], SIZE, H36M17.joints, None, 0)


def test_files_can_be_closed(pose_data: ModuleType, tmp_path: Path) -> None:
    pose_data.write_dataset(tmp_path / "a.h5")
    with Artifact(tmp_path / "a.h5") as data:
        made = source(data)
        made.close()
        with pytest.raises((ValueError, OSError, RuntimeError)):
            made.batch(np.arange(1), 0)
