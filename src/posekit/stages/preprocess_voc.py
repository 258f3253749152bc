"""`posekit preprocess voc`: objects cut out of PASCAL VOC 2012, to paste over people."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import OCCLUDERS
from posekit.artifacts.writing import ArtifactWriter
from posekit.config.voc import PreprocessVoc
from posekit.datasets.cutouts import cut_out, encode_cutout
from posekit.datasets.stills import read_still
from posekit.datasets.voc import Release, files_of, masks_of, open_release, read_segments, read_things
from posekit.errors import DataError, FormatError, MissingFileError
from posekit.progress import track
from posekit.stages.report import StageReport, Table

STAGE = "preprocess voc"

_NAMED = 5


@dataclass
class _Found:
    """The objects of one picture, why others were left out, and why the picture cannot be used, if so."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    problem: str = ""


def preprocess_voc(config: PreprocessVoc) -> StageReport:
    """Writes `data/voc.occluders.h5`: one row for every object that is neither a person nor cut off nor tiny.

    Pictures that are missing or damaged are counted and left out. Raises MissingFileError where there is no release (with
    `check`: where any file is missing), DataError where no object remains.
    """
    release = open_release(config.raw)
    if config.check:
        return _check_report(config, release)
    facts: dict[str, Any] = {}
    header = Header(OCCLUDERS.name, STAGE, config.settings(), {"raw": _digest(release)}, facts=facts)
    if not config.force and is_current(config.output, header):
        return _report(config, skipped=True)
    if config.dry_run:
        return StageReport(STAGE, [], notes=[f"would read {len(release.names)} pictures and write {config.output}"])
    left_out: Counter[str] = Counter()
    failures: list[str] = []
    count = 0
    with ArtifactWriter(config.output, header) as writer, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = pool.map(partial(_objects, config, release), release.names)
        for picture in track(found, STAGE, total=len(release.names), unit="picture"):
            left_out += picture.left_out
            failures += [picture.problem] * bool(picture.problem)
            count += len(picture.rows)
            if picture.rows:
                writer.append("objects", {name: [row[name] for row in picture.rows] for name in picture.rows[0]})
        if not count:
            raise DataError(
                f"no object of {release.root} remains", got=dict(left_out) | {"pictures not read": len(failures)}
            )
        facts.update({"left_out": dict(left_out), "failures": failures})
    return _report(config, skipped=False)


def _objects(config: PreprocessVoc, release: Release, name: str) -> _Found:
    annotation, photograph, segments_file = files_of(release.root, name)
    missing = [path for path in (annotation, photograph, segments_file) if not path.is_file()]
    if missing:
        return _Found(problem=f"missing: {missing[0].relative_to(release.root)}")
    try:
        things, segments, picture = read_things(annotation), read_segments(segments_file), read_still(photograph)
    except FormatError as error:
        return _Found(problem=f"broken: {error}")
    if segments.shape != picture.shape[:2]:
        return _Found(problem=f"broken: {name}: segments of {segments.shape}, picture of {picture.shape[:2]}")
    found = _Found()
    for thing, mask in masks_of(segments, things):
        area = int(mask.sum())
        reasons = {
            f"category {thing.category}": thing.category in config.left_out,
            "difficult": thing.difficult and not config.difficult,
            "truncated": thing.truncated and not config.truncated,
            f"fewer than {config.min_area_px} pixels": area < config.min_area_px,
        }
        reason = next((reason for reason, applies in reasons.items() if applies), None)
        if reason is not None:
            found.left_out[reason] += 1
            continue
        cut = cut_out(picture, mask, rim_px=config.rim_px, rim_opacity=config.rim_opacity, shrink=config.shrink)
        found.rows.append(
            {"category": thing.category, "source": name, "area_px": area, "image": encode_cutout(np.asarray(cut))}
        )
    return found


def _digest(release: Release) -> str:
    """Of the annotations, and of the names and sizes of the pictures."""
    sha = hashlib.sha256()
    for name in release.names:
        for path in files_of(release.root, name):
            said = file_digest(path) if path.suffix == ".xml" and path.is_file() else None
            size = path.stat().st_size if path.is_file() else -1
            sha.update(f"{path.name}\0{said or size}\0".encode())
    return sha.hexdigest()


def _check_report(config: PreprocessVoc, release: Release) -> StageReport:
    if release.problems:
        lines = "\n".join(f"  {problem}" for problem in release.problems)
        raise MissingFileError(f"{len(release.problems)} files are missing in {config.raw}:\n{lines}")
    return StageReport(
        STAGE, [], counts={"pictures": len(release.names)}, notes=[f"nothing is missing: {len(release.names)} pictures"]
    )


def _report(config: PreprocessVoc, *, skipped: bool) -> StageReport:
    with Artifact(config.output, OCCLUDERS) as artifact:
        categories = Counter(artifact.read("objects", "category").tolist())
        facts = artifact.header.facts
    failures: Sequence[str] = facts.get("failures", [])
    counts = {"objects": sum(categories.values()), "pictures not read": len(failures)}
    counts |= {f"left out: {reason}": number for reason, number in sorted(facts.get("left_out", {}).items())}
    rest = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
    return StageReport(
        STAGE,
        [config.output],
        skipped=skipped,
        counts={name: number for name, number in counts.items() if number or name == "objects"},
        notes=[f"pictures not read: {'; '.join(failures[:_NAMED])}{rest}"] if failures else [],
        tables=[Table("Objects", ["category", "count"], [[name, str(n)] for name, n in categories.most_common()])],
    )
