"""Weights and mean parameters of mesh estimators from the files that the authors of HMR and SPIN publish."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posekit.errors import FormatError, MissingFileError
from posekit.geometry.rotations import matrix_from_6d, matrix_from_axis_angle
from posekit.models.backbone import Backbone, read_weights
from posekit.models.mesh_estimator import MeanParameters, MeshEstimator

_PARALLEL = "module."
_UNREADABLE = (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error)
_PARTS = ("pose", "shape", "cam")


def load_mesh_checkpoint(path: Path, backbone: Backbone, estimator: MeshEstimator) -> None:
    """Takes over the weights of a trunk and of an estimator, and the means, from one file of PyTorch or safetensors.

    The file holds torchvision's names for the trunk and fc1, fc2, decpose, decshape, deccam, init_pose, init_shape and
    init_cam for the estimator, bare or under ``model`` or ``state_dict``, with or without the prefix ``module.``. Nothing
    in it is run. Raises MissingFileError, and FormatError, before anything is changed, where it is of something else.
    """
    weights = {name.removeprefix(_PARALLEL): value for name, value in read_weights(path).items()}
    wanted = estimator.state_dict()
    head = {name: value for name, value in weights.items() if name in wanted}
    _check_estimator(path, head, estimator)
    backbone.load({name: value for name, value in weights.items() if name not in wanted}, path)
    estimator.load_state_dict(head)


def _check_estimator(path: Path, given: Mapping[str, Tensor], estimator: MeshEstimator) -> None:
    wanted = estimator.state_dict()
    missing = [name for name in wanted if name not in given]
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    if missing or shapes:
        form = estimator.form
        raise FormatError(
            f"the weights in {path} are not those of this mesh estimator",
            got=f"{len(missing)} missing, {len(shapes)} of another shape, such as "
            + ", ".join([*missing, *shapes][:3]),
            accepted=f"the names of SPIN's network, with {form.features} features, {form.pose_numbers} pose numbers and "
            f"{form.shapes} shape coefficients",
            hint="decpose has 144 outputs in the 6D form and 72 in the axis-angle form; choose the form of the file",
        )


def read_mean_parameters(path: Path, joint_count: int = 24) -> MeanParameters:
    """The mean parameters of an npz file as SPIN's ``smpl_mean_params.npz``: pose, shape, cam.

    The pose has 6 numbers for each of the body's joints, or 3 (axis-angle, radians), the root's first. Raises
    MissingFileError, and FormatError for anything else.
    """
    if not path.is_file():
        raise MissingFileError("mean parameters not found", got=path)
    accepted = [f"pose ({6 * joint_count} or {3 * joint_count} numbers)", "shape (10 for SMPL)", "cam (3)"]
    try:
        with np.load(path) as file:
            arrays = [np.asarray(file[name], dtype=np.float32).reshape(-1) for name in _PARTS]
    except _UNREADABLE as error:
        raise FormatError(
            f"{path} holds no mean parameters that can be read safely",
            got=f"{type(error).__name__}: {error}",
            accepted=accepted,
        ) from error
    pose, betas, camera = (torch.from_numpy(array) for array in arrays)
    if len(camera) != 3 or len(betas) == 0 or len(pose) not in (6 * joint_count, 3 * joint_count):
        sizes = [f"{name} ({len(array)})" for name, array in zip(_PARTS, arrays, strict=True)]
        raise FormatError(f"{path} holds no mean parameters of this body", got=sizes, accepted=accepted)
    if not all(bool(values.isfinite().all()) for values in (pose, betas, camera)):
        raise FormatError(f"{path} holds mean parameters that are not finite", accepted="finite numbers")
    numbers = pose.reshape(joint_count, -1)
    rotations = matrix_from_6d(numbers) if numbers.shape[1] == 6 else matrix_from_axis_angle(numbers)
    return MeanParameters(rotations, betas, camera)
