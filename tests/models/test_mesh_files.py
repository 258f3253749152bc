"""Files as HMR and SPIN publish them, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.errors import FormatError, MissingFileError
from posekit.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle, six_d_from_matrix
from posekit.models.backbone import Backbone
from posekit.models.mesh_estimator import MeanParameters, MeshEstimator, MeshEstimatorForm
from posekit.models.mesh_files import load_mesh_checkpoint, read_mean_parameters

FORM = MeshEstimatorForm(features=512, hidden=16)


def networks(seed: int, form: MeshEstimatorForm = FORM) -> tuple[Backbone, MeshEstimator]:
    return Backbone("resnet10", seed), MeshEstimator(form, seed=seed)


def as_published(seed: int) -> dict[str, Tensor]:
    """One flat list of weights, the means among them."""
    backbone, estimator = networks(seed)
    estimator.init_pose.copy_(torch.randn(1, 144, generator=torch.Generator().manual_seed(seed)))
    return {**backbone.state_dict(), **estimator.state_dict()}


@pytest.mark.parametrize(("wrapper", "prefix"), [("model", ""), ("model", "module."), ("state_dict", ""), (None, "")])
def test_checkpoints_are_taken_over_whole(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    published = as_published(1)
    weights = {prefix + name: values for name, values in published.items()}
    torch.save({wrapper: weights, "epoch": 3, "lr": [1e-4]} if wrapper else weights, tmp_path / "model.pt")
    backbone, estimator = networks(2)
    load_mesh_checkpoint(tmp_path / "model.pt", backbone, estimator)
    loaded = {**backbone.state_dict(), **estimator.state_dict()}
    assert loaded.keys() == published.keys()
    assert all(torch.equal(loaded[name], published[name]) for name in published)


def test_the_names_are_those_of_spin() -> None:
    assert set(MeshEstimator(FORM).state_dict()) == {
        *(
            f"{layer}.{part}"
            for layer in ("fc1", "fc2", "decpose", "decshape", "deccam")
            for part in ("weight", "bias")
        ),
        *("init_pose", "init_shape", "init_cam"),
    }


def test_other_checkpoints_are_refused_and_change_nothing(tmp_path: Path) -> None:
    published = as_published(1)
    cases = {
        "no_head": {name: values for name, values in published.items() if not name.startswith("dec")},
        "no_trunk": {name: values for name, values in published.items() if not name.startswith("layer3")},
        "more": {**published, "extra.weight": torch.zeros(1)},
    }
    backbone, estimator = networks(2)
    before = {**backbone.state_dict(), **estimator.state_dict()}
    before = {name: values.clone() for name, values in before.items()}
    for name, weights in cases.items():
        torch.save(weights, tmp_path / f"{name}.pt")
        with pytest.raises(FormatError, match=f"{name}.pt are not those of"):
            load_mesh_checkpoint(tmp_path / f"{name}.pt", backbone, estimator)
    after = {**backbone.state_dict(), **estimator.state_dict()}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_other_form_of_poses_is_named(tmp_path: Path) -> None:
    torch.save(as_published(1), tmp_path / "spin.pt")
    backbone, estimator = networks(2, MeshEstimatorForm(features=512, hidden=16, pose_form="aa"))
    with pytest.raises(FormatError, match=r"decpose.*144 outputs in the 6D form and 72"):
        load_mesh_checkpoint(tmp_path / "spin.pt", backbone, estimator)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"model": as_published(1), "optimizer": _Touch(trap)}, tmp_path / "bad.pt")
    with pytest.raises(FormatError, match="read safely"):
        load_mesh_checkpoint(tmp_path / "bad.pt", *networks(2))
    (tmp_path / "bad.npz").write_bytes(pickle.dumps(_Touch(trap)))
    np.savez(tmp_path / "objects.npz", pose=np.array([_Touch(trap)], dtype=object), shape=np.zeros(10), cam=np.zeros(3))
    for file in ("bad.npz", "objects.npz"):
        with pytest.raises(FormatError, match="read safely"):
            read_mean_parameters(tmp_path / file)
    assert not trap.exists()


def means() -> MeanParameters:
    generator = torch.Generator().manual_seed(0)
    rotations = matrix_from_axis_angle(torch.randn(24, 3, generator=generator))
    return MeanParameters(rotations, torch.randn(10, generator=generator), torch.tensor([0.9, 0.0, 0.0]))


@pytest.mark.parametrize("convert", [six_d_from_matrix, axis_angle_from_matrix])
def test_mean_parameters_of_both_forms_are_the_same_body(tmp_path: Path, convert: Callable[[Tensor], Tensor]) -> None:
    wanted = means()
    pose = convert(wanted.rotations).numpy().reshape(-1).astype(np.float64)
    np.savez(tmp_path / "means.npz", pose=pose, shape=wanted.betas.numpy()[None], cam=wanted.camera.numpy())
    found = read_mean_parameters(tmp_path / "means.npz")
    torch.testing.assert_close(found.rotations, wanted.rotations, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.betas, wanted.betas)
    torch.testing.assert_close(found.camera, wanted.camera)


def test_what_is_no_mean_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="mean parameters not found"):
        read_mean_parameters(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", poses=np.zeros(144))
    np.savez(tmp_path / "short.npz", pose=np.zeros(100), shape=np.zeros(10), cam=np.zeros(3))
    np.savez(tmp_path / "nan.npz", pose=np.full(72, np.nan), shape=np.zeros(10), cam=np.zeros(3))
    (tmp_path / "noise.npz").write_bytes(b"noise")
    for file, what in (("other", "safely"), ("short", r"pose \(100\)"), ("nan", "not finite"), ("noise", "safely")):
        with pytest.raises(FormatError, match=what):
            read_mean_parameters(tmp_path / f"{file}.npz")
