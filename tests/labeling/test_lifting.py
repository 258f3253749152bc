"""Depths from a lifter: what scale, place, mirror and missing joints do, and what a run must hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from posekit.errors import FormatError, InputError, MissingFileError
from posekit.labeling.depth_networks import DepthGenerator
from posekit.labeling.lifting import Lifter, load_lifter, mirrored_poses, normalised_poses
from posekit.skeleton.catalog import COMMON14

ALL = torch.ones(3, 14, dtype=torch.bool)


@pytest.fixture
def lifter() -> Lifter:
    return Lifter(COMMON14, DepthGenerator(14, 16, generator=torch.Generator().manual_seed(0))).eval()


@pytest.fixture
def keypoints() -> torch.Tensor:
    return torch.randn(3, 14, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_normalised_poses_have_their_root_at_the_origin_and_size_one(keypoints: torch.Tensor) -> None:
    poses, sizes = normalised_poses(keypoints, 6)
    assert not poses[:, 6].any()
    torch.testing.assert_close(poses.norm(dim=-1).sum(1) / 13, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(poses * sizes[:, None, None] + keypoints[:, [6]], keypoints)


def test_depths_follow_scale_and_ignore_place(lifter: Lifter, keypoints: torch.Tensor) -> None:
    depths, possible = lifter.depths(keypoints, ALL)
    moved, _ = lifter.depths(250.0 * keypoints + torch.tensor([400.0, 300.0]), ALL)
    assert possible.all() and depths.any() and not depths[:, COMMON14.index("pelvis")].any()
    torch.testing.assert_close(moved, 250.0 * depths, rtol=1e-4, atol=1e-4)


def test_depths_are_those_of_the_mirror_image(lifter: Lifter, keypoints: torch.Tensor) -> None:
    mirrored, _ = lifter.depths(mirrored_poses(keypoints, COMMON14.flip_permutation), ALL)
    depths, _ = lifter.depths(keypoints, ALL)
    torch.testing.assert_close(mirrored[:, list(COMMON14.flip_permutation)], depths, rtol=1e-5, atol=1e-6)


def test_mirroring_twice_changes_nothing_and_once_changes_sides() -> None:
    pose = torch.zeros(1, 14, 2)
    pose[0, COMMON14.index("left_wrist")] = torch.tensor([2.0, 3.0])
    mirrored = mirrored_poses(pose, COMMON14.flip_permutation)
    assert mirrored[0, COMMON14.index("right_wrist")].tolist() == [-2.0, 3.0]
    torch.testing.assert_close(mirrored_poses(mirrored, COMMON14.flip_permutation), pose)


def test_poses_that_lack_a_joint_or_an_extent_are_not_possible(lifter: Lifter, keypoints: torch.Tensor) -> None:
    whole, _ = lifter.depths(keypoints, ALL)
    valid = ALL.clone()
    valid[0, 3] = False
    broken = keypoints.clone()
    broken[0, 3] = torch.nan
    broken[2] = torch.tensor([100.0, 50.0])
    depths, possible = lifter.depths(broken, valid)
    assert possible.tolist() == [False, True, False]
    assert not depths[[0, 2]].any()
    torch.testing.assert_close(depths[1], whole[1])
    broken[1, 0] = torch.inf
    assert not lifter.depths(broken, ALL)[1].any()


def test_no_poses_give_no_depths(lifter: Lifter) -> None:
    depths, possible = lifter.depths(torch.zeros(0, 14, 2), torch.zeros(0, 14, dtype=torch.bool))
    assert depths.shape == (0, 14) and possible.shape == (0,)


def write_run(folder: Path, lifter: Lifter, **changed: object) -> Path:
    config = {
        "stage": "train lifter",
        "settings": {"joints": "common14", "width": 16},
        "weights_digest": "abc",
    } | changed
    (folder / "config.json").write_text(json.dumps(config))
    save_file({f"generator.{k}": v for k, v in lifter.generator.state_dict().items()}, folder / "model.safetensors")
    return folder


def test_a_lifter_is_loaded_as_it_was_stored(tmp_path: Path, lifter: Lifter, keypoints: torch.Tensor) -> None:
    loaded = load_lifter(write_run(tmp_path, lifter), torch.device("cpu"))
    assert (loaded.joint_names, loaded.digest, loaded.training) == (COMMON14.joints, "abc", False)
    torch.testing.assert_close(loaded.depths(keypoints, ALL)[0], lifter.depths(keypoints, ALL)[0])


def test_other_folders_are_refused(tmp_path: Path, lifter: Lifter) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(MissingFileError, match="no run"):
        load_lifter(tmp_path, cpu)
    run = write_run(tmp_path, lifter)
    (run / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match="no trained lifter"):
        load_lifter(run, cpu)
    (run / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match="weights"):
        load_lifter(run, cpu)
    with pytest.raises(FormatError, match="weights"):
        load_lifter(write_run(tmp_path, lifter, settings={"joints": "common14", "width": 32}), cpu)
    with pytest.raises(InputError, match="skeleton"):
        load_lifter(write_run(tmp_path, lifter, settings={"joints": "no14", "width": 16}), cpu)
    with pytest.raises(FormatError, match="no run of a lifter"):
        load_lifter(write_run(tmp_path, lifter, stage="train something"), cpu)
    (run / "config.json").write_text("{")
    with pytest.raises(FormatError, match="cannot read"):
        load_lifter(run, cpu)
