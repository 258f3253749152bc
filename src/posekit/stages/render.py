"""`posekit render`: bodies and skeletons on the original frames, and from other sides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.base import beside
from posekit.config.results import Render
from posekit.errors import InputError
from posekit.evaluation.keys import Keys
from posekit.export.tracks import world_is_camera_frame
from posekit.export.upright import Upright, find_upright
from posekit.geometry.cameras import Cameras
from posekit.progress import track
from posekit.records import cameras_from_columns, clips_from_columns
from posekit.render.drawing import draw_label, draw_skeleton, person_color
from posekit.render.overlay import MeshPainter
from posekit.render.screen import apply_affine, screen_from_cameras
from posekit.render.views import Room, cast_shadow, empty_room, facing
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.device import resolve_device
from posekit.stages.manifest import files_of, write_manifest
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.render_heat_maps import heat_map_pictures
from posekit.stages.render_inputs import RenderInputs, open_inputs
from posekit.stages.render_meshes import MeshColumns
from posekit.stages.render_pace import ahead
from posekit.stages.render_people import Bodies, Cast, Joints, JointSource, Keypoints
from posekit.stages.render_pictures import (
    Canvas,
    FolderSink,
    Gallery,
    Image,
    Sink,
    VideoSink,
    canvases,
    contact_sheet,
    file_stem,
    raw_root,
    scaled,
)
from posekit.stages.render_portraits import Portraits
from posekit.stages.render_poses import PredictedJoints
from posekit.stages.report import StageReport

STAGE = "render"
PANEL = (720, 540)
"""Height and width of one side view, px."""
TURNTABLE = (720, 720)
TURNTABLE_ELEVATION = 0.22
TURN_FRAMES, TURN_FPS = 90, 30.0
"""A turntable of a single moment."""
SIDES = (("front", 0.0, 0.12), ("left side", math.pi / 2, 0.12), ("top", 0.0, math.pi / 2 - 0.02))
"""Name, azimuth and elevation."""
GALLERY = "pictures"
"""Folder of the overlays of single pictures."""
_SEQUENCES_KEPT = 16
_ROOM_FRAMES = 60
"""Moments that say how large the room is."""


def render(settings: Render) -> StageReport:
    """Writes videos or images, and a contact sheet of them, into `renders/NAME`; skips what is there already.

    Raises InputError for sequences, cameras or frames that are not there, and when there is nothing to draw.
    """
    output = settings.output or beside(settings.dataset, "renders", "")
    with ExitStack() as stack:
        inputs = open_inputs(settings, stack)
        network = _network(settings)
        digests = inputs.digests() | ({} if network is None else network.digests())
        header = Header("pictures", STAGE, settings.settings(), digests)
        manifest = output / f"{settings.kind}.json"
        earlier = None if settings.force else files_of(manifest, header)
        if earlier is not None:
            return StageReport(STAGE, earlier, skipped=True, counts={"files": len(earlier)})
        if settings.dry_run:
            return StageReport(STAGE, [], notes=[f"would write pictures ({settings.kind}) into {output}"])
        artist = (
            _Artist(settings, output, inputs)
            if network is None
            else Portraits(settings, output, inputs, partial(network.pictures, inputs.dataset))
        )
        artist.run()
    write_manifest(manifest, header, artist.files)
    return StageReport(STAGE, artist.files, counts={"files": len(artist.files), **artist.counts}, notes=artist.notes)


@runtime_checkable
class _PersonPainter(Protocol):
    """What draws single people by looking at their crops."""

    def digests(self) -> dict[str, str]:
        """Digests of what draws, by role."""

    def pictures(self, dataset: Artifact, rows: Int[np.ndarray, " N"]) -> Iterator[tuple[int, Image]]:
        """See `posekit.stages.render_portraits.Draw`."""


class _HeatMaps:
    def __init__(self, network: PoseNetwork) -> None:
        self._network = network

    def digests(self) -> dict[str, str]:
        return {"model": self._network.digest}

    def pictures(self, dataset: Artifact, rows: Int[np.ndarray, " N"]) -> Iterator[tuple[int, Image]]:
        return heat_map_pictures(dataset, self._network, rows)


def _network(settings: Render) -> _PersonPainter | None:
    if settings.model is None:
        return None
    device = resolve_device(settings.device)
    if settings.kind == "heatmaps":
        return _HeatMaps(PoseNetwork.open(settings.model, device))
    return MeshColumns.open(settings.model, settings.heads, load_body(settings.body), device)


@dataclass
class _Artist:
    settings: Render
    output: Path
    inputs: RenderInputs
    files: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dataset, self.fits = self.inputs.dataset, self.inputs.fits
        self.cameras = cameras_from_columns(self.dataset.table("cameras"))
        self.clips = clips_from_columns(self.dataset.table("sequences"))
        self.draw_mesh = self.fits is not None and self.settings.draw != "skeleton"
        self.draw_joints = self.settings.draw in ("skeleton", "both") or not self.draw_mesh
        if self.settings.draw in ("mesh", "both") and self.fits is None:
            raise InputError(
                "no fits to draw bodies from",
                got=f"--draw {self.settings.draw}",
                hint="Run `posekit register` or `predict` first, name fits with --fits, or use --draw skeleton",
            )
        self.device = resolve_device(self.settings.device)
        body = load_body(self.settings.body) if self.fits is not None else None
        self.body = SegmentScaledBody(body).to(self.device) if body is not None else None
        self.sequence = self.inputs.sequence(self.settings.sequence, self.clips)
        self.cast = self._people(self.sequence)
        self.bodies, self.joints = self.cast.bodies, self.cast.joints

    def run(self) -> None:
        """Draws what was asked for."""
        name = self._name(self.sequence)
        if self.settings.kind != "overlay":
            rows = self._views()
        elif self.dataset.header.facts.get("stills") and self.settings.sequence is None:
            name, rows = GALLERY, self._gallery()
        else:
            rows = self._overlays()
        sheet = f"{name}_{self.settings.kind}_sheet.png"
        self.files.append(contact_sheet(self.output / sheet, rows))

    def _people(self, sequence: int) -> Cast:
        bodies: Bodies | None = None
        joints: JointSource | None = None
        keypoints: Keypoints | None = None
        if self.fits is not None and self.body is not None and self.draw_mesh:
            bodies = Bodies(self.fits, self.body, self.cameras, sequence)
        if self.inputs.poses is not None:
            joints = PredictedJoints(self.inputs.poses, sequence)
        elif self.inputs.labels is not None:
            joints = Joints(self.inputs.labels, self.cameras, sequence)
        elif self.draw_joints:
            keypoints = Keypoints(self.dataset, sequence)
        return Cast(bodies, joints, keypoints, self.draw_joints)

    def _frames(self, camera: int | None = None) -> list[int]:
        """Frames at an even pace from the first to the last that has something to draw; some may have nothing."""
        drawn = self.cast.frames(camera)
        if not drawn:
            return []
        step = int(np.gcd.reduce(np.diff(drawn))) if len(drawn) > 1 else 1
        there = set(drawn) | self._sampled(camera)
        chosen = [frame for frame in range(drawn[0], drawn[-1] + 1, step) if frame in there]
        return chosen[: self.settings.frames] if self.settings.frames else chosen

    def _sampled(self, camera: int | None) -> set[int]:
        keys = Keys.read(self.dataset, "samples")
        mine = (keys.sequence == self.sequence) & ((keys.camera == camera) if camera is not None else True)
        return set(keys.frame[mine].tolist())

    def _name(self, sequence: int) -> str:
        return file_stem(self.clips[sequence].name, f"sequence_{sequence}")

    def _fps(self, frames: Sequence[int]) -> float:
        """The rate of the frames that are drawn, which may be every n-th of the recording."""
        step = float(np.median(np.diff(frames))) if len(frames) > 1 else 1.0
        return self.clips[self.sequence].fps / step

    def _sink(self, name: str, fps: float, expected: int) -> Sink:
        if self.settings.images:
            return FolderSink(self.output / name, expected)
        return VideoSink(self.output / f"{name}.mp4", fps, expected)

    # Overlays

    def _originals(self) -> Path | None:
        """The folder of the original frames, if it is there; notes what is drawn otherwise."""
        root = raw_root(self.dataset, self.settings.raw)
        if root is None:
            self.notes.append(
                "The original frames are not there; drawn on the stored crops. Give their folder with --raw."
            )
        if self.draw_joints and self.joints is None:
            self.notes.append("There are no 3D labels; the skeletons are the data set's 2D key points.")
        return root

    def _gallery(self) -> list[list[Image]]:
        """Every picture of a data set of single pictures that shows someone to draw."""
        stills = list(islice(self._stills(), self.settings.frames or None))
        painter, root = self._painter(self.settings.opacity), self._originals()
        people = lru_cache(maxsize=_SEQUENCES_KEPT)(self._people)

        def draw(still: tuple[int, int, int]) -> tuple[str, Image]:
            sequence, camera, frame = still
            canvas = next(canvases(self.dataset, root, sequence, camera, [frame]))
            name = f"{sequence:06d}_{Path(self._name(sequence)).stem}" + (f"_{frame}" if frame else "")
            return name, self._overlay(canvas, camera, painter, people(sequence), label=False)[1]

        gallery = Gallery(self.output / GALLERY, len(stills))
        with ahead(draw, stills, self.device) as drawn:
            for name, image in track(drawn, "draw pictures", total=len(stills), unit="picture"):
                gallery.take(name, image)
        self.files += gallery.files
        self.counts["pictures drawn"] = len(stills)
        return gallery.rows

    def _stills(self) -> Iterator[tuple[int, int, int]]:
        """Sequence, camera and frame of every picture with someone to draw."""
        table = "fits" if self.draw_mesh and self.fits is not None else "samples"
        artifact = (self.fits if table == "fits" else self.inputs.poses) or self.dataset
        keys = Keys.read(artifact, table)
        usable = artifact.read(table, "ok") if artifact.has(table, "ok") else np.ones(len(keys), dtype=bool)
        there = np.stack([keys.sequence, keys.camera, keys.frame], axis=1)[usable]
        names = [self.cameras[camera].name for camera in range(len(self.cameras))]
        for sequence, camera, frame in np.unique(there, axis=0).tolist():
            if not self.settings.camera or names[camera] in self.settings.camera:
                yield sequence, camera, frame

    def _overlays(self) -> list[list[Image]]:
        root = self._originals()
        painter = self._painter(self.settings.opacity)
        rows = []
        for camera in self._chosen_cameras():
            frames = self._frames(camera)
            name = f"{self._name(self.sequence)}_{self.cameras[camera].name}_overlay"
            draw = partial(self._overlay, camera=camera, painter=painter, cast=self.cast)
            views = canvases(self.dataset, root, self.sequence, camera, frames)
            with (
                self._sink(name, self._fps(frames), len(frames)) as sink,
                ahead(draw, views, self.device) as drawn,
            ):
                for frame, image in track(drawn, f"draw {self.cameras[camera].name}", total=len(frames), unit="frame"):
                    sink.take(frame, image)
            self.files += sink.files
            self.counts["frames drawn"] = self.counts.get("frames drawn", 0) + len(frames)
            rows.append(sink.samples)
        return rows

    def _chosen_cameras(self) -> list[int]:
        samples = self.dataset.read("samples", "sequence") == self.sequence
        there = sorted(set(self.dataset.read("samples", "camera")[samples].tolist()))
        names = {self.cameras[camera].name: camera for camera in there}
        for name in self.settings.camera:
            if name not in names:
                raise InputError("no camera of this name in the sequence", got=name, accepted=list(names))
        chosen = [names[name] for name in self.settings.camera] or there
        return [camera for camera in chosen if self._frames(camera)]

    def _painter(self, opacity: float) -> MeshPainter | None:
        return None if self.body is None else MeshPainter(torch.from_numpy(self.body.body.faces), opacity=opacity)

    def _overlay(
        self, canvas: Canvas, camera: int, painter: MeshPainter | None, cast: Cast, label: bool = True
    ) -> tuple[int, Image]:
        canvas = scaled(canvas, self.settings.scale)
        image, affine = canvas.image, canvas.canvas_from_image
        seen = cast.bodies.seen(canvas.frame, camera) if cast.bodies is not None else None
        if seen is not None and painter is not None:
            screen = apply_affine(seen.screen, torch.from_numpy(affine).to(seen.screen))
            colors = [person_color(person) for person in seen.people]
            painter.paint(image, screen, seen.camera_vertices, colors, perspective=seen.perspective)
        source = cast.joints or cast.keypoints
        joints = source.seen(canvas.frame, camera) if source is not None and self.draw_joints else None
        if joints is not None:
            for points, confidence in zip(joints.pixels, joints.confidence, strict=True):
                draw_skeleton(image, points @ affine[:, :2].T + affine[:, 2], joints.skeleton, confidence=confidence)
        if label:
            draw_label(image, f"{self.cameras[camera].name}  frame {canvas.frame}", (10, 10))
        return canvas.frame, image

    # Views without a picture

    def _views(self) -> list[list[Image]]:
        frames = self._frames() if self.bodies is not None or self.joints is not None else []
        if not frames:
            raise InputError(
                f"nothing to show as {self.settings.kind}",
                got=f"no usable fits, predicted joints or 3D labels of {self.clips[self.sequence].name}",
                hint="Run `posekit triangulate` or `posekit register` first, or ask for --kind overlay",
            )
        room, upright = self._room(frames)
        painter = self._painter(1.0)
        turning = self.settings.kind == "turntable"
        still = turning and len(frames) == 1
        moments = frames * TURN_FRAMES if still else frames
        fps = TURN_FPS if still else self._fps(frames)
        sides = [(*PANEL, azimuth, elevation, name) for name, azimuth, elevation in SIDES]
        fixed = [] if turning else [self._panel(room, side) for side in sides]

        def draw(number: int) -> Image:
            turn = 2 * math.pi * number / len(moments)
            panels = fixed or [self._panel(room, (*TURNTABLE, turn, TURNTABLE_ELEVATION, ""))]
            return self._stage(moments[number], room, upright, panels, painter)

        with (
            self._sink(f"{self._name(self.sequence)}_{self.settings.kind}", fps, len(moments)) as sink,
            ahead(draw, range(len(moments)), self.device) as drawn,
        ):
            progress = track(drawn, f"draw {self.settings.kind}", total=len(moments), unit="frame")
            for number, image in enumerate(progress):
                sink.take(number if still else moments[number], image)
        self.files += sink.files
        self.counts["frames drawn"] = len(moments)
        return [sink.samples] if turning else [[picture] for picture in sink.samples]

    def _panel(self, room: Room, panel: tuple[int, int, float, float, str]) -> tuple[Cameras, Image, str]:
        height, width, azimuth, elevation, name = panel
        size = (round(height * self.settings.scale), round(width * self.settings.scale))
        away = None if name else room.turntable_distance(size, elevation)
        camera = room.camera(size, azimuth=azimuth, elevation=elevation, distance=away)
        return camera, empty_room(room, camera), name

    def _stage(
        self,
        frame: int,
        room: Room,
        upright: Upright,
        panels: Sequence[tuple[Cameras, Image, str]],
        painter: MeshPainter | None,
    ) -> Image:
        """The panels of a moment beside each other."""
        bodies = self.bodies.standing(frame) if self.bodies is not None else None
        vertices = _turned(bodies[1], upright) if bodies is not None else None
        joints = self.joints.standing(frame) if self.joints is not None and self.draw_joints else None
        pictures = []
        for camera, background, name in panels:
            image = background.copy()
            if bodies is not None and vertices is not None and painter is not None:
                lens = camera.to(vertices.device)
                cast_shadow(image, vertices, painter.topology(1), room, lens)
                screen = screen_from_cameras(lens, vertices)
                colors = [person_color(person) for person in bodies[0]]
                painter.paint(image, screen, lens.camera_from_world(vertices), colors)
            if joints is not None and self.joints is not None:
                points = torch.from_numpy(upright.apply(joints[1]))
                for pixels, confidence in zip(screen_from_cameras(camera, points).numpy(), joints[2], strict=True):
                    draw_skeleton(image, pixels[:, :2], self.joints.skeleton, confidence=confidence)
            if name:
                draw_label(image, name, (10, 10))
            pictures.append(image)
        return np.concatenate(pictures, axis=1)

    def _room(self, frames: Sequence[int]) -> tuple[Room, Upright]:
        skeleton = self.dataset.skeleton if self.joints is None else self.joints.skeleton
        some = [frames[round(place)] for place in np.linspace(0, len(frames) - 1, min(_ROOM_FRAMES, len(frames)))]
        joints = np.concatenate(
            [points for frame in some if (points := self._standing_joints(frame, skeleton)) is not None]
        )
        world = self.fits if self.bodies is not None else self.inputs.poses or self.inputs.labels
        level = world is not None and world_is_camera_frame(world)
        upright = find_upright(joints, skeleton, "y", camera_frame=level)
        points = upright.apply(joints)
        up = np.array([0.0, 1.0, 0.0])
        left, right = (points[:, skeleton.index(f"{side}_hip")] for side in ("left", "right"))
        extent = [points.reshape(-1, 3)]
        if self.bodies is not None:
            for frame in some:
                if (standing := self.bodies.standing(frame)) is not None:
                    extent.append(upright.apply(standing[1][:, ::10].reshape(-1, 3).cpu().numpy()))
        return Room.around(np.concatenate(extent), up, facing(left, right, up)), upright

    def _standing_joints(self, frame: int, skeleton: Skeleton) -> Float[np.ndarray, "P J 3"] | None:
        if self.bodies is not None:
            standing = self.bodies.joints(frame, skeleton)
        else:
            found = self.joints.standing(frame) if self.joints is not None else None
            standing = None if found is None else found[:2]
        return None if standing is None else standing[1]


def _turned(vertices: Float[Tensor, "P V 3"], upright: Upright) -> Float[Tensor, "P V 3"]:
    rotation, shift = (torch.from_numpy(values).to(vertices) for values in (upright.rotation, upright.translation))
    return vertices @ rotation.T + shift
