"""Measures, on studio data, how exact the stages are; prints a table and writes `results/accuracy.json`.

    python benchmarks/measure_accuracy.py [--folder FOLDER] [--quick]

1. The raw Human3.6M layout: 3D joints and projections read back, against the studio's own truth.
2. Triangulation of true 2D joints with 2 px of noise (standard deviation of each coordinate) in four 1000 px views: known
   cameras, the same without the prior on bones and motion, and intrinsics alone.
3. Registration of 64 bodies from 120 visible correspondences (30 in each view) with 1 px of noise, 2D joints with the same
   noise, and the triangulated joints.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import write_results

from posekit.artifacts.files import Artifact
from posekit.body.model import BodyModel
from posekit.body.smpl_file import BodyData, load_body
from posekit.camera_stack import stack_cameras
from posekit.config.data import PreprocessH36M, SynthesizeH36M
from posekit.config.labels import Register, Triangulate
from posekit.config.results import Evaluate
from posekit.geometry.conventions import MILLIMETRES_PER_METRE
from posekit.records import cameras_from_columns
from posekit.skeleton.catalog import H36M17, H36M32
from posekit.stages.evaluate import evaluate
from posekit.stages.preprocess_h36m import preprocess_h36m
from posekit.stages.register import register
from posekit.stages.synthesize import synthesize_h36m
from posekit.stages.triangulate import triangulate
from posekit.synthetic.h36m_joints import Human36MJoints

ACTIONS = ("Directions", "Greeting", "Sitting", "Walking")
SUBJECTS = ("S1", "S5", "S6", "S9")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to keep the data; default: a temporary folder")
    parser.add_argument("--quick", action="store_true", help="a quarter of the frames, at half the resolution")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        results = measure(folder, frames=4 if arguments.quick else 32, resolution=500 if arguments.quick else 1000)
    for name, value in results.items():
        print(f"{name:55s} {value:10.5g}")
    print(f"wrote {write_results('accuracy_quick' if arguments.quick else 'accuracy', results)}")


def measure(folder: Path, *, frames: int, resolution: int, fps: float = 25.0) -> dict[str, float]:
    """All figures, by name."""
    raw, dataset = folder / "raw" / "h36m", folder / "data" / "h36m.h5"
    synthesize_h36m(
        SynthesizeH36M(
            output=raw,
            subjects=SUBJECTS,
            actions=ACTIONS,
            frames=frames,
            resolution=resolution,
            fps=fps,
            correspondences=30,
        )
    )
    preprocess_h36m(PreprocessH36M(raw=raw, output=dataset, train_stride=1, test_stride=1, crops=False))
    results = {"frames of each of 16 sequences": float(frames), "width of the videos (px)": float(resolution)}
    results |= _raw_layout(raw, dataset)
    for name, mode, steady in (
        ("known", "known", True),
        ("unsteadied", "known", False),
        ("intrinsics", "intrinsics", True),
    ):
        joints = folder / "labels" / f"{name}.joints3d.h5"
        triangulate(Triangulate(dataset=dataset, output=joints, cameras=mode, noise_px=2.0, steady=steady))
        report = evaluate(Evaluate(dataset=dataset, joints3d=joints, output=folder / "results" / f"{name}.json"))
        results |= {
            f"2 px noise, {name}: {metric}": value
            for metric, value in report.metrics.items()
            if metric.startswith("joints3d") and "mm" in metric
        }
    return results | _registration(folder, dataset, stride=max(1, frames // 4))


def _registration(folder: Path, dataset: Path, *, stride: int) -> dict[str, float]:
    """64 bodies: four subjects, four actions, four instants each."""
    raw, fits = folder / "raw" / "h36m", folder / "fits" / "h36m.h5"
    report = register(
        Register(
            dataset=dataset,
            joints3d=folder / "labels" / "known.joints3d.h5",
            dense=raw / "dense.h5",
            output=fits,
            stride=stride,
            noise_px=1.0,
        )
    )
    results = {f"register: {name}": value for name, value in report.metrics.items()}
    compared = evaluate(
        Evaluate(
            dataset=dataset,
            joints3d=folder / "labels" / "known.joints3d.h5",
            fits=fits,
            truth=raw / "truth.h5",
            output=folder / "results" / "fits.json",
        )
    )
    results |= {f"registration: {name}": value for name, value in compared.metrics.items() if name.startswith("fits")}
    with Artifact(fits) as artifact:
        ok = artifact.read("fits", "ok")
    return results | {"registration: bodies": float(len(ok)), "registration: ok (%)": 100.0 * float(ok.mean())}


def _raw_layout(raw: Path, dataset: Path) -> dict[str, float]:
    """What came back through the raw files, against the studio's exact bodies."""
    body = load_body(None)
    with Artifact(raw / "truth.h5") as truth, Artifact(dataset) as read:
        bodies = truth.table("bodies")
        rows = {
            (name, int(frame)): row
            for row, (name, frame) in enumerate(
                zip(truth.read("sequences", "name")[bodies["sequence"]], bodies["frame"], strict=True)
            )
        }
        names = read.read("sequences", "name")
        cameras = cameras_from_columns(read.table("cameras"))
        samples = read.table("samples")
    world = _joints(body, bodies)
    found = [rows[str(names[s]), int(f)] for s, f in zip(samples["sequence"], samples["frame"], strict=True)]
    exact = torch.from_numpy(world[found])
    rig = stack_cameras(cameras)
    distance_mm, distance_px = [], []
    for camera in range(len(cameras)):
        mine = samples["camera"] == camera
        in_camera = rig[camera].camera_from_world(exact[mine])
        pixels = rig[camera].project_camera(in_camera)
        distance_mm.append(np.linalg.norm(in_camera.numpy() - samples["joints3d"][mine], axis=-1).max())
        distance_px.append(np.linalg.norm(pixels.numpy() - samples["keypoints2d"][mine, :, :2], axis=-1).max())
    return {
        "raw layout: samples": float(len(samples["frame"])),
        "raw layout: worst 3D joint (mm)": MILLIMETRES_PER_METRE * float(max(distance_mm)),
        "raw layout: worst projection (px)": float(max(distance_px)),
    }


def _joints(body: BodyData, bodies: dict[str, np.ndarray]) -> np.ndarray:
    """The 17 joints of Human3.6M of true bodies, world, double precision."""
    model = BodyModel(body, dtype=torch.float64)
    rows = list(H36M32.indices(*H36M17.joints))
    joints_of = Human36MJoints(body)
    joints = []
    for begin in range(0, len(bodies["frame"]), 64):
        part = {
            name: torch.from_numpy(bodies[name][begin : begin + 64]).double()
            for name in ("betas", "pose", "translation")
        }
        posed = model(part["betas"], part["pose"], part["translation"])
        joints.append(joints_of(posed.vertices.numpy(), posed.joints.numpy())[:, rows])
    return np.concatenate(joints)


if __name__ == "__main__":
    main()
