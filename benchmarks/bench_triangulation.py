"""Triangulation of very many joints seen by four cameras: posekit against loops over points with OpenCV.

Run ``python benchmarks/bench_triangulation.py [FRAMES]``. The loops are timed on a part of the points and scaled up.
Observations have 2 px of noise and 5 % of them are outliers. Three loops are timed: one that does the same work point by
point (undo the lens, triangulate all pairs of views, let the views vote), one that only triangulates all pairs, and the
barest possible, one call of cv2.triangulatePoints per point.
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


def same_work_loop(cameras: Cameras, pixels: np.ndarray) -> np.ndarray:
    """Lens, all pairs, and a vote of the views, one point after the other."""
    K, P = cameras.intrinsics[0].numpy(), camera_matrices(cameras).numpy()
    lens, pairs = np.array(LENS), list(combinations(range(4), 2))
    found = np.empty((len(pixels), 3))
    for index, seen in enumerate(pixels):
        rays = [cv2.undistortPoints(seen[c].reshape(1, 1, 2), K, lens).reshape(2) for c in range(4)]
        best, most = None, -1.0
        for a, b in pairs:
            homogeneous = cv2.triangulatePoints(P[a], P[b], rays[a], rays[b])[:, 0]
            projected = P @ (homogeneous / homogeneous[3])
            errors = np.linalg.norm(projected[:, :2] / projected[:, 2:] - rays, axis=1) * K[0, 0]
            votes = np.maximum(1 - (errors / THRESHOLD_PX) ** 2, 0).sum()
            if votes > most:
                best, most = homogeneous[:3] / homogeneous[3], votes
        found[index] = best
    return found


def all_pairs_loop(matrices: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """The mean of what all pairs give, one point after the other."""
    found = np.zeros((len(rays), 3))
    for index, seen in enumerate(rays):
        for a, b in combinations(range(4), 2):
            homogeneous = cv2.triangulatePoints(matrices[a], matrices[b], seen[a], seen[b])[:, 0]
            found[index] += homogeneous[:3] / homogeneous[3] / 6
    return found


def barest_loop(matrices: np.ndarray, rays: np.ndarray) -> np.ndarray:
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
        "loop_same_work": time_function(lambda: same_work_loop(cameras, few), warmup=1, repeats=3),
        "loop_all_pairs": time_function(lambda: all_pairs_loop(matrices.numpy(), rays), warmup=1, repeats=3),
        "loop_barest": time_function(lambda: barest_loop(matrices.numpy(), rays), warmup=1, repeats=3),
    }
    loops = {name: scaled(timing, factor) for name, timing in loops.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    robust = time_function(lambda: triangulate(cameras, pixels, confidence), warmup=1, repeats=3, max_seconds=120)
    linear = time_function(lambda: triangulate_dlt(matrices, normalized), warmup=1, repeats=5)
    found = triangulate(cameras, pixels[:LOOP_POINTS], confidence[:LOOP_POINTS])
    error = torch.linalg.vector_norm(found.points - points[:LOOP_POINTS], dim=-1)
    loop_error = np.linalg.norm(same_work_loop(cameras, few) - points[:LOOP_POINTS].numpy(), axis=1)
    results = {
        "points": len(points),
        "views": 4,
        "robust_with_lens": robust,
        "linear": linear,
        **loops,
        "ratio_robust_to_same_work": loops["loop_same_work"].minimum / robust.minimum,
        "ratio_linear_to_all_pairs": loops["loop_all_pairs"].minimum / linear.minimum,
        "ratio_robust_to_barest": loops["loop_barest"].minimum / robust.minimum,
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
