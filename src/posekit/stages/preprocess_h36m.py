"""`posekit preprocess h36m`: the raw release of Human3.6M to one file.

Rows stand in the order of sequence, camera, frame. Every sequence in one camera is one shard, so that a killed run loses at
most the one in work.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.artifacts.schema import DATASET
from posekit.artifacts.shards import ShardedArtifact
from posekit.artifacts.writing import ArtifactWriter
from posekit.config.data import PreprocessH36M
from posekit.datasets.crops import crop_image, encode_image, square_crop
from posekit.datasets.h36m import DISPLACED, Recording, Release, Selection, open_release
from posekit.datasets.h36m_layout import FIRST_FRAME_NUMBER
from posekit.datasets.h36m_metadata import Metadata
from posekit.datasets.h36m_poses import Poses, projection_error, read_mask_boxes, read_poses
from posekit.datasets.media import FrameSource
from posekit.errors import DataError, FormatError, InputError, MissingFileError
from posekit.progress import track
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import H36M17
from posekit.stages.report import StageReport, Table

STAGE = "preprocess h36m"

_ROWS_AT_ONCE = 64
_IN_FLIGHT = 8
_SUSPICIOUS_PX = 1.0
_NAMED_IN_NOTES = 5


@dataclass
class _Outcome:
    """What became of one recording, or of several; kept in the file, so that later runs can report the same."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    projection_px: dict[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "failures": self.failures, "projection_px": self.projection_px}

    def add(self, other: Mapping[str, Any]) -> None:
        self.counts.update(other["counts"])
        self.failures += other["failures"]
        self.projection_px.update(other["projection_px"])


@dataclass(frozen=True)
class _Job:
    """A recording with its rows of the tables `sequences` and `cameras`."""

    recording: Recording
    sequence: int
    camera_row: int
    camera: Camera


@dataclass(frozen=True)
class _Plan:
    """The work in order, and the tables that belong to the file as a whole."""

    jobs: tuple[_Job, ...]
    clips: tuple[Clip, ...]
    cameras: tuple[Camera, ...]
    outcome: _Outcome


def preprocess_h36m(config: PreprocessH36M) -> StageReport:
    """Reads the release and writes the data set artifact; a second run on the same input does nothing.

    Raises MissingFileError when nothing can be read (with `check`: when anything is missing), DataError when no sample
    remains.
    """
    release = open_release(config.raw, _selection(config))
    if config.check:
        return _check_report(release)
    if not release.recordings or release.metadata is None:
        raise MissingFileError(
            f"nothing to read in {config.raw}",
            got=release.problems or "no sequence that the settings ask for",
            hint="`posekit preprocess h36m --check` lists every missing file",
        )
    if config.dry_run:
        note = f"would read {len(release.recordings)} recordings ({release.layout}) and write {config.output}"
        return _report(config, release, _Outcome(), note)
    header = _header(config, release, release.metadata)
    if not config.force and is_current(config.output, header):
        with Artifact(config.output, DATASET) as artifact:
            outcome = _Outcome()
            outcome.add(artifact.header.facts["outcome"])
            return replace(_report(config, release, outcome), skipped=True)
    plan = _plan(release, release.metadata)
    shards = ShardedArtifact(config.output, header, len(plan.jobs))
    if config.force:
        shutil.rmtree(shards.folder, ignore_errors=True)
    _write_shards(shards, plan, config, release)
    return _join(shards, plan, config, release)


def _selection(config: PreprocessH36M) -> Selection:
    return Selection(
        config.layout, config.protocol, config.subjects, config.train_stride, config.test_stride, config.known_bad
    )


def _header(config: PreprocessH36M, release: Release, metadata: Metadata) -> Header:
    files = {metadata.path}
    for recording in release.recordings:
        unused = recording.boxes if config.boxes == "keypoints" else None
        files.update(file for file in recording.files(release.raw) if file != unused)
    return Header(
        kind=DATASET.name,
        stage=STAGE,
        settings=config.settings(),
        inputs={"raw": files_digest(files, release.raw)},
        skeleton=H36M17,
        facts={
            "raw_root": str(release.raw.resolve()),
            "protocol": config.protocol,
            "keypoints": "ground truth",
            "first_frame_number": FIRST_FRAME_NUMBER,
        },
    )


def _plan(release: Release, metadata: Metadata) -> _Plan:
    """Opens images of every subject and camera for their size; cameras of which none can be opened are left out."""
    plan = _Plan((), (), (), _Outcome())
    for subject, group in groupby(release.recordings, key=lambda recording: recording.key.subject):
        recordings = list(group)
        rows: dict[str, int] = {}
        cameras = list(plan.cameras)
        fps = 0.0
        for camera_id in sorted({recording.key.camera for recording in recordings}):
            seen = [recording for recording in recordings if recording.key.camera == camera_id]
            size_and_rate = _probe(seen, release.raw, plan.outcome)
            if size_and_rate is not None:
                width, height, rate = size_and_rate
                rows[camera_id] = len(cameras)
                cameras.append(metadata.camera(subject, camera_id, width, height))
                fps = fps or rate
        jobs, clips = list(plan.jobs), list(plan.clips)
        usable = (recording for recording in recordings if recording.key.camera in rows)
        for _, takes in groupby(usable, key=lambda recording: recording.sequence):
            for recording in (whole := list(takes)):
                row = rows[recording.key.camera]
                jobs.append(_Job(recording, len(clips), row, cameras[row]))
            clips.append(whole[0].clip(fps))
        plan = _Plan(tuple(jobs), tuple(clips), tuple(cameras), plan.outcome)
    return plan


def _probe(recordings: Iterable[Recording], raw: Path, outcome: _Outcome) -> tuple[int, int, float] | None:
    failures: list[str] = []
    for recording in recordings:
        try:
            with recording.images.open(raw) as source:
                return source.width, source.height, source.fps
        except InputError as error:
            failures.append(f"{recording.images.path}: {error}")
    outcome.failures += failures
    outcome.counts["recordings_broken"] += len(failures)
    return None


def _write_shards(shards: ShardedArtifact, plan: _Plan, config: PreprocessH36M, release: Release) -> None:
    pending = shards.pending()
    with ThreadPoolExecutor(max_workers=2) as pool:
        for index in track(pending, "preprocess", total=len(pending), unit="recording"):
            job = plan.jobs[index]
            reader = _Reader(job, config, release.raw, pool)
            with ArtifactWriter(shards.part(index), shards.header) as writer:
                frames = reader.write_samples(writer)
                path = job.recording.images.path
                row = {"sequence": [job.sequence], "camera": [job.camera_row], "path": [path], "frames": [frames]}
                writer.append("videos", row)
                writer.header = _with_outcome(shards.header, reader.outcome)


def _join(shards: ShardedArtifact, plan: _Plan, config: PreprocessH36M, release: Release) -> StageReport:
    outcome = _Outcome()
    outcome.add(plan.outcome.plain())
    for index in range(shards.count):
        with Artifact(shards.part(index)) as shard:
            outcome.add(shard.header.facts["outcome"])
    if not outcome.counts["samples"]:
        shutil.rmtree(shards.folder, ignore_errors=True)
        raise DataError("no sample of Human3.6M could be read", got=outcome.failures or "no frame with key points")
    whole = {"cameras": camera_columns(plan.cameras), "sequences": clip_columns(plan.clips)}
    ShardedArtifact(shards.path, _with_outcome(shards.header, outcome), shards.count).join(whole)
    return _report(config, release, outcome)


def _with_outcome(header: Header, outcome: _Outcome) -> Header:
    return replace(header, facts={**header.facts, "outcome": outcome.plain()})


class _Reader:
    """Turns one recording into rows; what goes wrong ends up in `outcome`, not in an exception."""

    def __init__(self, job: _Job, config: PreprocessH36M, raw: Path, pool: ThreadPoolExecutor) -> None:
        self._job = job
        self._config = config
        self._raw = raw
        self._pool = pool
        self.outcome = _Outcome()

    def write_samples(self, writer: ArtifactWriter) -> int:
        """Writes the rows; returns the number of frames that the images have."""
        source = None
        try:
            poses = self._labels()
            source = self._job.recording.images.open(self._raw)
            for rows in self._rows(source, poses):
                writer.append("samples", rows)
            return source.count
        except InputError as error:
            self._fail(str(error))
            return 0
        finally:
            self.outcome.counts["samples"] += writer.rows("samples")
            self.outcome.counts["recordings_broken"] += bool(self.outcome.failures)
            if source is not None:
                source.close()

    def _fail(self, why: str) -> None:
        self.outcome.failures.append(f"{self._job.recording.images.path}: {why}")

    def _labels(self) -> Poses:
        recording = self._job.recording
        poses = read_poses(recording.d2, recording.d3_mono)
        error = projection_error(poses, self._job.camera)
        if np.isfinite(error):
            self.outcome.projection_px[recording.images.path] = round(error, 6)
        if recording.boxes is None or self._config.boxes == "keypoints":
            return poses
        try:
            boxes = read_mask_boxes(recording.boxes, len(poses))
        except FormatError as failure:
            self._fail(f"boxes are taken from the key points: {failure}")
            return poses
        return replace(poses, bbox=np.where(np.isfinite(boxes), boxes, poses.bbox))

    def _rows(self, source: FrameSource, poses: Poses) -> Iterator[dict[str, Any]]:
        camera, counts = self._job.camera, self.outcome.counts
        if (source.width, source.height) != (camera.width, camera.height):
            raise FormatError(
                "images of one camera differ in size",
                got=f"{source.width}x{source.height}",
                accepted=f"{camera.width}x{camera.height}, as in its first sequence",
            )
        counts["frames_without_pose"] += max(0, source.declared_count - len(poses))
        counts["poses_without_frame"] += max(0, len(poses) - source.declared_count)
        taken = self._taken(source, poses)
        images = self._crops(source, taken, poses.bbox) if self._config.crops else self._uncropped(source, taken)
        written = 0
        while block := list(islice(images, _ROWS_AT_ONCE)):
            written += len(block)
            yield self._columns(block, poses)
        counts["frames_unreadable"] += len(taken) - written

    def _taken(self, source: FrameSource, poses: Poses) -> list[int]:
        """The frames of the stride that have an image and a person."""
        counts = self.outcome.counts
        wanted = np.arange(0, min(source.declared_count, len(poses)), self._job.recording.stride)
        if source.declared_count == source.count:
            there = np.isin(wanted, source.available)
            counts["frames_not_extracted"] += int((~there).sum())
            wanted = wanted[there]
        seen = np.isfinite(poses.bbox[wanted]).all(axis=1)
        counts["frames_without_keypoints"] += int((~seen).sum())
        return [int(frame) for frame in wanted[seen]]

    def _crops(
        self, source: FrameSource, taken: Sequence[int], boxes: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Frame, crop_from_image and encoded crop; cropping runs beside decoding."""
        pending: deque[Future[tuple[int, np.ndarray, np.ndarray]]] = deque()
        frames = source.frames(taken)
        while True:
            try:
                index, image = next(frames)
            except StopIteration:
                break
            except FormatError as error:
                self._fail(str(error))
                break
            pending.append(self._pool.submit(_cropped, index, image, boxes[index], self._config))
            if len(pending) >= _IN_FLIGHT:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _uncropped(self, source: FrameSource, taken: Sequence[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        if source.count < source.declared_count:
            self._fail(f"the video is cut short: {source.count} of {source.declared_count} frames can be read")
        nothing = np.zeros(0)
        return ((index, nothing, nothing) for index in taken if index < source.count)

    def _columns(self, block: Sequence[tuple[int, np.ndarray, np.ndarray]], poses: Poses) -> dict[str, Any]:
        frames, matrices, images = zip(*block, strict=True)
        rows, count = np.array(frames), len(block)
        taken = Poses(poses.keypoints2d[rows], poses.joints3d[rows], poses.bbox[rows])
        self.outcome.counts["nan_joints"] += taken.nan_joints
        columns: dict[str, Any] = {
            "sequence": np.full(count, self._job.sequence),
            "frame": rows,
            "person": np.zeros(count, dtype=int),
            "camera": np.full(count, self._job.camera_row),
            "bbox": taken.bbox,
            "keypoints2d": taken.keypoints2d,
            "joints3d": taken.joints3d,
        }
        if self._config.crops:
            columns |= {"image": images, "crop_from_image": np.stack(matrices)}
        return columns


def _cropped(
    index: int, image: np.ndarray, box: np.ndarray, config: PreprocessH36M
) -> tuple[int, np.ndarray, np.ndarray]:
    crop_from_image = square_crop(box, config.crop_size, config.crop_margin)
    crop = crop_image(image, crop_from_image, config.crop_size)
    return index, crop_from_image, encode_image(crop, "jpeg", config.jpeg_quality)


def _check_report(release: Release) -> StageReport:
    if release.problems:
        lines = "\n".join(f"  {problem}" for problem in release.problems)
        raise MissingFileError(f"{len(release.problems)} problems in {release.raw}:\n{lines}")
    subjects = {recording.key.subject for recording in release.recordings}
    if not release.recordings:
        raise MissingFileError("no sequence that the settings ask for", got=release.raw)
    note = (
        f"nothing is missing: {len(release.recordings)} recordings of {', '.join(sorted(subjects))} as {release.layout}"
    )
    return StageReport(STAGE, (), counts={"recordings": len(release.recordings)}, notes=(note, *_absent(release)))


def _absent(release: Release) -> list[str]:
    return [f"{release.absent} sequences of the naming table are not there at all"] if release.absent else []


def _report(config: PreprocessH36M, release: Release, outcome: _Outcome, first_note: str = "") -> StageReport:
    errors = outcome.projection_px
    suspicious = {title: error for title, error in errors.items() if error > _SUSPICIOUS_PX}
    counts = {
        "recordings": len(release.recordings),
        "sequences": len({recording.sequence for recording in release.recordings}),
        "missing_or_misnamed_files": len(release.problems),
        "known_bad_left_out": len(release.dropped),
        **{name: count for name, count in sorted(outcome.counts.items()) if count or name == "samples"},
    }
    notes = [first_note] if first_note else []
    notes += _absent(release)
    notes += _named("raw files", release.problems)
    notes += _named("known to be damaged and left out", release.dropped)
    notes += _named("read in part or not at all", outcome.failures)
    displaced = sorted({r.sequence for r in release.recordings if (r.key.subject, r.key.base) in DISPLACED})
    notes += _named("ground truth is shifted against the image (good for root-relative errors only)", displaced)
    lines = [f"{title} ({error:.2f} px)" for title, error in sorted(suspicious.items())]
    notes += _named("3D joints do not project onto the 2D points", lines)
    failures = [("files", line) for line in release.problems] + [("content", line) for line in outcome.failures]
    values = list(errors.values())
    return StageReport(
        STAGE,
        () if config.dry_run else (config.output,),
        metrics={"projection_median_px": float(np.median(values)), "projection_worst_px": max(values)}
        if values
        else {},
        counts=counts,
        notes=notes,
        tables=(Table("What could not be read", ("kind", "what"), failures),) if failures else (),
    )


def _named(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    shown = "; ".join(items[:_NAMED_IN_NOTES])
    rest = f"; and {len(items) - _NAMED_IN_NOTES} more" if len(items) > _NAMED_IN_NOTES else ""
    return [f"{what}: {shown}{rest}"]
