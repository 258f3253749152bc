"""The same body as a layer of the `smplx` package, whose licence allows non-commercial use only."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np

from posekit.body.smpl_file import BodyData
from posekit.errors import DependencyError, InputError
from posekit.skeleton.catalog import SMPL24


def to_smplx(body: BodyData, batch_size: int = 1) -> Any:
    """An `smplx.SMPL` layer of this body, made from arrays; `smplx` itself would unpickle a file without a check.

    Raises DependencyError without `smplx`, and InputError for a body that has not the 24 joints of SMPL.
    """
    if body.joint_count != len(SMPL24):
        raise InputError(f"body {body.source} is no SMPL body", got=f"{body.joint_count} joints", accepted=len(SMPL24))
    try:
        smplx = importlib.import_module("smplx")
    except ImportError as error:
        raise DependencyError(
            "the package smplx is not installed", hint="install it with: pip install smplx (non-commercial licence)"
        ) from error
    arrays = smplx.utils.Struct(
        v_template=body.v_template,
        f=body.faces,
        weights=body.weights,
        J_regressor=body.joint_regressor,
        kintree_table=np.array([body.parents, range(body.joint_count)]),
        shapedirs=body.shapedirs,
        posedirs=body.posedirs,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return smplx.SMPL(model_path="", data_struct=arrays, batch_size=batch_size)
