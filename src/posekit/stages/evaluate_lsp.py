"""`posekit eval lsp`: silhouettes and six parts of fitted bodies against the segmentations of UPi-S1h.

Bodies are drawn over the whole original image at its own size, so nothing has to be pasted back from a crop.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, FITS, SEGMENTS
from posekit.atomic import replacing
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.body.surface import COARSE_6_NAMES, six_parts_of
from posekit.config.base import beside
from posekit.config.lsp import EvaluateLSP
from posekit.errors import DataError, InputError
from posekit.evaluation.comparison import Resampling
from posekit.evaluation.keys import Keys
from posekit.evaluation.predictions import FitViews, check_same_body
from posekit.evaluation.report import shown_number
from posekit.evaluation.segmentation import MASK_NAMES, mask_counts, part_counts, summarize_counts
from posekit.progress import track
from posekit.records import cameras_from_columns
from posekit.registration.posing import posed_bodies
from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.topology import MeshTopology
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport, Table, earlier_result, input_digests, optional_input, require_same_source

STAGE = "eval lsp"

_SAMPLES_AT_ONCE = 64
_LOW_COVERAGE = 0.95
_PROTOCOL = {
    "name": "lsp-upi-s1h",
    "title": "LSP, silhouettes and six parts of UPi-S1h as in HMR and SPIN",
    "image": "bodies drawn over the whole original image",
    "accumulation": "pixels of all images are added up before ratios are taken",
    "fg_bg_accuracy": "pixels where predicted and true foreground agree, of all pixels",
    "fg_bg_f1": "2TP / (2TP + FP + FN), mean over background and foreground",
    "part_accuracy": "equal pixels of all pixels in 7 classes, undecided pixels of the truth (255) taken as background",
    "part_f1": "mean over the 7 classes with background, predictions on undecided pixels taken back",
    "classes": list(COARSE_6_NAMES),
}


def evaluate_lsp(config: EvaluateLSP) -> StageReport:
    """Writes `results/NAME.json` with the figures and the whole protocol; skips the work when that is there already.

    Raises InputError when there is nothing to evaluate, MissingFileError without segmentations, and DataError when no
    picture has both a usable fit and a segmentation.
    """
    output = config.output or beside(config.dataset, "results", ".json")
    with ExitStack() as stack:
        inputs = _open_inputs(config, stack)
        evaluated = inputs.evaluated
        digests = input_digests(dataset=inputs.dataset, segments=inputs.segments, **evaluated)
        header = Header("result", STAGE, config.settings(), digests, seed=config.seed)
        earlier = None if config.force else earlier_result(output, header, "protocol")
        if earlier is not None:
            return _report(output, earlier, skipped=True)
        if config.dry_run:
            note = f"would compare {' and '.join(evaluated)} with the segmentations of {config.dataset.name}"
            return StageReport(STAGE, [], notes=[note])
        body = SegmentScaledBody(load_body(config.body)).to(resolve_device(config.device))
        results = {heading: _measured(config, inputs, heading, body) for heading in evaluated}
    result = {
        "stage": STAGE,
        "posekit_version": header.version,
        "fingerprint": header.fingerprint(),
        "dataset": config.dataset.name,
        "inputs": dict(header.inputs),
        "settings": dict(header.settings),
        "seed": config.seed,
        "protocol": {**_PROTOCOL, "split": config.split},
        "results": results,
    }
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return _report(output, result, skipped=False)


@dataclass(frozen=True)
class _Inputs:
    """What is opened: the data set, its true segmentations, and what is evaluated, by heading."""

    dataset: Artifact
    segments: Artifact
    evaluated: Mapping[str, Artifact]


def _open_inputs(config: EvaluateLSP, stack: ExitStack) -> _Inputs:
    dataset = stack.enter_context(Artifact(config.dataset, DATASET))
    path = config.segments or beside(config.dataset, "labels", ".segments.h5")
    if not path.exists():
        raise InputError(
            "no true segmentations",
            got=path,
            hint="Put those of UPi-S1h below the raw folder and run `posekit preprocess lsp` again",
        )
    segments = stack.enter_context(Artifact(path, SEGMENTS))
    require_same_source(segments, "dataset", dataset)
    paths = {
        "predictions": optional_input(config.predictions, beside(config.dataset, "predictions", ".h5")),
        "fits": optional_input(config.fits, beside(config.dataset, "fits", ".h5")),
    }
    evaluated = {}
    for heading, found in paths.items():
        if found is not None and (not config.headings or heading in config.headings):
            evaluated[heading] = stack.enter_context(Artifact(found, FITS))
            require_same_source(evaluated[heading], "dataset", dataset)
    if not evaluated:
        raise InputError(
            "nothing to evaluate",
            got=f"neither fits nor predictions of {config.dataset}",
            hint="Run `posekit register` or `predict` first, or name a file with --fits or --predictions",
        )
    return _Inputs(dataset, segments, evaluated)


class PartPainter:
    """Draws fitted bodies as images of their six parts."""

    def __init__(self, dataset: Artifact, fits: Artifact, body: SegmentScaledBody) -> None:
        check_same_body(fits, body)
        self._fits, self._body = fits, body
        self._views = FitViews(fits, cameras_from_columns(dataset.table("cameras")))
        device = body.template.device
        self._topology = MeshTopology.from_faces(torch.from_numpy(body.body.faces)).to(device)
        self._parts = torch.from_numpy(six_parts_of(body.body)).to(device)

    def reasons(self, keys: Keys) -> np.ndarray:
        """Why each sample has no usable fit, or empty."""
        return self._views.find(keys).reason

    @torch.no_grad()
    def paint(self, keys: Keys, sizes: Int[np.ndarray, "N 2"]) -> list[UInt8[np.ndarray, "H W"]]:
        """For each sample the part (1 to 6, 0: background) seen in every pixel of an image of that height and width."""
        found = self._views.find(keys)
        table = self._fits.table("fits", found.rows)
        points = posed_bodies(table, self._body).points.double().cpu().numpy()
        maps: dict[str, np.ndarray] = {name: table[name] for name in ("scale", "crop_from_image") if name in table}
        metric, pixels = self._views.seen(points, maps, found.weak, keys.camera)
        screen = torch.from_numpy(np.concatenate([pixels, metric[..., 2:]], axis=-1)).float()
        images = []
        for row, (height, width) in enumerate(sizes.tolist()):
            settings = RasterSettings(perspective=not bool(found.weak[row]))
            view = screen[row : row + 1].to(self._parts.device)
            fragments = rasterize(view, self._topology, (height, width), settings)
            parts = fragments.image(self._parts[fragments.faces][:, None].float())[0, :, :, 0]
            images.append(parts.to(torch.uint8).cpu().numpy())
        return images


def _measured(config: EvaluateLSP, inputs: _Inputs, heading: str, body: SegmentScaledBody) -> dict[str, Any]:
    painter = PartPainter(inputs.dataset, inputs.evaluated[heading], body)
    splits = inputs.dataset.read("sequences", "split").astype(str)
    masks: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    skipped: Counter[str] = Counter()
    rows_of = inputs.segments.blocks("samples", _SAMPLES_AT_ONCE)
    total = -(-inputs.segments.rows("samples") // _SAMPLES_AT_ONCE)
    for rows in track(rows_of, f"eval {heading}", total=total, unit="block"):
        keys = Keys.read(inputs.segments, "samples", rows)
        reasons = painter.reasons(keys)
        inside = np.isin(splits[keys.sequence], [config.split]) | (config.split == "all")
        skipped.update(str(reason) for reason in reasons[inside & (reasons != "")])
        good = np.flatnonzero(inside & (reasons == ""))
        images = painter.paint(keys.at(good), inputs.segments.read("samples", "size", rows)[good]) if len(good) else []
        true_masks, true_parts = (inputs.segments.read_ragged("samples", name, rows) for name in ("mask", "parts"))
        for row, image in zip(good, images, strict=True):
            if len(true_masks[row]):
                masks.append(mask_counts(image, _decoded(true_masks[row])))
            if len(true_parts[row]):
                parts.append(part_counts(image, _decoded(true_parts[row])))
    if not masks and not parts:
        raise DataError(
            f"nothing of {heading} can be evaluated",
            got=[f"{count} x {reason}" for reason, count in skipped.most_common()],
            accepted=f"a usable fit of a picture of the split {config.split} with a segmentation",
        )
    resampling = Resampling(config.bootstrap, config.seed)
    metrics: dict[str, Any] = {}
    if masks:
        metrics |= summarize_counts(np.stack(masks), MASK_NAMES, resampling).to_dict("fg_bg")
    if parts:
        metrics |= summarize_counts(np.stack(parts), COARSE_6_NAMES, resampling).to_dict("part")
    evaluated = max(len(masks), len(parts))
    return {"evaluated": evaluated, "skipped": dict(sorted(skipped.items())), "metrics": metrics}


def _decoded(encoded: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _report(output: Path, result: Mapping[str, Any], *, skipped: bool) -> StageReport:
    metrics: dict[str, float] = {}
    counts: dict[str, int] = {}
    notes, tables = [], []
    for heading, part in result["results"].items():
        rows = []
        for name, metric in part["metrics"].items():
            metrics[f"{heading}_{name}" + ("_percent" if metric["unit"] == "%" else "")] = metric["mean"]
            low_high = metric["interval_95"]
            digits = shown_number if metric["unit"] == "%" else _ratio
            interval = "" if low_high is None else f"{digits(low_high[0])} to {digits(low_high[1])}"
            rows.append([name, digits(metric["mean"]), interval, metric["unit"], str(metric["samples"])])
        tables.append(
            Table(f"{heading}, {_PROTOCOL['title']}", ("metric", "value", "95 % interval", "unit", "images"), rows)
        )
        counts[f"{heading}: evaluated"] = part["evaluated"]
        counts |= {f"{heading}: {reason}": count for reason, count in part["skipped"].items()}
        left_out = sum(part["skipped"].values())
        if part["evaluated"] < _LOW_COVERAGE * (part["evaluated"] + left_out):
            notes.append(f"{heading}: {left_out} pictures were left out; the figures do not speak for them.")
    return StageReport(STAGE, [output], skipped=skipped, metrics=metrics, counts=counts, notes=notes, tables=tables)


def _ratio(value: float) -> str:
    return f"{value:.3f}"
