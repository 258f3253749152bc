"""`posekit pseudo-label surface`: dense correspondences made from fitted bodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, FITS
from posekit.artifacts.shards import ShardedArtifact
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.base import beside
from posekit.config.pseudo_labels import PseudoLabelSurface
from posekit.errors import ArtifactError, ConfigError, DataError
from posekit.evaluation.predictions import check_same_body
from posekit.labeling.surface_points import SurfacePoints
from posekit.parallel import is_main, my_share, wait_for_all
from posekit.progress import track
from posekit.stages.device import resolve_device
from posekit.stages.fitted_views import FittedViews, SampleFits, fits_of_samples
from posekit.stages.report import StageReport, input_digests, require_same_source
from posekit.threads import side_by_side

STAGE = "pseudo-label surface"

_SHARD_ROWS = 256
"""Also fixes which bodies are posed together; runs of more processes give the same labels."""
_ROWS_READ = 4096


def pseudo_label_surface(config: PseudoLabelSurface) -> StageReport:
    """Writes `labels/NAME.dense.h5`: visible vertices of the fitted body for every sample that has a usable fit.

    Skips work that is there already; a killed run is taken up where it stopped. Under torchrun every process makes its share
    of the shards. Raises InputError for fits of another data set or body, DataError where no sample has a usable fit, and
    ConfigError rather than writing over correspondences that another stage made.
    """
    output = config.output or beside(config.dataset, "labels", ".dense.h5")
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(config.dataset, DATASET))
        fits = stack.enter_context(Artifact(config.fits or beside(config.dataset, "fits", ".h5"), FITS))
        require_same_source(fits, "dataset", dataset)
        device = resolve_device(config.device)
        body = SegmentScaledBody(load_body(config.body)).to(device)
        check_same_body(fits, body)
        header = _header(config, dataset, fits, body)
        samples, left_out = fits_of_samples(dataset, fits, config.max_residual_px)
        if not config.force:
            if is_current(output, header):
                return _report(output, left_out, skipped=True)
            _refuse_others_work(output)
        if not len(samples):
            listed = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
            raise DataError(f"no sample of {config.dataset} has a usable fit", got=listed or "no sample")
        shards = ShardedArtifact(output, header, -(-len(samples) // _SHARD_ROWS))
        pending = list(range(shards.count)) if config.force else shards.pending()
        if config.dry_run:
            note = f"would label {len(samples)} samples in {len(pending)} shards of {_SHARD_ROWS}"
            return StageReport(STAGE, [], counts=_counts(left_out), notes=[note])
        # Nobody begins before all have seen the same shards pending, and nobody goes on before the result is there.
        wait_for_all()
        views = FittedViews(dataset, fits, body)
        chooser = SurfacePoints(body.body, device)
        for index in track(my_share(pending), STAGE, unit="shard"):
            block = samples.select(slice(index * _SHARD_ROWS, (index + 1) * _SHARD_ROWS))
            with shards.writer(index) as writer:
                writer.append("samples", _labels(config, block, views, chooser, device))
        wait_for_all()
        if is_main():
            shards.join({})
        wait_for_all()
    return _report(output, left_out, skipped=False)


def _header(config: PseudoLabelSurface, dataset: Artifact, fits: Artifact, body: SegmentScaledBody) -> Header:
    made = {name: str(fits.header.facts[name]) for name in ("camera", "views") if name in fits.header.facts}
    return Header(
        CORRESPONDENCES.name,
        STAGE,
        settings=config.settings(),
        inputs=input_digests(dataset=dataset, fits=fits) | {"body": body.body.digest},
        seed=config.seed,
        facts={"body_digest": body.body.digest, **made},
    )


def _refuse_others_work(output: Path) -> None:
    """Annotations and detections have the same name; the fits may even have been made from them."""
    if not output.exists():
        return
    try:
        with Artifact(output) as there:
            maker = there.header.stage
    except ArtifactError:
        return
    if maker != STAGE:
        raise ConfigError(
            f"{output} is there already and was not made by this stage",
            got=f"made by {maker}",
            hint="Choose another --output, or write over it with --force",
        )


def _labels(
    config: PseudoLabelSurface, block: SampleFits, views: FittedViews, chooser: SurfacePoints, device: torch.device
) -> dict[str, Any]:
    keys = block.keys
    seen = views.seen(block)

    def label(place: int) -> tuple[np.ndarray, np.ndarray]:
        key = [int(part[place]) for part in (keys.sequence, keys.frame, keys.person, keys.camera)]
        return chooser.choose(seen(place), config.points, np.random.default_rng([config.seed, *key]))

    chosen = side_by_side(label, range(len(keys)), device)
    return {
        "sequence": keys.sequence,
        "frame": keys.frame,
        "person": keys.person,
        "camera": keys.camera,
        "pixels": [pixels for _, pixels in chosen],
        "vertices": [vertices for vertices, _ in chosen],
        "weights": [np.ones(len(vertices)) for vertices, _ in chosen],
    }


def _counts(left_out: Counter[str]) -> dict[str, int]:
    return {f"left out: {reason}": count for reason, count in left_out.most_common()}


def _report(output: Path, left_out: Counter[str], *, skipped: bool) -> StageReport:
    with Artifact(output, CORRESPONDENCES) as labels:
        lengths = np.array(
            [
                len(row)
                for rows in labels.blocks("samples", _ROWS_READ)
                for row in labels.read_ragged("samples", "vertices", rows)
            ]
        )
        facts = labels.header.facts
    unseen = int((lengths == 0).sum())
    counts = {"samples": len(lengths), "points": int(lengths.sum()), **_counts(left_out)}
    notes: Sequence[str] = [f"{unseen} samples show no vertex of their body"] if unseen else []
    made_from = "several calibrated views" if facts.get("views") == "joint" else "one view each"
    notes = [*notes, f"these labels come from bodies that were fitted to {made_from}; say so where results are given"]
    if unseen:
        counts["without a visible vertex"] = unseen
    metrics = {"points_per_sample": float(lengths.mean())}
    return StageReport(STAGE, [output], skipped=skipped, metrics=metrics, counts=counts, notes=notes)
