"""`posekit preprocess lsp`: LSP, LSP-extended and the segmentations of UPi-S1h to one data set and its segments.

The halves of LSP and all of LSP-extended are one row of `sequences` each, the number of a picture is its frame, and all
pictures share one camera of unknown pose. A few hundred pictures are one shard.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import DATASET, SEGMENTS
from posekit.artifacts.shards import ShardedArtifact
from posekit.artifacts.writing import ArtifactWriter, update_digest
from posekit.config.base import beside
from posekit.config.lsp import PreprocessLSP
from posekit.datasets.crops import crop_image, encode_image, square_crop
from posekit.datasets.lsp import (
    UPI_FROM,
    PartOrder,
    PictureSet,
    Release,
    better_order,
    in_upi_order,
    open_release,
    read_mask,
    read_parts,
    shared_camera,
    votes_for_order,
)
from posekit.datasets.stills import read_still
from posekit.errors import DataError, FormatError, MissingFileError
from posekit.progress import track
from posekit.records import Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import LSP14
from posekit.stages.report import StageReport, Table

STAGE = "preprocess lsp"
SEGMENTS_ENDING = ".segments.h5"

_PICTURES_PER_SHARD = 256
_NAMED_IN_NOTES = 5
_STILLS_PER_SECOND = 1.0
_FEW_JOINTS = "few joints"

Columns = dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Sequence:
    """Pictures of one row of `sequences`."""

    source: PictureSet
    clip: Clip
    numbers: range


@dataclass(frozen=True, eq=False)
class _Picture:
    """One picture of the sequence of that row."""

    sequence: int
    source: PictureSet
    number: int


def preprocess_lsp(config: PreprocessLSP) -> StageReport:
    """Writes the data set and, where there are segmentations, `labels/NAME.segments.h5`; a second run does nothing.

    Pictures that are missing or damaged are counted and left out. Raises MissingFileError when there is no data set (with
    `check`: when any file is missing), FormatError for joints that cannot be read, DataError when nobody remains.
    """
    release = open_release(config.raw, config.sets)
    if config.check:
        return _check_report(release)
    if not release.sets:
        raise MissingFileError(
            f"no joints of LSP in {config.raw}",
            got=release.problems,
            hint="`posekit preprocess lsp --check` lists every missing file",
        )
    header = _header(config, release)
    segments = beside(config.output, "labels", SEGMENTS_ENDING)
    current = not config.force and is_current(config.output, header)
    if current and (not _has_segments(release) or is_current(segments, _segments_header(config))):
        return replace(_report(config, release, segments), skipped=True)
    if config.dry_run:
        note = f"would read {', '.join(part.name for part in release.sets)} and write {config.output}"
        return StageReport(STAGE, (), notes=(note, *_named("raw files", release.problems)))
    if not current:
        _write_dataset(config, release, header)
    if _has_segments(release):
        _write_segments(config, release, segments)
    return _report(config, release, segments)


def _has_segments(release: Release) -> bool:
    return any(part.segments is not None for part in release.sets)


def _header(config: PreprocessLSP, release: Release) -> Header:
    sha = hashlib.sha256()
    # Names and sizes stand for the pictures, which need not be read to find that nothing changed.
    update_digest(sha, np.array(release.listing(), dtype=object))
    joints = {f"joints of {part.name}": file_digest(part.folder / "joints.mat") for part in release.sets}
    facts = {"raw_root": str(release.raw.resolve()), "keypoints": "annotated", "stills": True}
    inputs = {"pictures": sha.hexdigest(), **joints}
    return Header(DATASET.name, STAGE, settings=config.settings(), inputs=inputs, skeleton=LSP14, facts=facts)


def _sequences(release: Release) -> list[_Sequence]:
    return [
        _Sequence(part, Clip(name, _STILLS_PER_SECOND, split=split), numbers)
        for part in release.sets
        for name, split, numbers in part.clips()
    ]


def _pictures(release: Release) -> Iterator[_Picture]:
    for row, sequence in enumerate(_sequences(release)):
        for number in sequence.numbers:
            yield _Picture(row, sequence.source, number)


def _write_dataset(config: PreprocessLSP, release: Release, header: Header) -> None:
    pictures = list(_pictures(release))
    plan = [pictures[begin : begin + _PICTURES_PER_SHARD] for begin in range(0, len(pictures), _PICTURES_PER_SHARD)]
    shards = ShardedArtifact(config.output, header, len(plan))
    if config.force:
        shutil.rmtree(shards.folder, ignore_errors=True)
    pending = shards.pending()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for index in track(pending, "preprocess", total=len(pending), unit="shard"):
            with ArtifactWriter(shards.part(index), header) as writer:
                failures = []
                for row in pool.map(partial(_row, config), plan[index]):
                    if isinstance(row, str):
                        failures.append(row)
                    else:
                        writer.append("samples", row)
                writer.header = replace(header, facts={**header.facts, "failures": failures})
    counts, failures = _outcome(shards)
    counts["pictures"] = len(pictures)
    if not counts["samples"]:
        shutil.rmtree(shards.folder, ignore_errors=True)
        raise DataError("nobody of LSP remains", got=failures[:_NAMED_IN_NOTES], accepted="one person")
    facts = {**header.facts, "counts": dict(counts), "failures": failures}
    tables = {
        "cameras": camera_columns([shared_camera()]),
        "sequences": clip_columns([sequence.clip for sequence in _sequences(release)]),
    }
    ShardedArtifact(config.output, replace(header, facts=facts), shards.count).join(tables)


def _outcome(shards: ShardedArtifact) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter(samples=0)
    failures: list[str] = []
    for index in range(shards.count):
        with Artifact(shards.part(index)) as shard:
            counts["samples"] += shard.rows("samples")
            for line in shard.header.facts["failures"]:
                counts["left_out_few_joints" if line.endswith(_FEW_JOINTS) else "pictures_broken"] += 1
                failures.append(line)
    return counts, failures


def _row(config: PreprocessLSP, picture: _Picture) -> Columns | str:
    """The row of a picture, or why there is none."""
    joints = _joints(config, picture)
    places = joints[joints[:, 2] > 0, :2]
    path = picture.source.image(picture.number)
    if len(places) < config.min_joints or not (places.max(axis=0) > places.min(axis=0)).any():
        return f"{path.name} of {picture.source.name}: {_FEW_JOINTS}"
    try:
        image = read_still(path)
    except (FormatError, MissingFileError) as error:
        return f"broken: {error}"
    hidden = picture.source.hidden[picture.number - 1]
    joints[hidden & (joints[:, 2] > 0), 2] = config.hidden_confidence
    box = np.concatenate([places.min(axis=0), places.max(axis=0)])
    columns: Columns = {
        "sequence": [picture.sequence],
        "frame": [picture.number],
        "person": [0],
        "camera": [0],
        "bbox": box[None],
        "keypoints2d": joints[None],
    }
    if config.crops:
        crop_from_image = square_crop(box, config.crop_size, config.crop_margin)
        crop = crop_image(image, crop_from_image, config.crop_size)
        columns["image"] = [encode_image(crop, "jpeg", config.jpeg_quality)]
        columns["crop_from_image"] = crop_from_image[None]
    return columns


def _joints(config: PreprocessLSP, picture: _Picture) -> Float[np.ndarray, "14 3"]:
    """Joints in the package's pixels."""
    joints = picture.source.joints[picture.number - 1].copy()
    joints[:, :2] -= float(config.pixel_origin)
    return joints


def _segments_header(config: PreprocessLSP) -> Header:
    with Artifact(config.output, DATASET) as dataset:
        inputs = {"dataset": dataset.digest}
    # What segmentations are there is part of the data set's own inputs.
    return Header(SEGMENTS.name, STAGE, {"part_order": config.part_order}, inputs)


def _write_segments(config: PreprocessLSP, release: Release, output: Path) -> None:
    order, votes = _part_order(config, release)
    counts: Counter[str] = Counter(masks=0, parts=0)
    failures: list[str] = []
    with Artifact(config.output, DATASET) as dataset:
        rows = (dataset.read("samples", name).tolist() for name in ("sequence", "frame"))
        kept = set(zip(*rows, strict=True))
    with ArtifactWriter(output, _segments_header(config)) as writer:
        for picture in track(list(_pictures(release)), "segments", unit="picture"):
            if (picture.sequence, picture.number) in kept:
                _append_segments(picture, order, writer, counts, failures)
        facts = {"part_order": order, "votes": votes, "counts": dict(counts), "failures": failures}
        writer.header = replace(writer.header, facts=facts)


def _append_segments(
    picture: _Picture, order: PartOrder, writer: ArtifactWriter, counts: Counter[str], failures: list[str]
) -> None:
    mask_file, parts_file = picture.source.mask(picture.number), picture.source.parts(picture.number)
    if mask_file is None and parts_file is None:
        return
    size = _size(picture)
    mask = parts = np.zeros(0, np.uint8)
    try:
        if mask_file is not None:
            mask = _png(read_mask(mask_file, size) * np.uint8(255))
            counts["masks"] += 1
        if parts_file is not None:
            parts = _png(in_upi_order(read_parts(parts_file, size), order))
            counts["parts"] += 1
    except FormatError as error:
        failures.append(f"broken: {error}")
        counts["segmentations_broken"] += 1
    if len(mask) or len(parts):
        key = {"sequence": [picture.sequence], "frame": [picture.number], "person": [0], "camera": [0]}
        writer.append("samples", {**key, "size": [size], "mask": [mask], "parts": [parts]})


def _size(picture: _Picture) -> tuple[int, int]:
    height, width = read_still(picture.source.image(picture.number)).shape[:2]
    return height, width


def _png(labels: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imencode(".png", labels)[1]).reshape(-1)


def _part_order(config: PreprocessLSP, release: Release) -> tuple[PartOrder, dict[str, int]]:
    """The order of the numbers of the parts, and how many joints speak for each."""
    votes: Counter[PartOrder] = Counter(dict.fromkeys(UPI_FROM, 0))
    for picture in _pictures(release):
        path = picture.source.parts(picture.number)
        try:
            if path is not None:
                votes.update(votes_for_order(read_parts(path, _size(picture)), _joints(config, picture)))
        except (FormatError, MissingFileError):
            continue  # counted where segmentations are written
    if config.part_order != "auto":
        return config.part_order, {str(name): count for name, count in votes.items()}
    return better_order(votes), {str(name): count for name, count in votes.items()}


def _check_report(release: Release) -> StageReport:
    problems, pictures, segments = list(release.problems), 0, 0
    for picture in _pictures(release):
        path = picture.source.image(picture.number)
        pictures += 1
        segments += picture.source.mask(picture.number) is not None
        if not path.is_file():
            problems.append(f"missing: {path.relative_to(release.raw).as_posix()}")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise MissingFileError(f"{len(problems)} files are missing in {release.raw}:\n{lines}")
    note = f"nothing is missing: {pictures} pictures, {segments} with a segmentation"
    return StageReport(STAGE, (), counts={"pictures": pictures, "with_segmentation": segments}, notes=(note,))


def _report(config: PreprocessLSP, release: Release, segments: Path) -> StageReport:
    with Artifact(config.output, DATASET) as artifact:
        facts = artifact.header.facts
    failures, counts = list(facts["failures"]), dict(facts["counts"])
    notes = _named("raw files", release.problems)
    outputs = [config.output]
    if _has_segments(release):
        with Artifact(segments, SEGMENTS) as artifact:
            found = artifact.header.facts
        outputs.append(segments)
        counts |= found["counts"]
        failures += found["failures"]
        if found["votes"]["upi-s1h"] != found["votes"]["rendered"]:
            better = max(found["votes"], key=lambda name: int(found["votes"][name]))
            if better != "upi-s1h" or better != found["part_order"]:
                notes.append(
                    f"the joints lie in the parts as numbered in the order `{better}` (votes: {found['votes']}); the order "
                    f"taken is `{found['part_order']}`"
                )
    notes += _named("left out", failures)
    rows = [("files", line) for line in release.problems] + [("pictures", line) for line in failures]
    return StageReport(
        STAGE,
        outputs,
        counts=dict(sorted(counts.items())),
        notes=notes,
        tables=(Table("What could not be read", ("kind", "what"), rows),) if rows else (),
    )


def _named(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    rest = f"; and {len(items) - _NAMED_IN_NOTES} more" if len(items) > _NAMED_IN_NOTES else ""
    return [f"{what}: {'; '.join(items[:_NAMED_IN_NOTES])}{rest}"]
