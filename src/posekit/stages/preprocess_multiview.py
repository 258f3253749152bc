"""`posekit preprocess multiview`: own videos, calibration and OpenPose key points to one file.

Rows stand in the order of camera, frame, person. Every camera is one shard, so that a killed run loses at most the one in
work.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, files_digest
from posekit.artifacts.schema import DATASET
from posekit.artifacts.shards import ShardedArtifact
from posekit.config.data import PreprocessMultiview
from posekit.datasets.calibration import pair_with_videos, read_calibration
from posekit.datasets.crops import box_of_points, crop_image, encode_image, square_crop
from posekit.datasets.media import FrameSource, open_frames
from posekit.datasets.multiview import Recording, aligned_frames, check_lengths, find_recording
from posekit.datasets.multiview_fit import candidate_fits
from posekit.datasets.openpose import KeypointFolder, KeypointOrder, detect_order, read_keypoint_folder, require_order
from posekit.errors import DataError, MissingFileError
from posekit.labeling.association import AssociationSettings
from posekit.labeling.multiview_alignment import Alignment, AlignmentSettings, align, person_keypoints
from posekit.progress import track
from posekit.records import Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import skeleton_by_name
from posekit.stages.report import StageReport, Table

STAGE = "preprocess multiview"

_ROWS_AT_ONCE = 32
_ORDER_SAMPLE = 400


@dataclass
class _Outcome:
    """What the report says; kept in the file, so that later runs can say the same."""

    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    people: list[list[str]] = field(default_factory=list)
    views: list[list[str]] = field(default_factory=list)

    def report(self, outputs: Sequence[Path], *, skipped: bool = False) -> StageReport:
        people = Table("People", ["person", "frames", *_VIEW_COUNTS, "between views (px)", "kept"], self.people)
        views = Table("Views", ["camera", "frames", "px", "reprojection (px)", "as given (px)", "decided"], self.views)
        tables = [table for table in (people, views) if table.rows]
        return StageReport(STAGE, outputs, skipped, self.metrics, self.counts, self.notes, tables)


_VIEW_COUNTS = ("in 2 views or more", "detections")


@dataclass(frozen=True)
class _Input:
    """What was read: one clip of all cameras."""

    recording: Recording
    order: KeypointOrder
    frames: int
    lengths: tuple[int, ...]
    fps: float
    alignment: Alignment


def preprocess_multiview(config: PreprocessMultiview) -> StageReport:
    """Reads a recording and writes the data set artifact; a second run on the same input does nothing.

    Raises MissingFileError naming everything that is missing, FormatError where videos, key points and calibration cannot
    belong together, DataError when no one is seen by two cameras.
    """
    recording, problems = find_recording(config.raw, config.calibration)
    if recording is None:
        raise MissingFileError(
            f"{config.raw} is not a whole recording:\n" + "\n".join(f"  {problem}" for problem in problems),
            hint="Needed are videos, a folder of OpenPose files for each, and one calibration",
        )
    if config.check:
        return StageReport(
            STAGE, (), counts={"videos": len(recording.videos)}, notes=["nothing is missing", *recording.notes]
        )
    header = _header(config, recording)
    if not config.force and is_current(config.output, header):
        with Artifact(config.output, DATASET) as artifact:
            return _Outcome(**artifact.header.facts["outcome"]).report([config.output], skipped=True)
    if config.dry_run:
        return StageReport(STAGE, (), notes=[f"would read {len(recording.videos)} videos and write {config.output}"])
    outcome = _Outcome(notes=list(recording.notes))
    read = _read(config, recording, outcome)
    _describe(config, read, outcome)
    return _write(config, read, header, outcome)


def _header(config: PreprocessMultiview, recording: Recording) -> Header:
    calibration = recording.calibration_files()
    return Header(
        kind=DATASET.name,
        stage=STAGE,
        settings=config.settings(),
        inputs={
            "raw": files_digest(recording.files(), recording.root),
            "calibration": files_digest(calibration, calibration[0].parent),
        },
        seed=config.seed,
        facts={"raw_root": str(recording.root.resolve()), "keypoints": "openpose"},
    )


def _read(config: PreprocessMultiview, recording: Recording, outcome: _Outcome) -> _Input:
    """Everything but the pixels of the crops."""
    cameras, notes = pair_with_videos(read_calibration(recording.calibration), recording.names)
    outcome.notes += notes
    with ExitStack() as stack:
        sources = [stack.enter_context(open_frames(path, fps=config.fps)) for path in recording.videos]
        lengths = tuple(source.count for source in sources)
        frames = check_lengths(lengths, recording.names, config.max_length_difference)
        sizes = [(source.width, source.height) for source in sources]
        cameras = [
            camera if camera.width else replace(camera, width=size[0], height=size[1])
            for camera, size in zip(cameras, sizes, strict=True)
        ]
        candidates = [
            candidate_fits(camera, source.frame(0), config.frame_fit)
            for camera, source in zip(cameras, sources, strict=True)
        ]
        fps = _one_rate(sources, recording.names, outcome)
    _note_lengths(lengths, frames, recording.names, outcome)
    folders = [read_keypoint_folder(folder) for folder in recording.keypoints]
    order = _joint_order(config, folders)
    joints = len(skeleton_by_name(order))
    detections, first = aligned_frames(folders, frames, joints)
    _note_files(folders, first, frames, outcome)
    settings = AlignmentSettings(
        config.keypoint_pixels,
        config.principal_points,
        AssociationSettings(min_confidence=config.min_confidence, max_distance_px=config.max_epipolar_px),
        config.seed,
    )
    alignment = align(detections, cameras, candidates, sizes, joints, settings)
    return _Input(recording, order, frames, lengths, fps, alignment)


def _one_rate(sources: Sequence[FrameSource], names: Sequence[str], outcome: _Outcome) -> float:
    rates = [source.fps for source in sources]
    if max(rates) > 1.01 * min(rates):
        shown = ", ".join(f"{name} {rate:g}" for name, rate in zip(names, rates, strict=True))
        outcome.notes.append(
            f"the videos name different frame rates ({shown}); the first is used, frames are paired by number"
        )
    return rates[0]


def _note_lengths(lengths: Sequence[int], frames: int, names: Sequence[str], outcome: _Outcome) -> None:
    outcome.counts["frames"] = frames
    outcome.counts["frames_beyond_the_shortest_video"] = sum(length - frames for length in lengths)
    if max(lengths) > frames:
        shown = ", ".join(f"{name} {length}" for name, length in zip(names, lengths, strict=True))
        outcome.notes.append(f"the videos differ in length ({shown}); the first {frames} frames of each are used")


def _joint_order(config: PreprocessMultiview, folders: Sequence[KeypointFolder]) -> KeypointOrder:
    found = [people for folder in folders for people in folder.frames.values() if len(people)]
    if not found:
        raise DataError("the key point files hold no people", got=[folder.path for folder in folders])
    counts = sorted({people.shape[1] for people in found})
    if config.keypoint_order != "auto":
        for people in found:
            require_order(people, config.keypoint_order)
        return config.keypoint_order
    chosen = [people for people in found if people.shape[1] == counts[0]]
    step = max(1, len(chosen) // _ORDER_SAMPLE)
    return detect_order(np.concatenate(chosen[::step]))


def _note_files(folders: Sequence[KeypointFolder], first: int, frames: int, outcome: _Outcome) -> None:
    damaged = [item for folder in folders for item in folder.damaged]
    numbers = [set(folder.frames) for folder in folders]
    wanted = set(range(first, first + frames))
    outcome.counts["damaged_keypoint_files"] = len(damaged)
    outcome.counts["frames_without_keypoint_file"] = sum(len(wanted - found) for found in numbers)
    outcome.counts["keypoint_files_without_frame"] = sum(len(found - wanted) for found in numbers)
    if first:
        outcome.notes.append(
            f"key point files are numbered from {first}, which is taken for the first frame of the videos"
        )
    for path, reason in damaged[:5]:
        outcome.notes.append(f"damaged key point file, taken for a frame without people: {path}: {reason}")
    if len(damaged) > 5:
        outcome.notes.append(f"and {len(damaged) - 5} more damaged key point files")


def _describe(config: PreprocessMultiview, read: _Input, outcome: _Outcome) -> None:
    """Fills in what is known of people and views; DataError when no one was matched."""
    alignment, names = read.alignment, read.recording.names
    found = alignment.association
    alone = ", ".join(f"{name} {count}" for name, count in zip(names, found.detections_alone, strict=True) if count)
    if not len(found.members):
        raise DataError(
            "no person is seen by two cameras",
            got=f"detections in one camera only: {alone or 'none'}",
            hint="Check that calibration, videos and key points are of one recording, or raise --max-epipolar-px",
        )
    outcome.counts |= {
        "people_matched": len(found.members),
        "people_not_kept": max(0, len(found.members) - config.max_people),
        "detections": sum(len(people) for camera in alignment.detections for people in camera),
        "detections_in_one_camera_only": int(found.detections_alone.sum()),
        "tracks_in_one_camera_only": int(found.tracks_alone.sum()),
        "detections_with_too_few_joints": found.unusable,
        "detections_reassigned_by_the_other_views": found.corrected,
    }
    if alone:
        outcome.notes.append(f"detections that no other camera confirms were left out: {alone}")
    if len(found.members) > config.max_people:
        left = len(found.members) - config.max_people
        outcome.notes.append(f"{left} more people were matched between views; keep them with --max-people")
    for number, (person, distance) in enumerate(zip(found.members, found.distance_px, strict=True)):
        views = (person >= 0).sum(axis=1)
        kept = "yes" if number < config.max_people else "no"
        row = [number, int((views > 0).sum()), int((views > 1).sum()), int(views.sum()), f"{distance:.1f}", kept]
        outcome.people.append([str(cell) for cell in row])
    outcome.notes.append(f"joint order of the key points: {read.order}")
    _describe_views(config, read, outcome)


def _describe_views(config: PreprocessMultiview, read: _Input, outcome: _Outcome) -> None:
    alignment, names = read.alignment, read.recording.names
    posed = all(camera.posed for camera in alignment.cameras)
    for index, name in enumerate(names):
        fit, axis = alignment.fits[index], alignment.axes[index]
        decided: list[str] = [fit.placement] if fit.placement != "same" else []
        decided += [f"principal point mirrored in {axis}"] if axis else []
        camera = alignment.cameras[index]
        errors = [
            f"{error.per_camera_px[index]:.2f}" if posed else "-" for error in (alignment.error, alignment.as_given)
        ]
        outcome.views.append(
            [name, str(read.lengths[index]), f"{camera.width}x{camera.height}", *errors, ", ".join(decided) or "-"]
        )
        if posed:
            outcome.metrics[f"reprojection_median_px_{name}"] = alignment.error.per_camera_px[index]
    if not posed:
        outcome.notes.append("the calibration has no poses: people were matched by the geometry of their own tracks")
    outcome.metrics |= {"reprojection_median_px": alignment.error.median_px} if posed else {}
    resized = [name for name, fit in zip(names, alignment.fits, strict=True) if fit.placement != "same"]
    if resized:
        kinds = ", ".join(sorted({alignment.fits[names.index(name)].placement for name in resized}))
        tried = "; ".join(f"{what}: {error:.2f} px" for what, error in alignment.alternatives.items())
        outcome.notes.append(
            f"the frames of {', '.join(resized)} are not of the calibrated size: {kinds}; key points are taken for px of the "
            f"{'calibrated picture' if alignment.keypoint_pixels == 'calibration' else 'video'}"
            + (f" (median reprojection errors: {tried})" if tried else "")
            + "; change it with --frame-fit and --keypoint-pixels"
        )
    if any(alignment.axes):
        axes = ", ".join(f"{name} in {axis}" for name, axis in zip(names, alignment.axes, strict=True) if axis)
        outcome.notes.append(
            f"principal points were mirrored ({axes}): the calibration seems to have been turned without that, the median "
            f"reprojection error falls from {alignment.as_given.median_px:.2f} to {alignment.error.median_px:.2f} px; keep "
            "them with --principal-points given"
        )


def _write(config: PreprocessMultiview, read: _Input, header: Header, outcome: _Outcome) -> StageReport:
    alignment, recording = read.alignment, read.recording
    header = replace(
        header,
        skeleton=skeleton_by_name(read.order),
        facts={
            **header.facts,
            "keypoint_order": read.order,
            "keypoint_pixels": alignment.keypoint_pixels,
            "frame_fits": {name: fit.placement for name, fit in zip(recording.names, alignment.fits, strict=True)},
            "mirrored_principal_points": dict(zip(recording.names, alignment.axes, strict=True)),
        },
    )
    shards = ShardedArtifact(config.output, header, len(recording.videos))
    if config.force:
        shutil.rmtree(shards.folder, ignore_errors=True)
    joints = len(skeleton_by_name(read.order))
    people = [
        person_keypoints(alignment.detections, members, joints)
        for members in alignment.association.members[: config.max_people]
    ]
    samples = 0
    for index in range(shards.count):
        rows = _rows(config, np.stack([person[:, index] for person in people]))
        samples += len(rows)
        if index in shards.pending():
            _write_shard(config, read, shards, index, rows)
    outcome.counts["samples"] = samples
    whole = ShardedArtifact(
        config.output, replace(header, facts={**header.facts, "outcome": outcome.__dict__}), shards.count
    )
    clip = Clip(name=recording.root.resolve().name, fps=read.fps)
    whole.join(
        {
            "cameras": camera_columns(alignment.cameras),
            "sequences": clip_columns([clip]),
            "videos": _video_columns(recording, read.lengths),
        }
    )
    return outcome.report([config.output])


def _video_columns(recording: Recording, lengths: Sequence[int]) -> dict[str, Any]:
    return {
        "sequence": [0] * len(lengths),
        "camera": list(range(len(lengths))),
        "path": [path.relative_to(recording.root).as_posix() for path in recording.videos],
        "frames": list(lengths),
    }


@dataclass(frozen=True)
class _Row:
    frame: int
    person: int
    keypoints: np.ndarray
    bbox: np.ndarray


def _rows(config: PreprocessMultiview, keypoints: np.ndarray) -> list[_Row]:
    """The samples of one view from people x frames x joints x 3, by frame and person."""
    rows = []
    for t in range(keypoints.shape[1]):
        for number, person in enumerate(keypoints[:, t]):
            certain = (person[:, 2] > 0) & (person[:, 2] >= config.min_confidence)
            box = box_of_points(person[certain, :2])
            if box is not None:
                rows.append(_Row(t, number, person, box))
    return rows


def _write_shard(
    config: PreprocessMultiview, read: _Input, shards: ShardedArtifact, index: int, rows: Sequence[_Row]
) -> None:
    name = read.recording.names[index]
    with shards.writer(index) as writer, open_frames(read.recording.videos[index]) as source:
        samples = _with_crops(config, source, rows) if config.crops else ((row, {}) for row in rows)
        progress = track(samples, f"preprocess {name}", total=len(rows), unit="crop")
        while block := list(islice(progress, _ROWS_AT_ONCE)):
            writer.append("samples", _columns(index, block))


def _with_crops(
    config: PreprocessMultiview, source: FrameSource, rows: Sequence[_Row]
) -> Iterator[tuple[_Row, dict[str, np.ndarray]]]:
    by_frame: dict[int, list[_Row]] = {}
    for row in rows:
        by_frame.setdefault(row.frame, []).append(row)
    for frame, image in source.frames(list(by_frame)):
        for row in by_frame[frame]:
            crop_from_image = square_crop(row.bbox, config.crop_size, config.crop_margin)
            crop = crop_image(image, crop_from_image, config.crop_size)
            yield row, {"crop_from_image": crop_from_image, "image": encode_image(crop, quality=config.jpeg_quality)}


def _columns(camera: int, block: Sequence[tuple[_Row, Mapping[str, np.ndarray]]]) -> dict[str, Any]:
    rows = [row for row, _ in block]
    columns: dict[str, Any] = {
        "sequence": [0] * len(rows),
        "frame": [row.frame for row in rows],
        "person": [row.person for row in rows],
        "camera": [camera] * len(rows),
        "bbox": np.stack([row.bbox for row in rows]),
        "keypoints2d": np.stack([row.keypoints for row in rows]),
    }
    for name in block[0][1]:
        columns[name] = [extra[name] for _, extra in block]
    return columns
