"""Pictures of a body in a room, with everything that is exactly known about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from posekit.body.smpl_file import BodyData
from posekit.body.surface import atlas_of
from posekit.camera_stack import stack_cameras
from posekit.geometry.cameras import Cameras
from posekit.records import Camera
from posekit.render.rasterizer import Fragments, rasterize
from posekit.render.shading import vertex_normals
from posekit.render.silhouette import antialias
from posekit.render.topology import MeshTopology
from posekit.render.visibility import spread_over_surface, vertex_areas, visible_vertices
from posekit.synthetic.clothes import Outfit, Wardrobe, linear, random_outfit
from posekit.synthetic.light import RoomLight, random_light, to_pixels
from posekit.synthetic.room import Room, background, random_room

_MARGIN = 3
_SHADOW_COARSE = 4
_SHADOW_BLUR = 0.013
"""Standard deviation of the shadow's blur, as a share of the image's width."""

_SEAT_COLOUR = (0.45, 0.42, 0.40)


@dataclass(frozen=True)
class Look:
    """Everything of a session that is there for the eye only."""

    outfit: Outfit
    room: Room
    light: RoomLight

    @staticmethod
    def of(seed: int, subject: str) -> Look:
        """What a subject wears, and where."""
        return Look(random_outfit(seed, subject), random_room(seed, subject), random_light(seed, subject))


@dataclass(frozen=True)
class View:
    """One picture and its truth.

    `mask` (255 = person) and `iuv` (part, u, v) are cut to the person's box, whose top-left pixel is `origin`; both are
    one empty pixel when no part of the person is seen. `vertices` are those seen, `pixels` where (exact, with the lens).
    """

    image: UInt8[np.ndarray, "H W 3"]
    origin: Int[np.ndarray, "2"]
    mask: UInt8[np.ndarray, "h w"]
    iuv: UInt8[np.ndarray, "h w 3"]
    vertices: Int[np.ndarray, " n"]
    pixels: Float[np.ndarray, "n 2"]


class Stage:
    """What stays the same in all takes of a session: the rig, and the empty room as each camera sees it."""

    def __init__(self, cameras: Sequence[Camera], look: Look) -> None:
        self.cameras = list(cameras)
        self.look = look
        self.rig = stack_cameras(cameras)
        self.light = [background(look.room, camera, look.light) for camera in self.cameras]
        self.pictures = [to_pixels(torch.from_numpy(image)).numpy() for image in self.light]


class Scene:
    """A stage with one body on it, and the blocks that the body sits on."""

    def __init__(
        self,
        body: BodyData,
        stage: Stage,
        seats: Sequence[Float[np.ndarray, "2 3"]] = (),
        device: torch.device | None = None,
    ) -> None:
        self.stage = stage
        self.cameras = stage.cameras
        self._device = device or torch.device("cpu")
        self._look = stage.look
        self._rig = stage.rig
        atlas = atlas_of(body)
        self._body_faces = len(body.faces)
        self._wardrobe = Wardrobe.of(body)
        self._fields = self._wardrobe.fields.to(self._device)
        self._part = torch.from_numpy(atlas.face_part).to(self._device)
        self._uv = torch.from_numpy(atlas.face_uv.astype(np.float32)).to(self._device)
        self._props, prop_faces = block_mesh(seats, body.vertex_count)
        faces = torch.from_numpy(np.concatenate([body.faces, prop_faces]))
        self._topology = MeshTopology.from_faces(faces).to(self._device)
        self._areas = vertex_areas(body.v_template, body.faces)

    def view(self, camera: int, vertices: Float[np.ndarray, "V 3"], points: int, rng: np.random.Generator) -> View:
        """The picture of a posed body (world, double precision) with `points` visible vertices, spread evenly over the
        surface that is seen."""
        model = self._rig[camera]
        world = torch.from_numpy(np.concatenate([vertices, self._props]))
        screen = torch.cat([model.project(world), model.camera_from_world(world)[:, 2:]], dim=1)
        region = image_region(screen.numpy(), self.cameras[camera])
        if region is None:
            return _nobody(self.stage.pictures[camera])
        local = screen.clone()
        local[:, :2] -= torch.tensor([region[0], region[1]], dtype=torch.float64)
        size = (region[3] - region[1], region[2] - region[0])
        fragments = rasterize(local.float()[None].to(self._device), self._topology, size)
        normals = vertex_normals(world.float()[None].to(self._device), self._topology)[0]
        image = self._picture(camera, fragments, normals, world, region)
        body = fragments.faces < self._body_faces
        mask, iuv, origin = self._labels(fragments, body, region)
        # Pixels are noted before anything is rounded; only the test of visibility looks at the raster.
        seen = self._visible(fragments, local, normals, vertices, model)
        chosen = spread_over_surface(seen, self._areas[seen], points, rng)
        return View(image, origin, mask, iuv, chosen, screen[chosen, :2].numpy())

    def _picture(
        self, camera: int, fragments: Fragments, normals: Tensor, world: Tensor, region: tuple[int, int, int, int]
    ) -> np.ndarray:
        count = len(self._fields)
        fields = torch.nn.functional.pad(self._fields, (0, 0, 0, len(world) - count))
        values = fragments.interpolate(torch.cat([fields, normals], dim=1)[None])
        unit = torch.nn.functional.normalize(values[:, 6:], dim=1)
        colours = self._wardrobe.paint(self._look.outfit, values[:, :6])
        on_prop = (fragments.faces >= self._body_faces)[:, None]
        colours = torch.where(on_prop, colours.new_tensor(linear(_SEAT_COLOUR)), colours)
        shaded = self._look.light.shade(colours, unit)
        layer = fragments.image(torch.cat([shaded, torch.ones_like(shaded[:, :1])], dim=1))
        layer = antialias(layer, fragments)[0].cpu()
        shadow = floor_shadow(self._look.light, self.cameras[camera], self._rig[camera], world, self._topology)
        empty = EmptyRoom(self.stage.light[camera], self.stage.pictures[camera])
        return composed(empty, self._look.light, shadow, layer, region)

    def _labels(
        self, fragments: Fragments, body: Tensor, region: tuple[int, int, int, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = fragments.image_size
        labels = np.zeros((shape[0] * shape[1], 3), np.uint8)
        place, faces = fragments.pixels[body].cpu().numpy(), fragments.faces[body]
        weights = fragments.weights[:, body]
        uv = (self._uv[faces] * weights.t()[..., None]).sum(dim=1)
        labels[place, 0] = self._part[faces].cpu().numpy()
        labels[place, 1:] = (uv.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()
        mask = np.zeros(len(labels), np.uint8)
        mask[place] = 255
        if not len(place):
            return mask[:1].reshape(1, 1), labels[:1].reshape(1, 1, 3), np.array(region[:2], np.int32)
        rows, columns = place // shape[1], place % shape[1]
        x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
        origin = np.array([region[0] + x0, region[1] + y0], dtype=np.int32)
        cut = (slice(y0, y1), slice(x0, x1))
        return mask.reshape(shape)[cut].copy(), labels.reshape(*shape, 3)[cut].copy(), origin

    def _visible(
        self, fragments: Fragments, local: Tensor, normals: Tensor, vertices: np.ndarray, model: Cameras
    ) -> np.ndarray:
        sight = model.centers().numpy() - vertices
        sight /= np.linalg.norm(sight, axis=1, keepdims=True)
        facing = (normals.cpu().numpy()[: len(vertices)] * sight).sum(axis=1)
        return visible_vertices(fragments.depth[0].cpu().numpy(), local[: len(vertices)].numpy(), facing)


@dataclass(frozen=True)
class EmptyRoom:
    """The room without people as a camera sees it: linear light, and the same as a picture."""

    light: Float[np.ndarray, "H W 3"]
    picture: UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Shadow:
    """How much of the lamp's light is kept off (0 to 1) in a part of the image (x0, y0, x1, y1)."""

    region: tuple[int, int, int, int]
    shade: Float[np.ndarray, "h w"]


def floor_shadow(
    light: RoomLight, camera: Camera, model: Cameras, world: Float[Tensor, "N 3"], topology: MeshTopology
) -> Shadow | None:
    """Where a camera sees the floor lie in the shadow of a mesh: coarse, blurred; None where it sees nothing of it."""
    lamp = torch.from_numpy(light.key_direction)
    fallen = world - world[:, 2:] * (lamp / lamp[2])
    pixels, depth = model.project(fallen), model.camera_from_world(fallen)[:, 2:]
    blur = _SHADOW_BLUR * camera.width / _SHADOW_COARSE
    region = image_region(torch.cat([pixels, depth], 1).numpy(), camera, int(3 * blur) * _SHADOW_COARSE)
    if region is None:
        return None
    x0, y0, x1, y1 = region
    size = (-(-(y1 - y0) // _SHADOW_COARSE), -(-(x1 - x0) // _SHADOW_COARSE))
    local = torch.cat([(pixels - pixels.new_tensor([x0, y0])) / _SHADOW_COARSE, depth], dim=1)
    cover = rasterize(local.float()[None].to(topology.corners.device), topology, size).mask[0].cpu().numpy()
    soft = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), blur)
    return Shadow(region, cv2.resize(soft, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR))


def composed(
    empty: EmptyRoom,
    light: RoomLight,
    shadow: Shadow | None,
    layer: Float[Tensor, "h w 4"],
    region: tuple[int, int, int, int],
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of the room with a shadow on its floor and a layer (linear light, coverage) over part of it."""
    image = empty.picture.copy()
    if shadow is not None:
        x0, y0, x1, y1 = shadow.region
        lit = empty.light[y0:y1, x0:x1] * (1.0 - light.shadow * shadow.shade[..., None])
        image[y0:y1, x0:x1] = to_pixels(torch.from_numpy(lit)).numpy()
    x0, y0, x1, y1 = region
    below = torch.from_numpy(image[y0:y1, x0:x1].astype(np.float32) / 255.0).pow(2.2)
    cover = layer[..., 3:].clamp(0.0, 1.0)
    image[y0:y1, x0:x1] = to_pixels(below * (1.0 - cover) + layer[..., :3]).numpy()
    return image


def image_region(screen: np.ndarray, camera: Camera, margin: int = _MARGIN) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of the part of the image that holds what is in front of the camera; None when that is nothing."""
    ahead = screen[screen[:, 2] > 0.1]
    if not len(ahead):
        return None
    low = np.floor(ahead[:, :2].min(axis=0)).astype(int) - margin
    high = np.ceil(ahead[:, :2].max(axis=0)).astype(int) + margin + 1
    x0, y0 = (int(value) for value in np.maximum(low, 0))
    x1, y1 = min(int(high[0]), camera.width), min(int(high[1]), camera.height)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _nobody(image: np.ndarray) -> View:
    nothing = np.zeros((1, 1), np.uint8)
    return View(
        image.copy(),
        np.zeros(2, np.int32),
        nothing,
        np.zeros((1, 1, 3), np.uint8),
        np.zeros(0, np.int64),
        np.zeros((0, 2)),
    )


def block_mesh(seats: Sequence[np.ndarray], first: int) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "m 3"]]:
    """Blocks as vertices (four for each side, so that edges stay sharp) and outward faces that count from `first`."""
    vertices: list[np.ndarray] = []
    faces: list[list[int]] = []
    for block in seats:
        for axis in range(3):
            for end in (0, 1):
                others = [(axis + 1) % 3, (axis + 2) % 3]
                corners = np.zeros((4, 3))
                corners[:, axis] = block[end, axis]
                corners[:, others[0]] = block[[0, 1, 1, 0], others[0]]
                corners[:, others[1]] = block[[0, 0, 1, 1], others[1]]
                order = [0, 1, 2, 3] if end else [0, 3, 2, 1]
                begin = first + 4 * len(vertices)
                faces += [[begin + order[k] for k in triangle] for triangle in ((0, 1, 2), (0, 2, 3))]
                vertices.append(corners)
    if not vertices:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    return np.concatenate(vertices), np.array(faces, dtype=np.int64)
