"""`posekit pseudo-label masks`: one mask for every person of a data set."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import DATASET, MASKS, TRUTH
from posekit.artifacts.shards import ShardedArtifact
from posekit.config.base import beside
from posekit.config.masks import PseudoLabelMasks
from posekit.datasets.h36m_masks import silhouette_path
from posekit.datasets.media import is_image
from posekit.errors import DataError, InputError, MissingFileError
from posekit.labeling.masks import encode_counts, mask_box_overlap
from posekit.parallel import is_main, my_share, wait_for_all
from posekit.progress import track
from posekit.stages.mask_annotations import AnnotationSource, annotation_files
from posekit.stages.mask_shots import Crops, Originals, Pictures, Shot
from posekit.stages.mask_sources import (
    MaskSource,
    PersonMask,
    PngSource,
    SilhouetteSource,
    TruthSource,
)
from posekit.stages.render_pictures import raw_root
from posekit.stages.report import StageReport, Table, input_digests

STAGE = "pseudo-label masks"

_SHARD_SHOTS = 256
_TRUTH_FILE = "truth.h5"
"""What the studio leaves in its raw folders."""

_NAMED_IN_NOTES = 3
_NO_PICTURE = "the picture or file is missing or broken"


@dataclass
class _Outcome:
    """What became of the people of a shard; kept in the file, so that later runs can report the same."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    overlap: float = 0.0

    def plain(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "failures": self.failures, "overlap": self.overlap}

    def add(self, other: dict[str, Any]) -> None:
        self.counts.update(other["counts"])
        self.failures += other["failures"]
        self.overlap += other["overlap"]


@dataclass(frozen=True)
class _Given:
    """What the masks are made from: the folder of originals or None, files of masks or None, and their digests."""

    root: Path | None
    masks: Path | None
    inputs: dict[str, str]


def pseudo_label_masks(config: PseudoLabelMasks) -> StageReport:
    """Writes `labels/NAME.masks.h5`: a mask of everybody in the data set for whom one is found, in the original image.

    Skips work that is there already; a killed run is taken up where it stopped. Under torchrun every process makes its
    share of the shards. Pictures and files that are missing or broken are counted, and their people flagged. Raises
    InputError for files of masks that do not go with the data set, DependencyError without weights of Mask R-CNN, and
    DataError where nobody has a mask.
    """
    output = config.output or beside(config.dataset, "labels", ".masks.h5")
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(config.dataset, DATASET))
        pictures = Pictures(dataset)
        given = _given(config, dataset, pictures)
        header = Header(
            MASKS.name,
            STAGE,
            settings=config.settings(),
            inputs=input_digests(dataset=dataset) | given.inputs,
            facts={"source": config.source},
        )
        if not config.force and is_current(output, header):
            return _report(output, skipped=True)
        shots = pictures.shots()
        blocks = [shots[at : at + _SHARD_SHOTS] for at in range(0, len(shots), _SHARD_SHOTS)]
        shards = ShardedArtifact(output, header, len(blocks))
        pending = list(range(shards.count)) if config.force else shards.pending()
        if config.dry_run:
            note = (
                f"would give masks to {dataset.rows('samples')} people in {len(shots)} pictures, {len(pending)} shards"
            )
            return StageReport(STAGE, [], notes=[note])
        # Nobody begins before all have seen the same shards pending, and nobody goes on before the result is there.
        wait_for_all()
        source = _source(config, given, pictures, shots, stack)
        for index in track(my_share(pending), STAGE, unit="shard"):
            _write(shards, index, blocks[index], source, pictures)
        wait_for_all()
        if is_main():
            _join(shards, source)
        wait_for_all()
    return _report(output, skipped=False)


def _given(config: PseudoLabelMasks, dataset: Artifact, pictures: Pictures) -> _Given:
    root = raw_root(dataset, config.raw)
    if config.source == "mask-rcnn":
        from posekit.models.mask_rcnn import released_name  # only here: masks from files need no torch

        root = _originals(config, dataset, pictures, root)
        weights = file_digest(config.weights_file) if config.weights_file else released_name(config.network)
        return _Given(root, None, {"weights": weights, "pictures": "crops" if root is None else "originals"})
    masks = config.masks
    if masks is None and config.source != "png" and root is not None:
        masks = root / _TRUTH_FILE if config.source == "truth" else root
    if masks is None or not masks.exists():
        raise MissingFileError(
            f"nothing to read masks from (--source {config.source})",
            got=masks or dataset.header.facts.get("raw_root"),
            hint="Name it with --masks; `posekit pseudo-label masks --help` says what is read",
        )
    return _Given(root, masks, {"masks": _masks_digest(config.source, masks, pictures)})


def _originals(config: PseudoLabelMasks, dataset: Artifact, pictures: Pictures, root: Path | None) -> Path | None:
    """The folder of the original frames, or None where the crops are to be seen."""
    known = root is not None and len(Originals(pictures, root)) > 0
    if config.pictures == "originals" and not known:
        raise MissingFileError(
            "the original frames are not there",
            got=dataset.header.facts.get("raw_root"),
            hint="Name their folder with --raw, or use --pictures crops",
        )
    if known and config.pictures != "crops":
        return root
    if not dataset.has("samples", "image"):
        raise InputError(
            "no pictures to find people in",
            got=f"{dataset.path} without crops, and no original frames at {dataset.header.facts.get('raw_root')}",
            hint="Name the folder of the original frames with --raw",
        )
    return None


def _masks_digest(source: str, masks: Path, pictures: Pictures) -> str:
    if source == "truth":
        with Artifact(masks, TRUTH) as truth:
            return truth.digest
    if source == "coco":
        return _digest(file_digest(file) for file in annotation_files(masks))
    if not masks.is_dir():
        raise InputError("a folder of masks is needed", got=masks)
    # Names and sizes stand for the content: reading gigabytes only to find nothing changed takes too long.
    if source == "png":
        files = [file for file in masks.rglob("*") if is_image(file.name) and file.is_file()]
    else:
        places = (
            silhouette_path(masks, clip.subject, clip.name, camera.name)
            for clip in pictures.clips
            for camera in pictures.cameras
            if camera.session == clip.subject
        )
        files = [place for place in places if place.is_file()]
    if not files:
        raise MissingFileError(
            "no masks there",
            got=masks,
            accepted="pictures (PNG)" if source == "png" else "S1/MySegmentsMat/ground_truth_bs/*.mat",
        )
    return _digest(sorted(f"{file.relative_to(masks).as_posix()}\0{file.stat().st_size}" for file in files))


def _digest(lines: Iterator[str] | Sequence[str]) -> str:
    sha = hashlib.sha256()
    for line in lines:
        sha.update(f"{line}\n".encode())
    return sha.hexdigest()


def _source(
    config: PseudoLabelMasks, given: _Given, pictures: Pictures, shots: Sequence[Shot], stack: ExitStack
) -> MaskSource:
    if given.masks is None:
        return _detector(config, given, pictures)
    if config.source == "truth":
        return TruthSource(pictures, stack.enter_context(Artifact(given.masks, TRUTH)))
    if config.source == "coco":
        return AnnotationSource(pictures, annotation_files(given.masks), shots, config.min_overlap)
    if config.source == "png":
        return PngSource(pictures, given.masks)
    silhouettes = SilhouetteSource(pictures, given.masks)
    stack.callback(silhouettes.close)
    return silhouettes


def _detector(config: PseudoLabelMasks, given: _Given, pictures: Pictures) -> MaskSource:
    from posekit.models.mask_rcnn import MaskDetector  # only here: masks from files need no torch
    from posekit.stages.device import resolve_device
    from posekit.stages.mask_detection import DetectorSource

    detector = MaskDetector(
        config.network,
        config.weights_file,
        min_score=config.min_score,
        image_side=config.image_side,
        device=resolve_device(config.device),
    )
    images = Crops(pictures.dataset) if given.root is None else Originals(pictures, given.root)
    return DetectorSource(images, detector, pictures, batch=config.batch, least_overlap=config.min_overlap)


def _write(shards: ShardedArtifact, index: int, shots: Sequence[Shot], source: MaskSource, pictures: Pictures) -> None:
    outcome = _Outcome()
    with shards.writer(index) as writer:
        for shot, answer in zip(shots, source.find(shots), strict=True):
            if isinstance(answer, InputError):
                outcome.failures.append(f"{pictures.name(shot)}: {answer}")
                outcome.counts["pictures_missing_or_broken"] += 1
                answer = [_NO_PICTURE] * len(shot.rows)
            for person, found in enumerate(answer):
                if isinstance(found, PersonMask):
                    outcome.counts["masks"] += 1
                    outcome.overlap += mask_box_overlap(found.mask, shot.boxes[person])
                else:
                    outcome.counts[f"without: {found}"] += 1
            writer.append("samples", _rows(shot, answer, pictures.camera_size(shot)))
        outcome.counts["samples"] = writer.rows("samples")
        writer.header = replace(shards.header, facts={**shards.header.facts, "outcome": outcome.plain()})


def _rows(shot: Shot, answer: Sequence[PersonMask | str], size: tuple[int, int]) -> dict[str, Any]:
    count = len(shot.rows)
    found = [one if isinstance(one, PersonMask) else None for one in answer]
    return {
        "sequence": np.full(count, shot.sequence),
        "frame": np.full(count, shot.frame),
        "person": shot.people,
        "camera": np.full(count, shot.camera),
        "size": [size if one is None else one.mask.shape for one in found],
        "counts": [np.zeros(0, np.uint8) if one is None else encode_counts(one.mask) for one in found],
        "bbox": [np.full(4, np.nan) if one is None else one.bbox for one in found],
        "score": [0.0 if one is None else one.score for one in found],
        "found": [one is not None for one in found],
    }


def _join(shards: ShardedArtifact, source: MaskSource) -> None:
    outcome = _Outcome()
    for index in range(shards.count):
        with Artifact(shards.part(index)) as shard:
            outcome.add(shard.header.facts["outcome"])
    if isinstance(source, AnnotationSource):
        outcome.counts.update(source.malformed)
    if not outcome.counts["masks"]:
        shutil.rmtree(shards.folder, ignore_errors=True)
        raise DataError(
            "nobody has a mask",
            got=outcome.failures[:_NAMED_IN_NOTES] or {name: count for name, count in outcome.counts.items() if count},
            hint="See docs/methods.md for how masks are found and what files are called",
        )
    header = replace(shards.header, facts={**shards.header.facts, "outcome": outcome.plain()})
    ShardedArtifact(shards.path, header, shards.count).join({})


def _report(output: Path, *, skipped: bool) -> StageReport:
    with Artifact(output, MASKS) as masks:
        header = masks.header
    counts, failures = dict(header.facts["outcome"]["counts"]), list(header.facts["outcome"]["failures"])
    notes = []
    if header.inputs.get("pictures") == "crops":
        notes.append("people were looked for in the stored crops; masks end where those do")
    if failures:
        rest = f"; and {len(failures) - _NAMED_IN_NOTES} more" if len(failures) > _NAMED_IN_NOTES else ""
        notes.append(f"missing or broken: {'; '.join(failures[:_NAMED_IN_NOTES])}{rest}")
    return StageReport(
        STAGE,
        [output],
        skipped=skipped,
        metrics={
            "share_found": counts["masks"] / counts["samples"],
            "overlap_of_masks_and_boxes": header.facts["outcome"]["overlap"] / counts["masks"],
        },
        counts={name: count for name, count in sorted(counts.items()) if count},
        notes=notes,
        tables=(Table("What could not be read", ("kind", "what"), [("pictures", line) for line in failures]),)
        if failures
        else (),
    )
