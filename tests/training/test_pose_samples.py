"""Batches of crops with joints: what augmentation does to pictures and joints alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.datasets.crops import encode_image, square_crop
from posekit.errors import DataError
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import MPII16
from posekit.training.augmentation import Augmentation
from posekit.training.pose_labels import pixel_labels
from posekit.training.pose_samples import PosePart, PoseSource
from posekit.training.stored_crops import StoredCrops

SIZE, STORED, COUNT = 96, 160, 6
WRIST, OTHER = MPII16.index("left_wrist"), MPII16.index("right_wrist")
STRONG = Augmentation(0.5, 0.0, 0.25, 0.25, 30.0, 60.0, 1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Artifact]:
    """Black pictures with a green dot at the left and a red one at the right wrist."""
    path = tmp_path_factory.mktemp("dots") / "dots.h5"
    random = np.random.default_rng(0)
    keypoints = np.concatenate([random.uniform(180.0, 220.0, (COUNT, 16, 2)), np.ones((COUNT, 16, 1))], axis=2)
    # Far enough from each other that the dots never touch.
    keypoints[:, WRIST, 0] -= 40.0
    keypoints[:, OTHER, 0] += 40.0
    box = np.array([100.0, 100.0, 300.0, 300.0])
    crop = square_crop(box, STORED, 1.4)
    pictures = []
    for points in keypoints:
        picture = np.zeros((STORED, STORED, 3), np.uint8)
        for joint, colour in ((WRIST, (0, 255, 0)), (OTHER, (255, 0, 0))):
            x, y = crop[:, :2] @ points[joint, :2] + crop[:, 2]
            cv2.circle(picture, (round(16 * x), round(16 * y)), 16 * 4, colour, -1, cv2.LINE_AA, shift=4)
        pictures.append(encode_image(picture, "png"))
    with ArtifactWriter(path, Header("dataset", "test", skeleton=MPII16)) as writer:
        writer.append("cameras", camera_columns([Camera("a", 400, 400, np.eye(3), posed=False)]))
        writer.append("sequences", clip_columns([Clip("a", 1.0)]))
        zeros = np.zeros(COUNT, np.int64)
        columns = {"sequence": zeros, "frame": np.arange(COUNT), "person": zeros, "camera": zeros, "image": pictures}
        columns |= {"bbox": np.tile(box, (COUNT, 1)), "keypoints2d": keypoints}
        columns["crop_from_image"] = np.tile(crop, (COUNT, 1, 1))
        writer.append("samples", columns)
    with Artifact(path) as artifact:
        yield artifact


def source_of(dataset: Artifact, augmentation: Augmentation | None, seed: int = 0, **more: Any) -> PoseSource:
    labels = pixel_labels(dataset, np.arange(COUNT), MPII16, 1.25)
    return PoseSource(
        [PosePart(StoredCrops.of(dataset, labels.rows), labels)], SIZE, MPII16, augmentation, seed, **more
    )


def dot(image: torch.Tensor, channel: int, other: int) -> np.ndarray:
    """The centre of mass of a colour, in normalised coordinates."""
    light = np.clip(image[..., channel].double().numpy() - image[..., other].double().numpy(), 0.0, None)
    rows, columns = np.indices(light.shape)
    centre = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
    return (centre + 0.5) / SIZE - 0.5


@pytest.mark.parametrize("augmentation", [None, STRONG])
def test_joints_stay_on_what_they_mark(dataset: Artifact, augmentation: Augmentation | None) -> None:
    with closing(source_of(dataset, augmentation)) as source:
        for epoch in range(3):
            batch = source.batch(np.arange(COUNT), epoch)
            for image, joints in zip(batch.images, batch.joints, strict=True):
                # Mirrored people keep their dots, but left and right change names.
                green, red = dot(image, 1, 0), dot(image, 0, 1)
                kept = np.abs(joints[WRIST, :2].numpy() - green).max() < np.abs(joints[OTHER, :2].numpy() - green).max()
                first, second = (green, red) if kept else (red, green)
                np.testing.assert_allclose(joints[WRIST, :2].numpy(), first, atol=0.006)
                np.testing.assert_allclose(joints[OTHER, :2].numpy(), second, atol=0.006)
                assert augmentation is not None or kept


def test_a_batch_is_a_function_of_samples_epoch_and_seed(dataset: Artifact) -> None:
    with closing(source_of(dataset, STRONG)) as source, closing(source_of(dataset, STRONG, seed=1)) as other:
        one, again = source.batch(np.array([3, 1]), 4), source.batch(np.array([1, 3]), 4)
        assert torch.equal(one.images, again.images.flip(0)) and torch.equal(one.joints, again.joints.flip(0))
        assert not torch.equal(one.joints, source.batch(np.array([3, 1]), 5).joints)
        assert not torch.equal(one.joints, other.batch(np.array([3, 1]), 4).joints)


def test_depth_is_enlarged_with_the_crop(dataset: Artifact, pose_data: ModuleType, tmp_path: Path) -> None:
    zoom = Augmentation(0.0, 0.0, 5.0, 0.25, 0.0, 0.0, 0.0)
    with closing(source_of(dataset, zoom)) as source:
        source.labels.joints[..., 2] = 0.1
        source.labels.weights[...] = 1.0
        batch = source.batch(np.arange(COUNT), 0)
    plain = source.labels.joints
    enlarged = batch.joints[:, 0, :2].double().norm(dim=1) / torch.from_numpy(plain[:, 0, :2]).norm(dim=1)
    torch.testing.assert_close(batch.joints[:, 0, 2].double(), 0.1 * enlarged, atol=1e-5, rtol=0.0)
    assert enlarged.min() < 0.95 and enlarged.max() > 1.05


def test_joints_outside_the_crop_do_not_count(dataset: Artifact) -> None:
    with closing(source_of(dataset, None)) as source:
        source.labels.joints[0, WRIST, 0] = 0.51
        batch = source.batch(np.array([0]), 0)
    assert batch.weights[0, WRIST].tolist() == [0.0, 0.0, 0.0]
    assert batch.joints[0, WRIST].tolist() == [0.0, 0.0, 0.0]
    assert batch.weights[0, OTHER].tolist() == [1.0, 1.0, 0.0]


def test_rows_without_a_picture_are_counted(pose_data: ModuleType, tmp_path: Path) -> None:
    pose_data.write_dataset(tmp_path / "a.h5", without=2)
    with Artifact(tmp_path / "a.h5") as dataset:
        labels = pixel_labels(dataset, np.arange(5), MPII16, 1.25)
        part = PosePart(StoredCrops.of(dataset, labels.rows), labels)
        with closing(PoseSource([part], 32, MPII16, None, 0)) as source:
            assert (len(source), source.without_picture) == (4, 1)
            assert source.labels.rows.tolist() == [0, 1, 3, 4]
        lost = pixel_labels(dataset, np.array([2]), MPII16, 1.25)
        with pytest.raises(DataError, match="no sample is left"):
            PoseSource([PosePart(StoredCrops.of(dataset, lost.rows), lost)], 32, MPII16, None, 0)
