"""`posekit preprocess coco`: COCO people with DensePose annotations to one data set and its correspondences.

Every annotation file is one row of `sequences`, the number of a picture is its frame, and all pictures share one camera of
unknown pose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import CORRESPONDENCES, DATASET
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.smpl_file import BodyData, load_body
from posekit.body.surface import SurfaceAtlas, atlas_from_uv_processed, atlas_of
from posekit.config.base import beside
from posekit.config.coco import PreprocessCoco
from posekit.datasets.coco import (
    AnnotationSet,
    ImageFinder,
    PersonRules,
    Reading,
    Release,
    open_release,
    read_annotations,
    read_picture,
    shared_camera,
)
from posekit.errors import FormatError, MissingFileError
from posekit.progress import track
from posekit.records import Clip
from posekit.skeleton.catalog import COCO17
from posekit.stages.photograph_rows import (
    STILLS_PER_SECOND,
    Columns,
    PhotoReader,
    PhotoTables,
    listing_digest,
    named,
    write_photographs,
)
from posekit.stages.report import StageReport, Table

STAGE = "preprocess coco"
DENSE_ENDING = ".dense.h5"


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
        return StageReport(STAGE, (), notes=(note, *named("raw files", release.problems)))
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
    sha = listing_digest([*sorted(f"{name}\0{digest}" for name, digest in digests.items())])
    return Header(
        kind=DATASET.name,
        stage=STAGE,
        settings=config.settings(),
        # Names and sizes stand for the pictures: reading some gigabytes only to find nothing changed takes too long.
        inputs={"annotations": sha, "pictures": listing_digest(ImageFinder(release.raw).listing())},
        skeleton=COCO17,
        facts={"raw_root": str(release.raw.resolve()), "keypoints": "annotated", "stills": True},
    )


def _write_dataset(config: PreprocessCoco, release: Release, readings: Sequence[Reading], header: Header) -> None:
    counts: Counter[str] = Counter()
    for reading in readings:
        counts.update(reading.counts)
        counts["pictures"] += len(reading.pictures)
        counts["pictures_missing"] += len(reading.missing)
    failures = [f"missing: {name}" for reading in readings for name in reading.missing]
    clips = [Clip(part.name, STILLS_PER_SECOND, split=part.split) for part in release.sets]
    sequences = [reading.pictures for reading in readings]
    tables = PhotoTables("COCO", [shared_camera()], clips)
    write_photographs(config, header, sequences, PhotoReader(read_picture), tables, (counts, failures))


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
    notes = named("raw files", release.problems) + named("pictures left out", failures)
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
