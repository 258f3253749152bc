"""`posekit preprocess mpii`: people of MPII Human Pose with their key points and head sizes to one data set.

Every part (train, val, test) is one row of `sequences`, the number of a picture is its frame, and all pictures share one camera
of unknown pose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import DATASET
from posekit.config.mpii import PreprocessMpii
from posekit.datasets.mpii import (
    PARTS,
    ImageFinder,
    PersonRules,
    Picture,
    Reading,
    Release,
    open_release,
    read_people,
    read_picture,
    shared_camera,
)
from posekit.errors import MissingFileError
from posekit.records import Clip
from posekit.skeleton.catalog import MPII16
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

STAGE = "preprocess mpii"


def preprocess_mpii(config: PreprocessMpii) -> StageReport:
    """Writes the data set; a second run on the same input does nothing.

    Pictures that are missing or damaged are counted and left out. Raises MissingFileError when there is no annotation file
    (with `check`: when any file is missing), FormatError for annotation files that cannot be read, ConfigError for settings
    that they cannot serve, DataError when nobody remains.
    """
    release = open_release(config.raw, config.layout, config.splits)
    if config.check:
        return _check_report(config, release)
    if not release.layout:
        raise MissingFileError(
            f"no annotations of MPII in {config.raw}",
            got=release.problems,
            hint="`posekit preprocess mpii --check` lists every missing file",
        )
    header = _header(config, release)
    if not config.force and is_current(config.output, header):
        return replace(_report(config, release), skipped=True)
    if config.dry_run:
        names = ", ".join(file.name for file in release.files())
        note = f"would read {names} and write {config.output}"
        return StageReport(STAGE, (), notes=(note, *named("raw files", release.problems)))
    _write(config, header, read_people(release, _rules(config)))
    return _report(config, release)


def _rules(config: PreprocessMpii) -> PersonRules:
    return PersonRules(config.people, config.boxes, config.min_keypoints, config.hidden_confidence, config.val_share)


def _header(config: PreprocessMpii, release: Release) -> Header:
    files = [f"{file.relative_to(release.raw).as_posix()}\0{file_digest(file)}" for file in release.files()]
    return Header(
        kind=DATASET.name,
        stage=STAGE,
        settings=config.settings(),
        # Names and sizes stand for the pictures: reading some gigabytes only to find nothing changed takes too long.
        inputs={
            "annotations": listing_digest(files),
            "pictures": listing_digest(ImageFinder(release.raw).listing()),
        },
        skeleton=MPII16,
        facts={
            "raw_root": str(release.raw.resolve()),
            "keypoints": "annotated",
            "stills": True,
            "layout": release.layout,
            "split_rule": release.split_rule,
        },
    )


def _write(config: PreprocessMpii, header: Header, readings: Sequence[Reading]) -> None:
    counts: Counter[str] = Counter()
    for reading in readings:
        counts.update(reading.counts)
        counts["pictures"] += len(reading.pictures)
        counts["pictures_missing"] += len(reading.missing)
        counts[f"people_{reading.part}"] += sum(len(picture.people) for picture in reading.pictures)
    failures = [f"missing: {name}" for reading in readings for name in reading.missing]
    clips = [Clip(reading.part, STILLS_PER_SECOND, split=PARTS[reading.part]) for reading in readings]
    tables = PhotoTables("MPII", [shared_camera()], clips)
    pictures = [reading.pictures for reading in readings]
    write_photographs(config, header, pictures, PhotoReader(read_picture, _head_sizes), tables, (counts, failures))


def _head_sizes(picture: Picture) -> Columns:
    return {"head_px": np.array([person.head_px for person in picture.people])}


def _check_report(config: PreprocessMpii, release: Release) -> StageReport:
    problems, pictures = list(release.problems), 0
    for reading in read_people(release, _rules(config)) if release.layout else ():
        pictures += len(reading.pictures)
        problems += [f"missing: images/{name}" for name in reading.missing]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise MissingFileError(f"{len(problems)} files are missing in {release.raw}:\n{lines}")
    note = f"nothing is missing: {pictures} pictures of {', '.join(release.parts)}; people to validate on: {release.split_rule}"
    return StageReport(STAGE, (), counts={"pictures": pictures}, notes=(note,))


def _report(config: PreprocessMpii, release: Release) -> StageReport:
    with Artifact(config.output, DATASET) as artifact:
        facts = artifact.header.facts
    failures = list(facts["failures"])
    notes = named("raw files", release.problems) + named("pictures left out", failures)
    if "val" in release.parts:
        notes.append(f"people to validate on: {facts['split_rule']}")
    rows = [("files", line) for line in release.problems] + [("pictures", line) for line in failures]
    return StageReport(
        STAGE,
        [config.output],
        counts={name: count for name, count in sorted(facts["counts"].items()) if count or name == "samples"},
        notes=notes,
        tables=(Table("What could not be read", ("kind", "what"), rows),) if rows else (),
    )
