"""Starts from stored fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.registration.bodies import BodyRows
from posekit.registration.posing import crop_pixels, posed_bodies
from posekit.registration.warm import StartReader
from posekit.skeleton.catalog import SMPL24

CROPS = np.array([[[0.01, 0.0, -2.0], [0.0, 0.01, -1.0]]] * 4)


def write_fits(path: Path, *, camera: list[int], crops: np.ndarray | None = CROPS, **changes: Any) -> Path:
    """Four fits of frames 0, 5, 10, 15."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "sequence": np.zeros(4),
        "frame": 5 * np.arange(4),
        "person": np.zeros(4),
        "camera": camera,
        "pose": 0.3 * random.normal(size=(4, 24, 3)) * (np.arange(24) > 0)[:, None],
        "segment_scales": random.uniform(0.9, 1.1, (4, 24)),
        "betas": np.zeros((4, 10)),
        "orientation": random.normal(size=(4, 3, 3)),
        "translation": random.normal(size=(4, 3)) * [1, 1, 0],
        "scale": random.uniform(0.8, 1.0, 4),
        "losses": np.zeros((4, 1)),
        "residual_px": np.ones(4),
        "ok": np.ones(4, bool),
        "reason": [""] * 4,
    }
    if crops is not None:
        columns["crop_from_image"] = crops
    with ArtifactWriter(path, Header("fits", "test", skeleton=SMPL24)) as writer:
        writer.append("fits", columns | changes)
    return path


def asked(frames: list[int], camera: int) -> BodyRows:
    zeros = np.zeros(len(frames), np.int64)
    return BodyRows(zeros, np.array(frames), zeros, zeros + camera, zeros[:, None])


def test_rows_are_matched_by_key_and_camera(tmp_path: Path) -> None:
    with Artifact(write_fits(tmp_path / "f.h5", camera=[0, 0, 1, 0])) as fits:
        reader = StartReader(fits)
        assert reader.find(asked([15, 10, 0, 7], 0)).tolist() == [3, -1, 0, -1]
        assert reader.find(asked([10], 1)).tolist() == [2]
        assert reader.find(asked([0], -1)).tolist() == [-1]
    with Artifact(write_fits(tmp_path / "joint.h5", camera=[-1] * 4, crops=None)) as fits:
        reader = StartReader(fits)
        assert reader.find(asked([5, 6], -1)).tolist() == [1, -1] and reader.find(asked([5], 0)).tolist() == [-1]


def test_fits_that_are_not_ok_or_not_finite_are_no_starts(tmp_path: Path) -> None:
    scale = np.array([1.0, 1.0, np.nan, 1.0])
    path = write_fits(tmp_path / "f.h5", camera=[0] * 4, ok=[True, False, True, True], scale=scale)
    with Artifact(path) as fits:
        start = StartReader(fits).read(asked([0, 5, 10, 15], 0), CROPS[:, None])
    assert start.found.tolist() == [True, False, False, True]


def test_a_start_is_the_same_body_in_the_image_in_another_crop(tmp_path: Path, body: SegmentScaledBody) -> None:
    crops = CROPS.copy()
    crops[:, [0, 1], [0, 1]] = 0.016
    crops[..., 2] = [-3.0, -0.5]
    with Artifact(write_fits(tmp_path / "f.h5", camera=[0] * 4)) as fits:
        start = StartReader(fits).read(asked([0, 5, 10, 15], 0), crops[:, None])
        stored = fits.table("fits")
    moved = {name: getattr(start.parameters, name).numpy() for name in stored if hasattr(start.parameters, name)}
    before = crop_pixels(posed_bodies(stored, body).points[:, ::50], CROPS)
    after = crop_pixels(posed_bodies(moved, body).points[:, ::50], crops)
    torch.testing.assert_close(after, before, atol=1e-2, rtol=0)
    torch.testing.assert_close(start.parameters.segment_scales.mean(1), torch.ones(4))
    eye = torch.eye(3).expand(4, 3, 3)
    turned = start.parameters.orientation
    torch.testing.assert_close(turned @ turned.transpose(1, 2), eye, atol=1e-5, rtol=0)


def test_segment_scales_begin_within_their_limits(tmp_path: Path) -> None:
    scales = np.ones((4, 24))
    scales[:, 3] = 9.0
    with Artifact(write_fits(tmp_path / "f.h5", camera=[0] * 4, segment_scales=scales)) as fits:
        start = StartReader(fits).read(asked([0], 0), CROPS[:1, None])
    assert start.parameters.segment_scales.max() == 2.0
