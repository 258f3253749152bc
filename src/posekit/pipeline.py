"""Stages strung together: `posekit demo` runs all of them on synthetic data."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact
from posekit.artifacts.writing import writing
from posekit.config import (
    Demo,
    Evaluate,
    Export,
    PreprocessH36M,
    Register,
    Render,
    SynthesizeH36M,
    Triangulate,
)
from posekit.stages.evaluate import evaluate
from posekit.stages.export import export
from posekit.stages.preprocess_h36m import preprocess_h36m
from posekit.stages.register import register
from posekit.stages.render import render
from posekit.stages.report import StageReport, Table
from posekit.stages.synthesize import synthesize_h36m
from posekit.stages.triangulate import triangulate

logger = logging.getLogger(__name__)

Step = tuple[str, Callable[[], StageReport]]


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
    raw, dataset = root / "raw" / "h36m", root / "data" / "h36m.h5"
    known = root / "labels" / "h36m.joints3d.h5"
    intrinsics = root / "labels" / "h36m.intrinsics.joints3d.h5"
    fits = root / "fits" / "h36m.h5"
    shared: dict[str, Any] = {"seed": config.seed, "force": config.force}
    device: dict[str, Any] = {"device": config.device}
    noise_px = 2.0  # of the detector that the demo stands in for

    yield (
        "synthesize h36m",
        lambda: synthesize_h36m(
            SynthesizeH36M(output=raw, frames=config.frames, resolution=config.resolution, **shared, **device)
        ),
    )
    yield (
        "preprocess h36m",
        lambda: preprocess_h36m(PreprocessH36M(raw=raw, output=dataset, train_stride=1, test_stride=1, **shared)),
    )
    yield (
        "triangulate (known cameras)",
        lambda: triangulate(Triangulate(dataset=dataset, output=known, noise_px=noise_px, **shared)),
    )
    yield (
        "triangulate (intrinsics only)",
        lambda: triangulate(
            Triangulate(dataset=dataset, output=intrinsics, cameras="intrinsics", noise_px=noise_px, **shared)
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
                **shared,
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
                **shared,
                **device,
            )
        ),
    )
    yield (
        "eval (intrinsics only)",
        lambda: evaluate(
            Evaluate(
                dataset=dataset, joints3d=intrinsics, output=root / "results" / "intrinsics.json", **shared, **device
            )
        ),
    )
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
                    **shared,
                    **device,
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
    tables = [table for name, _, report in done if name.startswith("eval") for table in report.tables]
    return StageReport("demo", [path], metrics=metrics, tables=[*tables, timing])
