"""`posekit export`: joints and bodies in the formats of other programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, FITS, JOINTS3D, POSES
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.base import beside
from posekit.config.results import Export
from posekit.errors import DataError, InputError
from posekit.evaluation.keys import Keys
from posekit.evaluation.predictions import FitJoints, check_same_body
from posekit.export.gltf import AnimatedBody, write_glb
from posekit.export.meshes import write_obj, write_ply
from posekit.export.people import animated_body, fit_arrays, posed_vertices
from posekit.export.tables import write_csv, write_npz
from posekit.export.tracks import (
    Rows,
    Selection,
    Track,
    fit_tracks,
    is_weak,
    label_tracks,
    on_regular_grid,
    people,
    pose_tracks,
    truth_tracks,
    world_is_camera_frame,
)
from posekit.export.trc import write_trc
from posekit.export.upright import UpAxis, Upright, find_upright
from posekit.progress import track
from posekit.records import Clip, clips_from_columns
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.manifest import files_of, write_manifest
from posekit.stages.report import (
    StageReport,
    input_digests,
    open_one_of,
    open_optional,
    optional_input,
    require_same_source,
)

STAGE = "export"
MANIFEST = "manifest.json"
_OF_JOINTS, _OF_BODIES = frozenset({"trc", "csv", "npz"}), frozenset({"obj", "ply", "glb", "npz"})


def export(settings: Export) -> StageReport:
    """Writes files into `exports/NAME`; its manifest comes last and lets an unchanged export be skipped.

    Joints come from labels, without labels from fits or predicted joints, without all of them from the data set's ground truth;
    meshes come from fits. Predicted joints that are named go before labels.
    Raises InputError for a sequence or person that is not there and for meshes without fits, DataError when nothing usable
    is left to export.
    """
    output = settings.output or beside(settings.dataset, "exports", "")
    joints_path = optional_input(settings.joints3d, beside(settings.dataset, "labels", ".joints3d.h5"))
    made_path = optional_input(
        settings.fits, *(beside(settings.dataset, folder, ".h5") for folder in ("fits", "predictions"))
    )
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(settings.dataset, DATASET))
        labels = open_optional(joints_path, JOINTS3D)
        made = None if made_path is None else open_one_of(made_path, FITS, POSES)
        for made_from in (labels, made):
            if made_from is not None:
                stack.enter_context(made_from)
                require_same_source(made_from, "dataset", dataset)
        poses = made if made is not None and made.kind is POSES else None
        fits = None if poses is not None else made
        if poses is not None and settings.fits is not None:
            labels = None  # what is named goes before what merely lies there
        digests = input_digests(dataset=dataset, joints3d=labels, fits=fits, poses=poses)
        header = Header("export", STAGE, settings.settings(), digests)
        earlier = None if settings.force else files_of(output / MANIFEST, header)
        if earlier is not None:
            return StageReport(STAGE, earlier, skipped=True, counts={"files": len(earlier)})
        if settings.dry_run:
            return StageReport(STAGE, [], notes=[f"would write {', '.join(settings.formats)} into {output}"])
        exporter = _Exporter(settings, output, dataset, labels, fits, poses)
        exporter.run()
    write_manifest(output / MANIFEST, header, exporter.files)
    return StageReport(
        STAGE, exporter.files, counts={"files": len(exporter.files), **exporter.counts}, notes=exporter.notes
    )


@dataclass
class _Exporter:
    settings: Export
    output: Path
    dataset: Artifact
    labels: Artifact | None
    fits: Artifact | None
    poses: Artifact | None
    files: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    uprights: dict[tuple[int, int], Upright] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clips: list[Clip] = clips_from_columns(self.dataset.table("sequences"))
        self.names = _file_names([clip.name for clip in self.clips])
        self.selection = Selection(self._sequence_number(), self.settings.person)
        self.formats = set(self.settings.formats)
        meshes = self.formats - _OF_JOINTS
        if meshes and self.fits is None:
            raise InputError(
                f"no fits to make {', '.join(sorted(meshes))} from",
                accepted=sorted(_OF_JOINTS),
                hint="Run `posekit register` or `predict` first, name fits with --fits, or leave these formats out",
            )
        self.body = None if self.fits is None else SegmentScaledBody(load_body(self.settings.body))
        if self.fits is not None and self.body is not None:
            check_same_body(self.fits, self.body)

    def run(self) -> None:
        """Writes everything that was asked for."""
        tracks = list(self._tracks())
        if not tracks:
            raise DataError(
                "nothing usable to export",
                got=f"person {self.settings.person}" if self.settings.person is not None else self.dataset.path,
                hint="See `posekit info` for the people, and their labels or fits, that are there",
            )
        self._find_uprights(tracks)
        if self.formats & _OF_JOINTS:
            for person in track(tracks, "export joints", unit="track"):
                self._write_joints(person)
        if self.fits is not None and self.body is not None and self.formats & _OF_BODIES:
            self._write_bodies(self.fits, self.body)

    def _sequence_number(self) -> int | None:
        wanted, there = self.settings.sequence, [clip.name for clip in self.clips]
        if wanted is None:
            return None
        if wanted not in there:
            raise InputError("no sequence of this name", got=wanted, accepted=there)
        return there.index(wanted)

    @property
    def up(self) -> UpAxis:
        """The up axis of the files."""
        return "z" if self.settings.up == "z" else "y"

    @property
    def skeleton(self) -> Skeleton:
        """The joint order of the tracks."""
        return (self.labels or self.poses or self.dataset).skeleton

    def _tracks(self) -> Iterable[Track]:
        if self.labels is not None:
            return label_tracks(self.labels, self.selection)
        if self.poses is not None:
            self.notes.append(f"Joints are {self.poses.header.facts['frame']}; {self.poses.header.facts['scale']}.")
            return pose_tracks(self.poses, self.selection)
        if self.fits is not None and self.body is not None:
            return fit_tracks(self.fits, FitJoints(self.body, self.skeleton), self.selection)
        if not self.dataset.has("samples", "joints3d"):
            raise InputError(
                "nothing to export",
                got=f"neither labels, fits, predicted joints nor ground truth of {self.dataset.path}",
                hint="Run `posekit triangulate`, `register` or `predict` first",
            )
        self.notes.append("There are neither labels nor fits; the joints are the data set's ground truth.")
        return truth_tracks(self.dataset, self.selection)

    def _find_uprights(self, tracks: Sequence[Track]) -> None:
        world = self.labels or self.poses or self.fits or self.dataset
        for key in dict.fromkeys((person.sequence, person.camera) for person in tracks):
            points = np.concatenate([person.points for person in tracks if (person.sequence, person.camera) == key])
            camera_frame = world_is_camera_frame(world, key[1])
            self.uprights[key] = find_upright(points, self.skeleton, self.up, camera_frame=camera_frame)
        found = sorted({upright.found for upright in self.uprights.values()})
        self.notes.append(f"Files have {self.up} up; in the recording, {'; '.join(found[:3])}.")

    def _upright(self, sequence: int, camera: int) -> Upright:
        """The turn of a sequence's own tracks; fits of single views without labels of their own are turned by themselves."""
        return self.uprights.get((sequence, camera)) or self.uprights[sequence, -1]

    def _new(self, sequence: int, person: int | None, camera: int, ending: str) -> Path:
        """The path of a file that is about to be written."""
        view = "" if camera < 0 else f"_C{camera}"
        who = "" if person is None else f"_P{person}"
        self.files.append(self.output / f"{self.names[sequence]}{view}{who}{ending}")
        return self.files[-1]

    def _write_joints(self, person: Track) -> None:
        upright = self._upright(person.sequence, person.camera)
        points = upright.apply(person.points)
        fps, joints = self.clips[person.sequence].fps, self.skeleton.joints
        stem = (person.sequence, person.person, person.camera)
        if "trc" in self.formats:
            grid, place, rate = on_regular_grid(person.frames, fps)
            regular = np.full((len(grid), *points.shape[1:]), np.nan)
            regular[place] = points
            write_trc(self._new(*stem, ".trc"), regular, joints, rate)
        if "csv" in self.formats:
            write_csv(self._new(*stem, ".csv"), points, joints, person.frames, fps, confidence=person.confidence)
        if "npz" in self.formats:
            arrays = {
                "joints3d": points,
                "confidence": person.confidence,
                "frames": person.frames,
                "times": person.frames / fps,
                "joint_names": np.array(joints, dtype=str),
                "parents": np.array(self.skeleton.parents),
            }
            write_npz(self._new(*stem, ".npz"), arrays)

    def _write_bodies(self, fits: Artifact, body: SegmentScaledBody) -> None:
        scenes: dict[tuple[int, int], list[AnimatedBody]] = {}
        usable = fits.read("fits", "ok")
        self.counts["fits left out"] = int((~usable).sum())
        everyone = list(people(Keys.read(fits, "fits"), usable, self.selection))
        for person in track(everyone, "export bodies", unit="person"):
            if (person.sequence, person.camera) not in self.uprights:
                self._turn_by_itself(fits, body, person)
            upright = self._upright(person.sequence, person.camera)
            table, weak = fits.table("fits", person.rows), is_weak(fits, person)
            fps = self.clips[person.sequence].fps
            if "glb" in self.formats:
                name = f"person {person.person}"
                animated = animated_body(name, table, person.frames, fps, body, upright, weak=weak)
                scenes.setdefault((person.sequence, person.camera), []).append(animated)
            if "npz" in self.formats:
                arrays = fit_arrays(table, person.frames, fps, upright, body.body.joint_names)
                write_npz(self._new(person.sequence, person.person, person.camera, ".fits.npz"), arrays)
            if self.formats & {"obj", "ply"}:
                self._write_meshes(person, posed_vertices(table, body, upright, weak=weak), body)
        for (sequence, camera), bodies in scenes.items():
            write_glb(self._new(sequence, None, camera, ".glb"), bodies)

    def _turn_by_itself(self, fits: Artifact, body: SegmentScaledBody, person: Rows) -> None:
        if (person.sequence, -1) in self.uprights and not is_weak(fits, person):
            return  # these fits live in the world of the labels
        only = Selection(person.sequence, person.person)
        own = [t for t in fit_tracks(fits, FitJoints(body, self.skeleton), only) if t.camera == person.camera]
        self.uprights[person.sequence, person.camera] = find_upright(
            own[0].points, self.skeleton, self.up, camera_frame=world_is_camera_frame(fits, person.camera)
        )

    def _write_meshes(self, person: Rows, meshes: Iterable[np.ndarray], body: SegmentScaledBody) -> None:
        writers: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {"obj": write_obj, "ply": write_ply}
        for frame, vertices in zip(person.frames, meshes, strict=True):
            for ending in sorted(self.formats & set(writers)):
                within = f"_{ending}/{int(frame):06d}.{ending}"
                path = self._new(person.sequence, person.person, person.camera, within)
                writers[ending](path, vertices, body.body.faces)


def _file_names(names: Sequence[str]) -> list[str]:
    """Names fit for files, still different from each other."""
    safe: list[str] = []
    for number, name in enumerate(names):
        plain = re.sub(r"[^\w.-]+", "_", name).strip("._") or "sequence"
        safe.append(plain if plain not in safe else f"{plain}_{number}")
    return safe
