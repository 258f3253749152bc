"""Joint regressors: non-negative, sparse, symmetric rows that sum to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import nnls

from posekit.skeleton.catalog import H36M17, SMPL24

_LEAST_SHARE = 1e-4
_REST_CANDIDATES, _REST_SUM_WEIGHT = 700, 30.0
_POSED_CANDIDATES, _POSED_SUM_WEIGHT = 400, 20.0


@dataclass(frozen=True, eq=False)
class JointSamples:
    """Bodies and where their 24 joints are; `weight` scales their say in a fit."""

    vertices: Float[np.ndarray, "N V 3"]
    joints: Float[np.ndarray, "N 24 3"]
    weight: float = 1.0


def rest_joint_regressor(
    template: Float[np.ndarray, "V 3"],
    mirror: Int[np.ndarray, " V"],
    samples: list[JointSamples],
) -> Float[np.ndarray, "24 V"]:
    """Rows for the 24 joints; left ones are fitted and mirrored, those of the middle have equal pairs.

    Where the first samples are resting bodies and further ones posed bodies, the rows still serve on a posed mesh.
    """
    rows = np.zeros((len(SMPL24), len(template)))
    places = samples[0].joints.mean(axis=0)
    for joint, partner in enumerate(SMPL24.flip_permutation):
        if partner < joint:
            rows[joint] = rows[partner][mirror]
            continue
        near = np.argsort(np.linalg.norm(template - places[joint], axis=1), kind="stable")[:_REST_CANDIDATES]
        rows[joint] = _fitted_row(samples, joint, near, mirror if partner == joint else None, _REST_SUM_WEIGHT)
    return rows


def h36m_regressor(
    template: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "24 3"],
    mirror: Int[np.ndarray, " V"],
    posed: JointSamples,
    nose: int,
) -> Float[np.ndarray, "17 V"]:
    """Rows for Human3.6M's joints, right leg first: fitted to the rig's joints on posed bodies.

    The pelvis is between the hips, the spine between pelvis and thorax, the jaw the nose, the head the highest vertex.
    """
    rows: dict[str, np.ndarray] = {}
    for name in (joint for joint in H36M17.joints if joint in SMPL24 and H36M17.side(joint) == "left"):
        rows[name] = _posed_row(template, joints, posed, SMPL24.index(name), None)
        rows[name.replace("left", "right")] = rows[name][mirror]
    rows["thorax"] = _posed_row(template, joints, posed, SMPL24.index("smpl_neck"), mirror)
    rows["pelvis"] = (rows["left_hip"] + rows["right_hip"]) / 2
    rows["spine"] = (rows["pelvis"] + rows["thorax"]) / 2
    on_middle = mirror == np.arange(len(template))
    top = int(np.argmax(np.where(on_middle, template[:, 1], -np.inf)))
    for name, vertex in (("jaw", nose), ("head", top)):
        rows[name] = np.zeros(len(template))
        rows[name][vertex] = 1.0
    return np.stack([rows[name] for name in H36M17.joints])


def _posed_row(
    template: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "24 3"],
    posed: JointSamples,
    joint: int,
    mirror: Int[np.ndarray, " V"] | None,
) -> Float[np.ndarray, " V"]:
    near = np.argsort(np.linalg.norm(template - joints[joint], axis=1), kind="stable")[:_POSED_CANDIDATES]
    return _fitted_row([posed], joint, near, mirror, _POSED_SUM_WEIGHT)


def _fitted_row(
    samples: list[JointSamples],
    joint: int,
    candidates: Int[np.ndarray, " M"],
    mirror: Int[np.ndarray, " V"] | None,
    sum_weight: float,
) -> Float[np.ndarray, " V"]:
    """Non-negative least squares; with `mirror`, a vertex and its mirror image share one unknown."""
    if mirror is not None:
        candidates = np.unique(np.minimum(candidates, mirror[candidates]))
    blocks = []
    for sample in samples:
        places = sample.vertices[:, candidates]
        if mirror is not None:
            places = (places + sample.vertices[:, mirror[candidates]]) / 2
        offsets = places - sample.joints[:, None, joint]
        blocks.append(sample.weight * offsets.transpose(0, 2, 1).reshape(-1, len(candidates)))
    matrix = np.concatenate([*blocks, np.full((1, len(candidates)), sum_weight)])
    wanted = np.zeros(len(matrix))
    wanted[-1] = sum_weight
    shares = nnls(matrix, wanted, maxiter=20_000)[0]
    shares[shares < _LEAST_SHARE] = 0
    shares /= shares.sum()
    row = np.zeros(samples[0].vertices.shape[1])
    if mirror is None:
        row[candidates] = shares
    else:
        row[candidates] += shares / 2
        np.add.at(row, mirror[candidates], shares / 2)
    return row
