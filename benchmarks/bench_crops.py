"""Batches of augmented crops with labels and fits, against decoding the same JPEGs and nothing else.

The bare way decodes stored crops that lie in memory already, which every loader has to do at least. Posekit's way is
`CropSource.batch`: it reads, decodes and warps the crops, and moves key points, 120 correspondences and a fitted body of
each with them. Both run on one thread and on two.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from harness import time_function, write_results

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.smpl_file import BodyData, load_body
from posekit.datasets.crops import encode_image, square_crop
from posekit.records import Camera, Clip, camera_columns, cameras_from_columns, clip_columns
from posekit.registration.bodies import bodies_of
from posekit.registration.labels import LabelReader, LabelSource
from posekit.skeleton.catalog import H36M17
from posekit.skeleton.skeleton import Skeleton
from posekit.training.augmentation import Augmentation
from posekit.training.crops import CropPart, CropSource

SAMPLES, PICTURES, POINTS, BATCH = 600, 60, 120, 30
GOAL_MS = 1.5
"""An image on one thread, at most, for crops of 128 px."""


def texture(random: np.random.Generator, size: int) -> np.ndarray:
    """Blobs of several sizes; its JPEG is about as large as that of a photograph."""
    picture = np.zeros((size, size, 3))
    for cells in (4, 12, 40):
        coarse = random.normal(0.0, 1.0, (cells, cells, 3))
        picture += 130.0 / cells**0.6 * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return (128.0 + picture).clip(0, 255).astype(np.uint8)


def write_inputs(folder: Path, body: BodyData, stored: int) -> None:
    """A data set of random pictures and labels, correspondences and fits."""
    random = np.random.default_rng(0)
    frame, zero = np.arange(SAMPLES), np.zeros(SAMPLES, np.int64)
    key = {"sequence": zero, "frame": frame, "person": zero, "camera": zero}
    low = random.uniform(100.0, 400.0, (SAMPLES, 2))
    boxes = np.concatenate([low, low + random.uniform(150.0, 400.0, (SAMPLES, 2))], axis=1)
    camera = Camera("a", 1000, 1000, np.diag([1000.0, 1000.0, 1.0]), posed=False)
    maps = np.stack([square_crop(box, stored, 1.2) for box in boxes])
    labels = np.concatenate([random.uniform(100.0, 800.0, (SAMPLES, 17, 2)), np.ones((SAMPLES, 17, 1))], axis=-1)
    with ArtifactWriter(folder / "data.h5", Header("dataset", "benchmark", skeleton=H36M17)) as writer:
        writer.append("cameras", camera_columns([camera]))
        writer.append("sequences", clip_columns([Clip("walk", 50.0)]))
        writer.append("videos", {"sequence": [0], "camera": [0], "path": ["a.mp4"], "frames": [SAMPLES]})
        pictures = [encode_image(texture(random, stored), "jpeg", 95) for _ in range(PICTURES)] * (SAMPLES // PICTURES)
        samples = {"bbox": boxes, "keypoints2d": labels, "image": pictures, "crop_from_image": maps}
        writer.append("samples", key | samples)
    with ArtifactWriter(folder / "dense.h5", Header("correspondences", "benchmark")) as writer:
        points = {
            "pixels": list(random.uniform(100.0, 800.0, (SAMPLES, POINTS, 2))),
            "vertices": list(random.integers(body.vertex_count, size=(SAMPLES, POINTS))),
            "weights": list(np.ones((SAMPLES, POINTS))),
        }
        writer.append("samples", key | points)
    rig = Skeleton("rig", body.joint_names, body.parents)
    with ArtifactWriter(folder / "fits.h5", Header("fits", "benchmark", skeleton=rig)) as writer:
        fits: dict[str, Any] = {
            "pose": random.normal(0.0, 0.3, (SAMPLES, body.joint_count, 3)),
            "segment_scales": np.ones((SAMPLES, body.joint_count)),
            "betas": np.zeros((SAMPLES, 10)),
            "orientation": np.tile(np.diag([1.0, -1.0, -1.0]), (SAMPLES, 1, 1)),
            "translation": np.zeros((SAMPLES, 3)),
            "scale": np.ones(SAMPLES),
            "crop_from_image": maps,
            "losses": np.zeros((SAMPLES, 1)),
            "residual_px": np.zeros(SAMPLES),
            "ok": np.ones(SAMPLES, bool),
            "reason": [""] * SAMPLES,
        }
        writer.append("cameras", camera_columns([camera]))
        writer.append("fits", key | fits)


def compare(folder: Path, body: BodyData, size: int, repeats: int) -> dict[str, Any]:
    """Images per second of both ways, and the milliseconds of one image."""
    with (
        Artifact(folder / "data.h5") as data,
        Artifact(folder / "dense.h5") as dense,
        Artifact(folder / "fits.h5") as fits,
    ):
        cameras = cameras_from_columns(data.table("cameras"))
        bodies = bodies_of(data, joint_views=False, usable=np.ones(1, dtype=bool), stride=1)
        reader = LabelReader(LabelSource(data, cameras, None, dense, H36M17.joints, True))
        part = CropPart(data, reader, bodies, fits)
        source = CropSource([part], size, Augmentation(), 0, body)
        streaming = CropSource([part], size, Augmentation(), 0, body, point_bytes=0)
        encoded = data.read_ragged("samples", "image")
        order = np.random.default_rng(1).permutation(SAMPLES).reshape(-1, BATCH)
        ways: dict[str, Callable[[np.ndarray], Any]] = {
            "bare decoding": lambda rows: [cv2.imdecode(encoded[row], cv2.IMREAD_COLOR) for row in rows],
            "crop source": lambda rows: source.batch(rows, 0),
            "crop source, correspondences read for each batch": lambda rows: streaming.batch(rows, 0),
        }
        results: dict[str, Any] = {"jpeg_bytes": float(np.mean([len(row) for row in encoded]))}
        for threads in (1, 2):
            for name, work in ways.items():
                results[f"{name}, {threads} threads" if threads > 1 else name] = measured(work, order, threads, repeats)
        source.close()
        streaming.close()
    ours, bare = (results[name]["ms_per_image"] for name in ("crop source", "bare decoding"))
    return results | {"over_bare_decoding": ours / bare}


def measured(work: Callable[[np.ndarray], Any], order: np.ndarray, threads: int, repeats: int) -> dict[str, Any]:
    with ThreadPoolExecutor(threads) as pool:
        timing = time_function(lambda: list(pool.map(work, order)), warmup=1, repeats=repeats)
    return {
        "timing": timing,
        "ms_per_image": timing.minimum_ms / SAMPLES,
        "images_per_second": SAMPLES / timing.minimum,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    body = load_body()
    results: dict[str, Any] = {"goal_ms": GOAL_MS}
    for stored, size in ((128, 96), (256, 96), (256, 224)):
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(Path(folder), body, stored)
            found = compare(Path(folder), body, size, arguments.repeats)
        results[f"{stored} to {size} px"] = found
        print(f"{stored} -> {size} px ({found['jpeg_bytes']:.0f} bytes a JPEG)")
        for name, values in found.items():
            if isinstance(values, dict):
                print(f"  {name:64} {values['ms_per_image']:6.3f} ms {values['images_per_second']:7.0f} images/s")
    print(write_results("crops", results))


if __name__ == "__main__":
    main()
