"""Stages strung together: `posekit demo` runs all of them on synthetic data."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact
from posekit.atomic import writing
from posekit.config.base import build_config, find_recipe, load_recipe
from posekit.config.data import PreprocessH36M, SynthesizeH36M
from posekit.config.deform_and_learn import TrainDeformAndLearn
from posekit.config.labels import Register, Triangulate
from posekit.config.pose_resnet import TrainPoseResNet
from posekit.config.prediction import Predict
from posekit.config.programs import Demo
from posekit.config.results import Evaluate, Export, Render
from posekit.pipelines.deform_and_learn import train_deform_and_learn
from posekit.stages.evaluate import evaluate
from posekit.stages.export import export
from posekit.stages.predict import predict
from posekit.stages.preprocess_h36m import preprocess_h36m
from posekit.stages.register import register
from posekit.stages.render import render
from posekit.stages.report import StageReport, Table
from posekit.stages.synthesize import synthesize_h36m
from posekit.stages.train_pose_resnet import train_pose_resnet
from posekit.stages.triangulate import triangulate

logger = logging.getLogger(__name__)

Step = tuple[str, Callable[[], StageReport]]

_LEARNING_SUBJECTS = ("S1", "S5", "S6", "S7", "S9")
_DETECTOR_PX = 0.5
_LEARNING_ACTIONS = ("Directions", "Eating", "Greeting", "Posing", "Sitting", "Walking")


def demo(config: Demo) -> StageReport:
    """Runs every stage on synthetic data below `config.output`; ends in a table, pictures and `summary.json`.

    The summary is ``{"stages": [{"name", "seconds", "output"}...], "metrics": {name: value}}``.
    """
    steps = list(_demo_steps(config))
    if config.dry_run:
        return StageReport("demo", [], notes=[f"would run: {', '.join(name for name, _ in steps)}"])
    done: list[tuple[str, float, StageReport]] = []
    for name, run in steps:
        began = time.monotonic()
        report = run()
        seconds = time.monotonic() - began
        done.append((name, seconds, report))
        logger.info("%s took %.1f s", name, seconds)
    artifacts = [path for _, _, report in done for path in report.outputs if path.suffix == ".h5"]
    for path in artifacts:
        with Artifact(path) as artifact:
            artifact.verify()
    return _summarize(config, done)


def _demo_steps(config: Demo) -> Iterator[Step]:
    root = Path(config.output)
    yield from _label_steps(config, root)
    if config.learn:
        yield from _learning_steps(config, root / "learning")


def _label_steps(config: Demo, root: Path) -> Iterator[Step]:
    """Labels from several views, bodies fitted to them, and what they look like."""
    raw, dataset = root / "raw" / "h36m", root / "data" / "h36m.h5"
    known = root / "labels" / "h36m.joints3d.h5"
    intrinsics = root / "labels" / "h36m.intrinsics.joints3d.h5"
    fits = root / "fits" / "h36m.h5"
    shared: dict[str, Any] = {"force": config.force}
    seeded: dict[str, Any] = {"seed": config.seed, **shared}
    device: dict[str, Any] = {"device": config.device}
    noise_px = 2.0  # of the detector that the demo stands in for

    yield (
        "synthesize h36m",
        lambda: synthesize_h36m(
            SynthesizeH36M(
                output=raw, frames=config.frames, fps=config.fps, resolution=config.resolution, **seeded, **device
            )
        ),
    )
    yield (
        "preprocess h36m",
        lambda: preprocess_h36m(PreprocessH36M(raw=raw, output=dataset, train_stride=1, test_stride=1, **shared)),
    )
    yield (
        "triangulate (known cameras)",
        lambda: triangulate(Triangulate(dataset=dataset, output=known, noise_px=noise_px, **seeded)),
    )
    yield (
        "triangulate (intrinsics only)",
        lambda: triangulate(
            Triangulate(dataset=dataset, output=intrinsics, cameras="intrinsics", noise_px=noise_px, **seeded)
        ),
    )
    yield (
        "register",
        lambda: register(
            Register(
                dataset=dataset,
                joints3d=known,
                dense=raw / "dense.h5",
                output=fits,
                iters=config.iters,
                noise_px=1.0,
                **seeded,
                **device,
            )
        ),
    )
    yield (
        "eval (known cameras, fits)",
        lambda: evaluate(
            Evaluate(
                dataset=dataset,
                joints3d=known,
                fits=fits,
                truth=raw / "truth.h5",
                output=root / "results" / "h36m.json",
                **seeded,
                **device,
            )
        ),
    )
    yield (
        "eval (intrinsics only)",
        lambda: evaluate(
            Evaluate(
                dataset=dataset, joints3d=intrinsics, output=root / "results" / "intrinsics.json", **seeded, **device
            )
        ),
    )
    yield from _showing_steps(config, root, dataset, known, fits)


def _showing_steps(config: Demo, root: Path, dataset: Path, known: Path, fits: Path) -> Iterator[Step]:
    """Pictures of the registered bodies, and their files for other programs."""
    shared: dict[str, Any] = {"force": config.force}
    for kind in ("overlay", "side", "turntable"):
        yield (
            f"render {kind}",
            lambda kind=kind: render(  # type: ignore[misc]
                Render(
                    dataset=dataset,
                    joints3d=known,
                    fits=fits,
                    output=root / "renders" / kind,
                    kind=kind,
                    draw="both",
                    device=config.device,
                    **shared,
                )
            ),
        )
    yield (
        "export",
        lambda: export(
            Export(
                dataset=dataset,
                joints3d=known,
                fits=fits,
                output=root / "exports",
                formats=("trc", "csv", "glb"),
                **shared,
            )
        ),
    )


def _learning_steps(config: Demo, root: Path) -> Iterator[Step]:
    """A small regressor that learns bodies from single images and 2D labels, by deform-and-learn."""
    raw, dataset = root / "raw" / "h36m", root / "data" / "h36m.h5"
    model = root / "runs" / "deform-and-learn"
    plain, predictions = root / "predictions" / "unrefined.h5", root / "predictions" / "h36m.h5"
    shared: dict[str, Any] = {"force": config.force}
    seeded: dict[str, Any] = {"seed": config.seed, **shared}
    device: dict[str, Any] = {"device": config.device}
    yield (
        "synthesize h36m (to learn from)",
        lambda: synthesize_h36m(
            SynthesizeH36M(
                output=raw,
                subjects=_LEARNING_SUBJECTS,
                actions=_LEARNING_ACTIONS,
                frames=config.learning_frames,
                fps=2.0,
                resolution=250,
                **seeded,
                **device,
            )
        ),
    )
    yield (
        "preprocess h36m (to learn from)",
        lambda: preprocess_h36m(
            PreprocessH36M(raw=raw, output=dataset, train_stride=1, test_stride=1, crop_size=128, **shared)
        ),
    )
    recipe = load_recipe(find_recipe(TrainDeformAndLearn, Path("demo")))
    fixed = {"datasets": (dataset,), "dense": (raw / "dense.h5",), "output": model, "epochs": config.learning_epochs}
    yield (
        "train deform-and-learn",
        lambda: train_deform_and_learn(build_config(TrainDeformAndLearn, {**recipe, **fixed, **seeded, **device})),
    )
    for name, refine, path in (("predict", False, plain), ("predict --refine", True, predictions)):
        yield (
            name,
            lambda refine=refine, path=path: predict(  # type: ignore[misc]
                Predict(
                    dataset=dataset,
                    model=model,
                    split="test",
                    refine=refine,
                    dense=raw / "dense.h5",
                    lifter=model / "lifter" if refine else None,
                    output=path,
                    **seeded,
                    **device,
                )
            ),
        )
    for name, path in (("eval (learned)", plain), ("eval (learned, refined)", predictions)):
        yield (
            name,
            lambda path=path: evaluate(  # type: ignore[misc]
                Evaluate(
                    dataset=dataset,
                    predictions=path,
                    truth=raw / "truth.h5",
                    headings=("predictions",),
                    protocol="deform-and-learn",
                    baseline=True,
                    output=root / "results" / f"{path.stem}.json",
                    **seeded,
                    **device,
                )
            ),
        )
    yield (
        "render predictions",
        lambda: render(Render(dataset=dataset, fits=predictions, output=root / "renders", **shared, **device)),
    )
    yield from _pose_steps(config, root, dataset)


def _pose_steps(config: Demo, root: Path, dataset: Path) -> Iterator[Step]:
    """A small Pose ResNet that learns joints from single images and labels of two views, made without camera poses."""
    labels, model = root / "labels" / "h36m.view3d.h5", root / "runs" / "pose-resnet"
    predictions = root / "predictions" / "joints.h5"
    seeded: dict[str, Any] = {"seed": config.seed, "force": config.force}
    device: dict[str, Any] = {"device": config.device}
    yield (
        "triangulate (pairs of views)",
        lambda: triangulate(
            # Key points as a good detector finds them, in frames of 250 px.
            Triangulate(
                dataset=dataset, output=labels, views="pairs", cameras="intrinsics", noise_px=_DETECTOR_PX, **seeded
            )
        ),
    )
    recipe = load_recipe(find_recipe(TrainPoseResNet, Path("demo")))
    fixed = {
        "dataset": dataset,
        "labels": labels,
        "supervision": "self-2dgt",
        "transfer": False,
        "output": model,
        "epochs": config.pose_epochs,
    }
    yield (
        "train pose-resnet",
        lambda: train_pose_resnet(build_config(TrainPoseResNet, {**recipe, **fixed, **seeded, **device})),
    )
    yield (
        "predict (joints)",
        lambda: predict(
            Predict(
                dataset=dataset,
                model=model,
                split="test",
                perspective="camera",
                output=predictions,
                **seeded,
                **device,
            )
        ),
    )
    yield (
        "eval (learned joints)",
        lambda: evaluate(
            Evaluate(
                dataset=dataset,
                predictions=predictions,
                headings=("predictions",),
                protocol="pose-resnet",
                baseline=True,
                output=root / "results" / "joints.json",
                **seeded,
                **device,
            )
        ),
    )
    yield (
        "render joints",
        lambda: render(
            Render(dataset=dataset, fits=predictions, output=root / "renders" / "joints", force=config.force, **device)
        ),
    )


def _summarize(config: Demo, done: list[tuple[str, float, StageReport]]) -> StageReport:
    metrics = {f"{name}: {metric}": value for name, _, report in done for metric, value in report.metrics.items()}
    summary = {
        "stages": [
            {"name": name, "seconds": round(seconds, 3), "output": str(report.outputs[0]) if report.outputs else ""}
            for name, seconds, report in done
        ],
        "metrics": metrics,
    }
    path = Path(config.output) / "summary.json"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    timing = Table(
        "What was run",
        ["stage", "seconds", "output"],
        [
            [
                name,
                f"{seconds:.1f}",
                "up to date" if report.skipped else str(report.outputs[0] if report.outputs else ""),
            ]
            for name, seconds, report in done
        ],
    )
    return StageReport("demo", [path], metrics=metrics, tables=[_errors(done), timing])


def _errors(done: list[tuple[str, float, StageReport]]) -> Table:
    """Errors of labels, fits and predictions against the studio's ground truth; what was learned is of people not seen."""
    found = {name: report.metrics for name, _, report in done}
    rows = [
        ("joints, known cameras", "eval (known cameras, fits)", "joints3d"),
        ("joints, intrinsics only", "eval (intrinsics only)", "joints3d"),
        ("registered bodies", "eval (known cameras, fits)", "fits"),
        ("mean pose of the training images", "eval (learned)", "mean-pose"),
        ("predicted from one image", "eval (learned)", "predictions"),
        ("the same, refined by correspondences", "eval (learned, refined)", "predictions"),
        ("joints by Pose ResNet, from one image", "eval (learned joints)", "predictions"),
    ]
    metrics = ("mpjpe_mm", "pa_mpjpe_mm", "vertices_per_vertex_reconstruction_mm")
    return Table(
        "Errors against the ground truth (mm)",
        ["of", "MPJPE", "PA-MPJPE", "per vertex"],
        [
            [what, *(_shown(found[stage].get(f"{heading}_{metric}")) for metric in metrics)]
            for what, stage, heading in rows
            if stage in found
        ],
    )


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
