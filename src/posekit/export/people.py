"""Fitted bodies as meshes and as animated rigs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.export.gltf import AnimatedBody
from posekit.export.upright import Upright
from posekit.geometry.rotations import matrix_from_9d, matrix_from_axis_angle
from posekit.registration.posing import posed_bodies

_BODIES_AT_ONCE = 64


def animated_body(
    name: str,
    fits: Mapping[str, np.ndarray],
    frames: Int[np.ndarray, "T"],
    fps: float,
    body: SegmentScaledBody,
    upright: Upright,
    *,
    weak: bool,
) -> AnimatedBody:
    """A rig of constant shape that moves as a person's fits do.

    Shape components and segment scales are the medians over the fits, because a rig does not change its shape; positions
    and rotations are those of every fit. Weak-perspective fits stand still: they know no place.
    """
    table = {key: np.asarray(values, dtype=np.float64) for key, values in fits.items() if key in _NUMBERS}
    betas = torch.from_numpy(np.median(table["betas"], axis=0)).to(body.template)
    rest = body.template + torch.einsum("vds,s->vd", body.shapedirs, betas)
    rotations = matrix_from_axis_angle(torch.from_numpy(table["pose"])).numpy()
    orientation = matrix_from_9d(torch.from_numpy(table["orientation"])).numpy()
    rotations[:, 0] = upright.rotation @ orientation @ rotations[:, 0]
    places = np.zeros_like(table["translation"]) if weak else table["translation"]
    size = 1.0 if weak else float(np.median(table["scale"]))
    return AnimatedBody(
        name=name,
        rest_vertices=rest.double().cpu().numpy(),
        faces=body.body.faces,
        weights=body.body.weights.astype(np.float64),
        rest_joints=body.rest_joints(betas[None])[0].double().cpu().numpy(),
        parents=body.body.parents,
        joint_names=body.body.joint_names,
        local_rotations=rotations,
        root_positions=upright.apply(places),
        times=(frames - frames[0]) / fps,
        segment_scales=_unless_one(size * np.median(table["segment_scales"], axis=0)),
    )


_NUMBERS = ("betas", "pose", "orientation", "translation", "scale", "segment_scales")


def _unless_one(scales: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"] | None:
    return None if np.allclose(scales, 1.0, atol=1e-6) else scales


def posed_vertices(
    fits: Mapping[str, np.ndarray], body: SegmentScaledBody, upright: Upright, *, weak: bool
) -> Iterator[Float[np.ndarray, "V 3"]]:
    """The mesh of every fit, each with its own shape, in the axes of the file."""
    for begin in range(0, len(fits["pose"]), _BODIES_AT_ONCE):
        block = {key: values[begin : begin + _BODIES_AT_ONCE] for key, values in fits.items()}
        vertices = posed_bodies(block, body).points.double().cpu().numpy()
        if weak:
            vertices = (vertices - block["translation"][:, None]) / block["scale"][:, None, None]
        yield from upright.apply(vertices)


def fit_arrays(
    fits: Mapping[str, np.ndarray],
    frames: Int[np.ndarray, "T"],
    fps: float,
    upright: Upright,
    joint_names: Sequence[str],
) -> dict[str, np.ndarray]:
    """The parameters of fits, placed in the axes of the file: ``X = scale * orientation @ posed + translation``."""
    orientation = matrix_from_9d(torch.from_numpy(fits["orientation"].astype(np.float64))).numpy()
    return {
        "frames": frames,
        "times": frames / fps,
        "joint_names": np.array(joint_names, dtype=str),
        "pose": fits["pose"],
        "betas": fits["betas"],
        "segment_scales": fits["segment_scales"],
        "scale": fits["scale"],
        "orientation": upright.rotation @ orientation,
        "translation": upright.apply(fits["translation"].astype(np.float64)),
        "residual_px": fits["residual_px"],
    }
