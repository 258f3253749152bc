"""Triangulation of very many joints seen by four cameras: posekit against loops over points with OpenCV.

Run ``python benchmarks/bench_triangulation.py [FRAMES]``: 17 joints in each frame, lenses with five coefficients, 2 px of
noise, 5 % of the observations outliers. What is compared:

- ``robust``: `triangulate`, from distorted pixels to points with outlier views rejected and the reprojection error
  minimised, against ``loop_robust``, what one would write with OpenCV: for each point cv2.undistortPoints in every view,
  cv2.triangulatePoints for every pair of views, the errors in all views by cv2.projectPoints, and the pair that most views
  support refined by the linear solution (SVD) over its supporters. The loop does not minimise the reprojection error.
- ``linear``: `triangulate_dlt` on normalised coordinates, all views, against ``loop_linear``: numpy's SVD for each point.
- ``loop_bare``: one call of cv2.triangulatePoints per point with two views, the least that a loop can do.

The loops are timed on a part of the points, LOOP_POINTS, and scaled to all of them: their time is proportional to the number.
"""

from __future__ import annotations

import math
import resource
import sys
from itertools import combinations

import cv2
import numpy as np
import torch
from harness import Timing, time_function, write_results

from posekit.geometry.cameras import Cameras
from posekit.geometry.triangulation import camera_matrices, triangulate, triangulate_dlt

JOINTS = 17
LOOP_POINTS = 1000
THRESHOLD_PX = 20.0
LENS = (-0.2, 0.24, -0.001, -0.0009, -0.0016)


def make_cameras() -> Cameras:
    """Four cameras around a room, with lenses."""
    rotations, translations = [], []
    for k in range(4):
        angle = 2 * math.pi * (k + 0.5) / 4
        centre = torch.tensor([5 * math.cos(angle), 5 * math.sin(angle), 1.6], dtype=torch.float64)
        forward = torch.nn.functional.normalize(torch.tensor([0.0, 0.0, 0.9], dtype=torch.float64) - centre, dim=0)
        down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        right = torch.nn.functional.normalize(torch.linalg.cross(down, forward), dim=0)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        rotations.append(rotation)
        translations.append(-rotation @ centre)
    K = torch.tensor([[1145.0, 0.0, 512.0], [0.0, 1143.0, 515.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Cameras(
        K.expand(4, 3, 3),
        torch.stack(rotations),
        torch.stack(translations),
        torch.tensor(LENS, dtype=torch.float64).expand(4, 5),
        "opencv",
        torch.full((4, 2), 1000.0, dtype=torch.float64),
    )


def observe(cameras: Cameras, points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Distorted pixels (N, 4, 2) with noise and outliers."""
    seen = cameras.project(points).transpose(0, 1).contiguous()
    seen += 2.0 * torch.randn(seen.shape, generator=generator, dtype=torch.float64)
    wrong = torch.rand(seen.shape[:2], generator=generator) < 0.05
    seen[wrong] += 100.0 * torch.randn(int(wrong.sum()), 2, generator=generator, dtype=torch.float64)
    return seen


def robust_loop(cameras: Cameras, pixels: np.ndarray) -> np.ndarray:
    """Lens, all pairs, a vote of the views, and the linear solution of those that agree, one point after the other."""
    K, P = cameras.intrinsics[0].numpy(), camera_matrices(cameras).numpy()
    turns = [cv2.Rodrigues(matrix[:, :3])[0] for matrix in P]
    lens, pairs = np.array(LENS), list(combinations(range(4), 2))
    found = np.empty((len(pixels), 3))
    for index, seen in enumerate(pixels):
        rays = np.stack([cv2.undistortPoints(seen[c].reshape(1, 1, 2), K, lens).reshape(2) for c in range(4)])
        supporters, most = np.zeros(4, dtype=bool), -1.0
        for a, b in pairs:
            homogeneous = cv2.triangulatePoints(P[a], P[b], rays[a], rays[b])[:, 0]
            point = (homogeneous[:3] / homogeneous[3]).reshape(1, 3)
            projected = [cv2.projectPoints(point, turns[c], P[c, :, 3], K, lens)[0].reshape(2) for c in range(4)]
            errors = np.linalg.norm(np.stack(projected) - seen, axis=1)
            votes = np.maximum(1 - (errors / THRESHOLD_PX) ** 2, 0).sum()
            if votes > most:
                supporters, most = errors <= THRESHOLD_PX, votes
                best = point[0]
        found[index] = linear_point(P[supporters], rays[supporters]) if supporters.sum() >= 2 else best
    return found


def linear_point(matrices: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """The direct linear transform over all views given."""
    rows = rays[:, :, None] * matrices[:, 2:] - matrices[:, :2]
    homogeneous = np.linalg.svd(rows.reshape(-1, 4))[2][-1]
    return homogeneous[:3] / homogeneous[3]


def linear_loop(matrices: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """All views, no outliers rejected, one point after the other."""
    return np.stack([linear_point(matrices, seen) for seen in rays])


def bare_loop(matrices: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """One pair of views, one call per point."""
    found = np.empty((len(rays), 3))
    for index, seen in enumerate(rays):
        homogeneous = cv2.triangulatePoints(matrices[0], matrices[1], seen[0], seen[1])[:, 0]
        found[index] = homogeneous[:3] / homogeneous[3]
    return found


def scaled(timing: Timing, factor: float) -> Timing:
    """The time of more points."""
    return Timing(timing.median * factor, timing.minimum * factor, timing.spread * factor, timing.repeats)


def main(frames: int = 100_000) -> None:
    cameras, generator = make_cameras(), torch.Generator().manual_seed(0)
    points = torch.randn(frames * JOINTS, 3, generator=generator, dtype=torch.float64) * 0.5
    points[:, 2] += 0.9
    pixels = observe(cameras, points, generator)
    confidence = torch.ones(pixels.shape[:2], dtype=torch.float64)
    matrices = camera_matrices(cameras)
    normalized = cameras.undistort(pixels.transpose(0, 1)).transpose(0, 1).contiguous()
    few, rays = pixels[:LOOP_POINTS].numpy(), normalized[:LOOP_POINTS].numpy()
    factor = len(points) / LOOP_POINTS
    loops = {
        "loop_robust": time_function(lambda: robust_loop(cameras, few), warmup=1, repeats=3),
        "loop_linear": time_function(lambda: linear_loop(matrices.numpy(), rays), warmup=1, repeats=3),
        "loop_bare": time_function(lambda: bare_loop(matrices.numpy(), rays), warmup=1, repeats=3),
    }
    loops = {name: scaled(timing, factor) for name, timing in loops.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    robust = time_function(lambda: triangulate(cameras, pixels, confidence), warmup=1, repeats=3, max_seconds=120)
    linear = time_function(lambda: triangulate_dlt(matrices, normalized), warmup=1, repeats=5)
    found = triangulate(cameras, pixels[:LOOP_POINTS], confidence[:LOOP_POINTS])
    error = torch.linalg.vector_norm(found.points - points[:LOOP_POINTS], dim=-1)
    loop_error = np.linalg.norm(robust_loop(cameras, few) - points[:LOOP_POINTS].numpy(), axis=1)
    results = {
        "points": len(points),
        "views": 4,
        "loop_points_timed": LOOP_POINTS,
        "robust": robust,
        "linear": linear,
        **loops,
        "ratio_robust": loops["loop_robust"].minimum / robust.minimum,
        "ratio_linear": loops["loop_linear"].minimum / linear.minimum,
        "ratio_bare_loop_to_robust": loops["loop_bare"].minimum / robust.minimum,
        "median_error_mm": 1e3 * float(error[found.ok].median()),
        "median_error_of_loop_mm": 1e3 * float(np.median(loop_error)),
        "extra_memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }
    path = write_results("triangulation", results)
    for name, value in results.items():
        print(f"{name:28s} {value.minimum:10.3f} s" if isinstance(value, Timing) else f"{name:28s} {value:10.3f}")
    print(path)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
