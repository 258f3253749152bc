"""PA-MPJPE of very many poses: posekit's batched closed form against a loop over poses with numpy's SVD.

Run ``python benchmarks/bench_procrustes.py [POSES]``. The loop is timed on a part of the poses and scaled up.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from harness import Timing, time_function, write_results

from posekit.evaluation.metrics import mean_over_joints, pa_mpjpe
from posekit.geometry.transforms import fit_similarity

JOINTS = 17
LOOP_POSES = 2000


def pa_mpjpe_loop(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """One pose after the other, as most evaluation scripts of the field have it (Umeyama 1991)."""
    errors = np.empty(len(prediction))
    for index, (source, goal) in enumerate(zip(prediction, target, strict=True)):
        p, q = source - source.mean(0), goal - goal.mean(0)
        u, s, vt = np.linalg.svd(p.T @ q)
        z = np.array([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
        rotation = (vt.T * z) @ u.T
        scale = (z * s).sum() / (p**2).sum()
        errors[index] = np.linalg.norm(scale * p @ rotation.T - q, axis=1).mean()
    return errors


def batched_svd(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The same with torch's batched SVD: what a plain vectorisation gives."""
    p, q = (points - points.mean(1, keepdim=True) for points in (prediction.double(), target.double()))
    u, s, vt = torch.linalg.svd(p.mT @ q)
    z = torch.ones_like(s)
    z[:, 2] = torch.det(vt.mT @ u.mT).sign()
    rotation = (vt.mT * z[:, None]) @ u.mT
    scale = (z * s).sum(-1) / p.square().sum((1, 2))
    return (scale[:, None, None] * p @ rotation.mT - q).norm(dim=-1).mean(-1)


def main(poses: int = 100_000) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(poses, JOINTS, 3, generator=generator) * torch.tensor([0.2, 0.5, 0.1])
    prediction = target + 0.1 * torch.randn(target.shape, generator=generator)
    few, goal = prediction[:LOOP_POSES].double().numpy(), target[:LOOP_POSES].double().numpy()

    ours = mean_over_joints(pa_mpjpe(prediction[:LOOP_POSES], target[:LOOP_POSES])).numpy()
    difference = float(np.abs(ours - pa_mpjpe_loop(few, goal)).max())

    loop = time_function(lambda: pa_mpjpe_loop(few, goal), warmup=1, repeats=5)
    factor = poses / LOOP_POSES
    loop = Timing(loop.median * factor, loop.minimum * factor, loop.spread * factor, loop.repeats)
    svd = time_function(lambda: batched_svd(prediction, target), repeats=5)
    fit = time_function(lambda: fit_similarity(prediction, target), repeats=9)
    whole = time_function(lambda: mean_over_joints(pa_mpjpe(prediction, target)), repeats=9)
    path = write_results(
        "procrustes",
        {
            "poses": poses,
            "joints": JOINTS,
            "numpy_loop": loop,
            "torch_batched_svd": svd,
            "posekit_fit_similarity": fit,
            "posekit_pa_mpjpe": whole,
            "speedup_over_loop": loop.minimum / whole.minimum,
            "speedup_over_batched_svd": svd.minimum / whole.minimum,
            "largest_difference": difference,
        },
    )
    print(
        f"loop {loop.minimum:.2f} s, batched SVD {svd.minimum:.3f} s, posekit {whole.minimum:.3f} s per {poses} poses"
    )
    print(f"{loop.minimum / whole.minimum:.0f} times the loop, {svd.minimum / whole.minimum:.1f} times the batched SVD")
    print(f"largest difference {difference:.1e}; written to {path}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
