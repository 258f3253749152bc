"""`posekit preprocess coco`: COCO people with DensePose annotations to one data set and its correspondences.

Every annotation file is one row of `sequences`, the number of a picture is its frame, and all pictures share one camera of
unknown pose. A few hundred pictures are one shard, so that a killed run loses at most the one in work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import CORRESPONDENCES, DATASET
from posekit.artifacts.shards import ShardedArtifact
from posekit.artifacts.writing import ArtifactWriter, update_digest
from posekit.body.smpl_file import BodyData, load_body
from posekit.body.surface import SurfaceAtlas, atlas_from_uv_processed, atlas_of
from posekit.config.base import beside
from posekit.config.coco import PreprocessCoco
from posekit.datasets.coco import (
    AnnotationSet,
    ImageFinder,
    PersonRules,
    Picture,
    Reading,
    Release,
    open_release,
    read_annotations,
    read_picture,
    shared_camera,
)
from posekit.datasets.crops import crop_image, encode_image, square_crop
from posekit.errors import DataError, FormatError, MissingFileError
from posekit.progress import track
from posekit.records import Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import COCO17
from posekit.stages.report import StageReport, Table

STAGE = "preprocess coco"
DENSE_ENDING = ".dense.h5"

_PICTURES_PER_SHARD = 256
_NAMED_IN_NOTES = 5
_STILLS_PER_SECOND = 1.0

Columns = dict[str, Any]


@dataclass(frozen=True)
class _Shard:
    """Consecutive pictures of one sequence."""

    sequence: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class _Charts:
    """What turns DensePose points into vertices: the charts in use and the body that they cover."""

    body: BodyData
    atlas: SurfaceAtlas
    digests: dict[str, str]


def preprocess_coco(config: PreprocessCoco) -> StageReport:
    """Writes the data set and `labels/NAME.dense.h5`; a second run on the same input does nothing.

    Pictures that are missing or damaged are counted and left out. Raises MissingFileError when there is no annotation file
    (with `check`: when any file is missing), FormatError for annotation files that cannot be read, DataError when nobody
    remains.
    """
    release = open_release(config.raw, config.people, config.splits)
    if config.check:
        return _check_report(config, release)
    if not release.sets:
        raise MissingFileError(
            f"no annotations of COCO in {config.raw}",
            got=release.problems,
            hint="`posekit preprocess coco --check` lists every missing file",
        )
    charts = _charts(config, release)
    header = _header(config, release)
    dense_path = beside(config.output, "labels", DENSE_ENDING)
    current = not config.force and is_current(config.output, header)
    if current and (charts is None or is_current(dense_path, _dense_header(config.output, charts))):
        return replace(_report(config, release, charts, dense_path), skipped=True)
    if config.dry_run:
        note = f"would read {', '.join(part.name for part in release.sets)} and write {config.output}"
        return StageReport(STAGE, (), notes=(note, *_named("raw files", release.problems)))
    readings = [read_annotations(release.raw, part, _rules(config)) for part in track(release.sets, "read annotations")]
    if not current:
        _write_dataset(config, release, readings, header)
    if charts is not None:
        _write_dense(config.output, dense_path, readings, charts)
    return _report(config, release, charts, dense_path)


def _rules(config: PreprocessCoco) -> PersonRules:
    return PersonRules(
        config.people,
        config.whole_body,
        config.min_keypoints,
        config.min_box_px,
        config.min_points,
        config.min_parts,
        config.keep_crowds,
        config.hidden_confidence,
        float(config.box_side),
    )


def _charts(config: PreprocessCoco, release: Release) -> _Charts | None:
    """None where nothing says how the charts of the annotations lie on the body at hand."""
    charts_of = release.charts_of()
    if config.uv_data is None and charts_of is None:
        return None
    body = load_body(config.body)
    if config.uv_data is not None:
        atlas = atlas_from_uv_processed(config.uv_data, body)
        return _Charts(body, atlas, {"body": body.digest, "uv_data": file_digest(config.uv_data)})
    if charts_of != body.digest:
        raise FormatError(
            "the DensePose points are in the charts of another body",
            got=f"digest {body.digest[:12]}",
            accepted=str(charts_of)[:12],
            hint="Give the body that the pictures were made with: --body FILE",
        )
    return _Charts(body, atlas_of(body), {"body": body.digest})


def _header(config: PreprocessCoco, release: Release) -> Header:
    digests = {file.relative_to(release.raw).as_posix(): file_digest(file) for file in release.files()}
    sha = _new_digest([*sorted(f"{name}\0{digest}" for name, digest in digests.items())])
    return Header(
        kind=DATASET.name,
        stage=STAGE,
        settings=config.settings(),
        # Names and sizes stand for the pictures: reading some gigabytes only to find nothing changed takes too long.
        inputs={"annotations": sha, "pictures": _new_digest(ImageFinder(release.raw).listing())},
        skeleton=COCO17,
        facts={"raw_root": str(release.raw.resolve()), "keypoints": "annotated", "stills": True},
    )


def _new_digest(lines: Sequence[str]) -> str:
    sha = hashlib.sha256()
    update_digest(sha, np.array(lines, dtype=object))
    return sha.hexdigest()


def _write_dataset(config: PreprocessCoco, release: Release, readings: Sequence[Reading], header: Header) -> None:
    plan = list(_shards(readings))
    shards = ShardedArtifact(config.output, header, len(plan))
    if config.force:
        shutil.rmtree(shards.folder, ignore_errors=True)
    pending = shards.pending()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for index in track(pending, "preprocess", total=len(pending), unit="shard"):
            with ArtifactWriter(shards.part(index), header) as writer:
                failures = []
                for rows in pool.map(partial(_rows, config, plan[index].sequence), plan[index].pictures):
                    if isinstance(rows, str):
                        failures.append(rows)
                    else:
                        writer.append("samples", rows)
                writer.header = replace(header, facts={**header.facts, "failures": failures})
    counts, failures = _outcome(readings, shards)
    if not counts["samples"]:
        shutil.rmtree(shards.folder, ignore_errors=True)
        raise DataError(
            "nobody of COCO remains", got=dict(counts) | {"failures": failures[:_NAMED_IN_NOTES]}, accepted="one person"
        )
    facts = {**header.facts, "counts": dict(counts), "failures": failures}
    clips = [Clip(part.name, _STILLS_PER_SECOND, split=part.split) for part in release.sets]
    tables = {"cameras": camera_columns([shared_camera()]), "sequences": clip_columns(clips)}
    ShardedArtifact(config.output, replace(header, facts=facts), shards.count).join(tables)


def _shards(readings: Sequence[Reading]) -> Iterator[_Shard]:
    for sequence, reading in enumerate(readings):
        there = [picture for picture in reading.pictures if picture.file is not None]
        for begin in range(0, len(there), _PICTURES_PER_SHARD):
            yield _Shard(sequence, tuple(there[begin : begin + _PICTURES_PER_SHARD]))


def _outcome(readings: Iterable[Reading], shards: ShardedArtifact) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter(samples=0)
    failures: list[str] = []
    for reading in readings:
        counts.update(reading.counts)
        counts["pictures"] += len(reading.pictures)
        counts["pictures_missing"] += len(reading.missing)
        failures += [f"missing: {name}" for name in reading.missing]
    for index in range(shards.count):
        with Artifact(shards.part(index)) as shard:
            counts["samples"] += shard.rows("samples")
            counts["pictures_broken"] += len(shard.header.facts["failures"])
            failures += shard.header.facts["failures"]
    return counts, failures


def _rows(config: PreprocessCoco, sequence: int, picture: Picture) -> Columns | str:
    """The rows of a picture, or why there are none."""
    try:
        image = read_picture(picture)
    except (FormatError, MissingFileError) as error:
        return f"broken: {error}"
    people = picture.people
    columns: Columns = {
        "sequence": np.full(len(people), sequence),
        "frame": np.full(len(people), picture.image_id),
        "person": np.array([person.number for person in people]),
        "camera": np.zeros(len(people), dtype=int),
        "bbox": np.stack([person.bbox for person in people]),
        "keypoints2d": np.stack([person.keypoints for person in people]),
    }
    if config.crops:
        maps = [square_crop(person.bbox, config.crop_size, config.crop_margin) for person in people]
        crops = [crop_image(image, crop_from_image, config.crop_size) for crop_from_image in maps]
        columns["image"] = [encode_image(crop, "jpeg", config.jpeg_quality) for crop in crops]
        columns["crop_from_image"] = np.stack(maps)
    return columns


def _dense_header(dataset: Path, charts: _Charts) -> Header:
    with Artifact(dataset, DATASET) as artifact:
        inputs = {"dataset": artifact.digest, **charts.digests}
    return Header(CORRESPONDENCES.name, STAGE, inputs=inputs, facts={"body_digest": charts.body.digest})


def _write_dense(dataset: Path, output: Path, readings: Sequence[Reading], charts: _Charts) -> None:
    """Correspondences of exactly the people that the data set has."""
    with Artifact(dataset, DATASET) as artifact:
        keys = (artifact.read("samples", name).tolist() for name in ("sequence", "frame", "person"))
        kept = set(zip(*keys, strict=True))
    with ArtifactWriter(output, _dense_header(dataset, charts)) as writer:
        for sequence, reading in enumerate(readings):
            for picture in track(reading.pictures, "correspondences", unit="picture"):
                for person in picture.people:
                    if person.dense is None or (sequence, picture.image_id, person.number) not in kept:
                        continue
                    row: Columns = {
                        "sequence": [sequence],
                        "frame": [picture.image_id],
                        "person": [person.number],
                        "camera": [0],
                        "pixels": [person.dense.pixels],
                        "vertices": [person.dense.vertices(charts.atlas)],
                        "weights": [np.ones(len(person.dense))],
                    }
                    writer.append("samples", row)


def _check_report(config: PreprocessCoco, release: Release) -> StageReport:
    problems, pictures = list(release.problems), 0
    for part in release.sets:
        reading = read_annotations(release.raw, part, _rules(config))
        pictures += len(reading.pictures)
        problems += [f"missing: {_folder(part)}/{name}" for name in reading.missing]
    if problems or not release.sets:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise MissingFileError(f"{len(problems)} files are missing in {release.raw}:\n{lines}")
    note = f"nothing is missing: {pictures} pictures of {', '.join(part.name for part in release.sets)}"
    return StageReport(STAGE, (), counts={"pictures": pictures}, notes=(note,))


def _folder(part: AnnotationSet) -> str:
    return part.name.replace("valminusminival", "val")


def _report(config: PreprocessCoco, release: Release, charts: _Charts | None, dense: Path) -> StageReport:
    with Artifact(config.output, DATASET) as artifact:
        facts = artifact.header.facts
    failures = list(facts["failures"])
    notes = _named("raw files", release.problems) + _named("pictures left out", failures)
    outputs = [config.output]
    if charts is None:
        notes.append(
            "no correspondences were written: the annotations are in DensePose's own charts; give them with --uv-data "
            "UV_Processed.mat and a body of SMPL's topology with --body"
        )
    else:
        outputs.append(dense)
    rows = [("files", line) for line in release.problems] + [("pictures", line) for line in failures]
    return StageReport(
        STAGE,
        outputs,
        counts={name: count for name, count in sorted(facts["counts"].items()) if count or name == "samples"},
        notes=notes,
        tables=(Table("What could not be read", ("kind", "what"), rows),) if rows else (),
    )


def _named(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    rest = f"; and {len(items) - _NAMED_IN_NOTES} more" if len(items) > _NAMED_IN_NOTES else ""
    return [f"{what}: {'; '.join(items[:_NAMED_IN_NOTES])}{rest}"]
