"""`posekit preprocess 3dpw`: 3DPW to one data set, with the bodies as its truth and the release's 2D detections.

Every sequence file is one row of `sequences` and one camera; the camera moves, so its own frame at each instant is the
world. The joints are those that Human3.6M's regressor finds on the bodies of the release. A sequence is a shard, so that a
killed run loses at most the one in work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest, files_digest
from posekit.artifacts.schema import DATASET, KEYPOINTS, TRUTH
from posekit.artifacts.shards import ShardedArtifact
from posekit.artifacts.writing import ArtifactWriter, update_digest
from posekit.body.gendered import digests_of, load_gendered
from posekit.config.base import beside
from posekit.config.threedpw import Preprocess3DPW
from posekit.datasets.threedpw import (
    FPS,
    Release,
    Sequence3DPW,
    SequenceFile,
    missing_pictures,
    open_release,
    read_sequence,
    seen_joints,
)
from posekit.errors import DataError, FormatError, MissingFileError, UnsafeFileError
from posekit.progress import track
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import COCO18, H36M17
from posekit.stages.report import StageReport, Table
from posekit.stages.threedpw_rows import Outcome, ReleaseBodies, SequenceRows, chosen_frames

STAGE = "preprocess 3dpw"
TRUTH_ENDING = ".truth.h5"
KEYPOINTS_ENDING = ".keypoints.h5"

_NAMED_IN_NOTES = 5
_SAME_BODY_MM = 5.0
"""Bodies of the release have its joints within rounding; those of another model are centimetres off."""
_WORLD = "the frame of the camera at each instant"


@dataclass(frozen=True)
class _Work:
    """What is made from what, and where."""

    config: Preprocess3DPW
    release: Release
    bodies: ReleaseBodies
    body_digests: dict[str, str]
    header: Header

    @property
    def truth(self) -> Path:
        return beside(self.config.output, "labels", TRUTH_ENDING)

    @property
    def keypoints(self) -> Path:
        return beside(self.config.output, "labels", KEYPOINTS_ENDING)

    def label_headers(self) -> tuple[Header, Header]:
        """Of the truth and of the key points of the data set that is there."""
        with Artifact(self.config.output, DATASET) as dataset:
            inputs = {"dataset": dataset.digest}
        settings = {"stride": self.config.stride}
        facts = {"bodies": self.body_digests, "world": _WORLD}
        truth = Header(TRUTH.name, STAGE, settings, {**inputs, **self.body_digests}, facts=facts)
        found = {"made_by": "the release (OpenPose, COCO model)"}
        return truth, Header(KEYPOINTS.name, STAGE, settings, inputs, skeleton=COCO18, facts=found)

    def labels_are_current(self) -> bool:
        truth, keypoints = self.label_headers()
        return is_current(self.truth, truth) and is_current(self.keypoints, keypoints)


def preprocess_3dpw(config: Preprocess3DPW) -> StageReport:
    """Writes the data set, `labels/NAME.truth.h5` and `labels/NAME.keypoints.h5`; a second run does nothing.

    Sequences and pictures that are missing or damaged are counted and left out. Raises MissingFileError when there is no
    sequence (with `check`: when any file is missing), UnsafeFileError for a pickle that asks for code to be run,
    InputError for a body without a regressor of Human3.6M's joints, DataError when nobody remains.
    """
    release = open_release(config.raw, config.splits)
    if config.check:
        return _check_report(release)
    if not release.files:
        raise MissingFileError(
            f"no sequences of 3DPW in {config.raw}",
            got=release.problems,
            hint="`posekit preprocess 3dpw --check` lists every missing file",
        )
    bodies = load_gendered(config.body, config.body_male, config.body_female)
    models = ReleaseBodies(bodies, config.regressor, torch.device("cpu"))
    work = _Work(config, release, models, digests_of(bodies), _header(config, release, digests_of(bodies)))
    current = not config.force and is_current(config.output, work.header)
    if current and work.labels_are_current():
        return replace(_report(work), skipped=True)
    if config.dry_run:
        note = f"would read {len(release.files)} sequences and write {config.output}"
        return StageReport(STAGE, (), notes=(note, *_named("raw files", release.problems)))
    if not current:
        _write_dataset(work)
    _write_labels(work)
    return _report(work)


def _header(config: Preprocess3DPW, release: Release, bodies: dict[str, str]) -> Header:
    inputs = {"sequences": files_digest([file.path for file in release.files], release.raw), **bodies}
    if config.crops:
        # Names and sizes stand for the pictures: reading some gigabytes only to find nothing changed takes too long.
        sha = hashlib.sha256()
        update_digest(sha, np.array(release.listing(), dtype=object))
        inputs["pictures"] = sha.hexdigest()
    if config.regressor is not None:
        inputs["regressor"] = file_digest(config.regressor)
    facts = {
        "raw_root": str(release.raw.resolve()),
        "keypoints": "projected ground truth",
        "joints3d": "Human3.6M's regressor on the bodies of the release",
        "bodies": bodies,
        "world": _WORLD,
    }
    return Header(DATASET.name, STAGE, settings=config.settings(), inputs=inputs, skeleton=H36M17, facts=facts)


def _write_dataset(work: _Work) -> None:
    config, files = work.config, work.release.files
    shards = ShardedArtifact(config.output, work.header, len(files))
    if config.force:
        shutil.rmtree(shards.folder, ignore_errors=True)
    pending = shards.pending()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for index in track(pending, "preprocess", total=len(pending), unit="sequence"):
            with ArtifactWriter(shards.part(index), work.header) as writer:
                outcome = _write_sequence(work, index, writer, pool)
                writer.header = replace(work.header, facts={**work.header.facts, "outcome": outcome.plain()})
    outcome = _outcome(shards)
    if not outcome.counts["samples"]:
        shutil.rmtree(shards.folder, ignore_errors=True)
        raise DataError(
            "nobody of 3DPW remains",
            got=[*outcome.failures[:_NAMED_IN_NOTES], *(f"{n} x {why}" for why, n in outcome.counts.items())],
            accepted="one person",
        )
    facts = {
        **work.header.facts,
        **outcome.plain(),
        "parts": {file.name: file.part for file in files},
    }
    ShardedArtifact(config.output, replace(work.header, facts=facts), shards.count).join({})


def _write_sequence(work: _Work, index: int, writer: ArtifactWriter, pool: ThreadPoolExecutor) -> Outcome:
    """One shard: the rows of a sequence of every table, so that joining the shards numbers sequences as their files."""
    file = work.release.files[index]
    writer.append("sequences", clip_columns([Clip(file.name, FPS, split=file.split)]))
    sequence = _readable(file)
    if isinstance(sequence, str):
        # The row keeps the numbers of the other sequences what they are.
        writer.append("cameras", camera_columns([_no_camera(file.name)]))
        return Outcome(failures=[sequence])
    camera = sequence.camera(sequence.size())
    writer.append("cameras", camera_columns([camera]))
    folder = work.release.folder(file.name).relative_to(work.release.raw).as_posix()
    writer.append("videos", {"sequence": [index], "camera": [index], "path": [folder], "frames": [len(sequence)]})
    rows = SequenceRows(work.config, work.release, work.bodies, sequence, index)
    for columns in rows.blocks(pool):
        writer.append("samples", columns)
    return rows.outcome


def _no_camera(name: str) -> Camera:
    return Camera(name, 0, 0, np.eye(3), session=name, posed=False)


def _readable(file: SequenceFile) -> Sequence3DPW | str:
    """A sequence, or why it cannot be read. A pickle that would run code is no damage, and ends the work."""
    try:
        return read_sequence(file)
    except UnsafeFileError:
        raise
    except FormatError as error:
        return f"broken: {error}"


def _outcome(shards: ShardedArtifact) -> Outcome:
    outcome = Outcome()
    for index in range(shards.count):
        with Artifact(shards.part(index)) as shard:
            outcome.add(shard.header.facts["outcome"])
    return outcome


def _write_labels(work: _Work) -> None:
    """The bodies and the 2D detections of everybody whose camera is trusted."""
    truth, keypoints = work.label_headers()
    with Artifact(work.config.output, DATASET) as dataset:
        tables = {name: dataset.table(name) for name in ("cameras", "sequences")}
    with ArtifactWriter(work.truth, truth) as bodies, ArtifactWriter(work.keypoints, keypoints) as found:
        for name, table in tables.items():
            bodies.append(name, table)
        for index, file in enumerate(track(work.release.files, "truth", unit="sequence")):
            sequence = _readable(file)
            if not isinstance(sequence, str):
                for person in range(len(sequence.tracks)):
                    _append_labels(work, (index, person), sequence, bodies, found)


def _append_labels(
    work: _Work, which: tuple[int, int], sequence: Sequence3DPW, bodies: ArtifactWriter, found: ArtifactWriter
) -> None:
    index, person = which
    someone = sequence.tracks[person]
    frames = chosen_frames(someone, work.config.stride)
    if not len(frames):
        return
    count = len(frames)
    pose, translation = work.bodies.in_camera(sequence, someone)
    key = {"sequence": np.full(count, index), "frame": frames, "person": np.full(count, person)}
    bodies.append(
        "bodies",
        {
            **key,
            "betas": np.repeat(work.bodies.betas(someone)[None], count, axis=0),
            "pose": pose[frames],
            "translation": translation[frames],
            "gender": [someone.gender] * count,
        },
    )
    joints = seen_joints(someone.detections[frames], sequence.size())
    found.append("samples", {**key, "camera": np.full(count, index), "keypoints2d": joints})


def _check_report(release: Release) -> StageReport:
    problems, pictures = list(release.problems), 0
    for file in release.files:
        sequence = _readable(file)
        if isinstance(sequence, str):
            problems.append(sequence)
            continue
        pictures += len(sequence)
        problems += [f"missing: {name}" for name in missing_pictures(release, sequence)]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise MissingFileError(f"{len(problems)} files are missing or damaged in {release.raw}:\n{lines}")
    note = f"nothing is missing: {len(release.files)} sequences, {pictures} pictures"
    counts = {"sequences": len(release.files), "pictures": pictures}
    return StageReport(STAGE, (), counts=counts, notes=(note,))


def _report(work: _Work) -> StageReport:
    with Artifact(work.config.output, DATASET) as artifact:
        facts = artifact.header.facts
    failures, counts = list(facts["failures"]), dict(facts["counts"])
    notes = _named("raw files", work.release.problems) + _named("left out", failures)
    off = float(np.mean(facts["joint_mm"])) if facts["joint_mm"] else None
    if off is not None and off > _SAME_BODY_MM:
        notes.append(
            f"the joints that the release states are {off:.0f} mm away from those of the bodies used, which are not the ones "
            "that it was made with; published figures need SMPL's male and female bodies (--body-male, --body-female)"
        )
    rows = [("files", line) for line in work.release.problems] + [("samples", line) for line in failures]
    return StageReport(
        STAGE,
        [work.config.output, work.truth, work.keypoints],
        metrics={} if off is None else {"stated_joints_mm": off},
        counts={"sequences": len(work.release.files), **dict(sorted(counts.items()))},
        notes=notes,
        tables=(Table("What could not be read", ("kind", "what"), rows),) if rows else (),
    )


def _named(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    rest = f"; and {len(items) - _NAMED_IN_NOTES} more" if len(items) > _NAMED_IN_NOTES else ""
    return [f"{what}: {'; '.join(items[:_NAMED_IN_NOTES])}{rest}"]
