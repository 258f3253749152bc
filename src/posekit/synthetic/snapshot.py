"""Snapshots: single pictures of several people in a room, with what is exactly known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posekit.body.landmarks import landmarks
from posekit.body.smpl_file import BodyData
from posekit.body.surface import atlas_of
from posekit.camera_stack import stack_cameras
from posekit.records import Camera
from posekit.render.rasterizer import Fragments, rasterize
from posekit.render.shading import vertex_normals
from posekit.render.silhouette import antialias
from posekit.render.topology import MeshTopology
from posekit.skeleton.catalog import COCO17
from posekit.skeleton.skeleton import Skeleton
from posekit.synthetic.bodies import Posed, Take, posed
from posekit.synthetic.clothes import Colour, Outfit, Wardrobe, linear
from posekit.synthetic.light import RoomLight, to_pixels
from posekit.synthetic.room import Room, background
from posekit.synthetic.scene import EmptyRoom, block_mesh, composed, floor_shadow, image_region

_REACH = 0.17
"""A joint lies under the skin: the surface at its pixel may be this much (m) nearer, and it still counts as seen."""


@dataclass(frozen=True)
class Block:
    """A block that stands in the room (minimum and maximum corner, m), and its colour (sRGB)."""

    corners: Float[np.ndarray, "2 3"]
    colour: Colour


@dataclass(frozen=True)
class Shot:
    """What a picture is taken of: one frame of each person's take, from one camera."""

    camera: Camera
    room: Room
    light: RoomLight
    people: tuple[Take, ...]
    outfits: tuple[Outfit, ...]
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class SeenPerson:
    """One person in a picture. `mask` and the others are of the whole image.

    `keypoints` are the joints of the photographer's skeleton: x, y (whole px) and 0 (none), 1 (hidden) or 2 (seen).
    """

    mask: Bool[np.ndarray, "H W"]
    parts: UInt8[np.ndarray, "H W"]
    uv: Float[np.ndarray, "H W 2"]
    keypoints: Float[np.ndarray, "J 3"]


@dataclass(frozen=True)
class Snapshot:
    """A picture and the people in it, in the order of the shot."""

    image: UInt8[np.ndarray, "H W 3"]
    people: tuple[SeenPerson, ...]


class Photographer:
    """Takes pictures of one body model, and notes the joints of a skeleton in them."""

    def __init__(self, body: BodyData, device: torch.device | None = None, skeleton: Skeleton = COCO17) -> None:
        self.body = body
        self._device = device or torch.device("cpu")
        atlas = atlas_of(body)
        self._wardrobe = Wardrobe.of(body)
        self._fields = self._wardrobe.fields.to(self._device)
        self._part = torch.from_numpy(atlas.face_part).to(self._device)
        self._uv = torch.from_numpy(atlas.face_uv.astype(np.float32)).to(self._device)
        # Whoever annotates pictures takes the middle of the hips for the pelvis; the rig's root lies above it.
        points = landmarks(body, ["mid_hip" if joint == "pelvis" else joint for joint in skeleton.joints])
        self._from_joints = points.joint_weights.double().numpy()
        self._from_vertices = points.vertex_weights.double().numpy()
        self._vertex_ids = points.vertex_ids
        self._topologies: dict[tuple[int, int], MeshTopology] = {}

    def take(self, shot: Shot) -> Snapshot:
        """The picture of a shot."""
        bodies = [posed(self.body, person) for person in shot.people]
        blocks, _ = block_mesh([block.corners for block in shot.blocks], 0)
        world = torch.from_numpy(np.concatenate([*(body.vertices[0] for body in bodies), blocks]))
        topology = self._topology(len(bodies), len(shot.blocks))
        model = stack_cameras([shot.camera])[0]
        screen = torch.cat([model.project(world), model.camera_from_world(world)[:, 2:]], dim=1)
        light = background(shot.room, shot.camera, shot.light)
        empty = EmptyRoom(light, to_pixels(torch.from_numpy(light)).numpy())
        region = image_region(screen.numpy(), shot.camera)
        if region is None:
            return Snapshot(empty.picture, ())
        local = screen.clone()
        local[:, :2] -= torch.tensor(region[:2], dtype=torch.float64)
        size = (region[3] - region[1], region[2] - region[0])
        fragments = rasterize(local.float()[None].to(self._device), topology, size)
        layer = self._layer(shot, fragments, world, topology)
        shadow = floor_shadow(shot.light, shot.camera, model, world, topology)
        image = composed(empty, shot.light, shadow, layer, region)
        joints = [model.project(torch.from_numpy(self._joints(body))).numpy() for body in bodies]
        depths = [model.camera_from_world(torch.from_numpy(self._joints(body)))[:, 2].numpy() for body in bodies]
        frame = _Frame(fragments, region, (shot.camera.height, shot.camera.width), len(self.body.faces))
        parts, uv = self._iuv(frame)
        people = []
        for number in range(len(bodies)):
            mask = frame.owner == number
            labels = _keypoints(joints[number], depths[number], mask, frame.depth)
            people.append(SeenPerson(mask, parts * mask, uv * mask[..., None], labels))
        return Snapshot(image, tuple(people))

    def _joints(self, body: Posed) -> Float[np.ndarray, "J 3"]:
        return self._from_joints @ body.joints[0] + self._from_vertices @ body.vertices[0, self._vertex_ids]

    def _topology(self, people: int, blocks: int) -> MeshTopology:
        if (people, blocks) not in self._topologies:
            count = self.body.vertex_count
            _, block_faces = block_mesh([np.array([np.zeros(3), np.ones(3)])] * blocks, people * count)
            faces = [self.body.faces + person * count for person in range(people)]
            whole = torch.from_numpy(np.concatenate([*faces, block_faces]))
            self._topologies[people, blocks] = MeshTopology.from_faces(whole).to(self._device)
        return self._topologies[people, blocks]

    def _layer(self, shot: Shot, fragments: Fragments, world: Tensor, topology: MeshTopology) -> Float[Tensor, "h w 4"]:
        people, faces = len(shot.people), len(self.body.faces)
        normals = vertex_normals(world.float()[None].to(self._device), topology)[0]
        fields = self._fields.repeat(people, 1)
        fields = torch.nn.functional.pad(fields, (0, 0, 0, len(world) - len(fields)))
        values = fragments.interpolate(torch.cat([fields, normals], dim=1)[None])
        colours = values.new_zeros((len(values), 3))
        for number, outfit in enumerate(shot.outfits):
            rows = torch.div(fragments.faces, faces, rounding_mode="floor") == number
            colours[rows] = self._wardrobe.paint(outfit, values[rows, :6])
        for number, block in enumerate(shot.blocks):
            first = people * faces + 12 * number
            rows = (fragments.faces >= first) & (fragments.faces < first + 12)
            colours[rows] = colours.new_tensor(linear(block.colour))
        shaded = shot.light.shade(colours, torch.nn.functional.normalize(values[:, 6:], dim=1))
        layer = fragments.image(torch.cat([shaded, torch.ones_like(shaded[:, :1])], dim=1))
        return antialias(layer, fragments)[0].cpu()

    def _iuv(self, frame: _Frame) -> tuple[UInt8[np.ndarray, "H W"], Float[np.ndarray, "H W 2"]]:
        own = torch.from_numpy(frame.face % len(self.body.faces)).to(self._device)
        weights = frame.fragments.weights.t()[..., None]
        parts = self._part[own].cpu().numpy().astype(np.uint8)
        uv = (self._uv[own] * weights).sum(dim=1).clamp(0.0, 1.0).cpu().numpy()
        return frame.whole(parts), frame.whole(uv.astype(np.float32))


class _Frame:
    """Fragments of part of an image, in the coordinates of all of it. `owner` is the person of each pixel, else -1."""

    def __init__(
        self, fragments: Fragments, region: tuple[int, int, int, int], size: tuple[int, int], body_faces: int
    ) -> None:
        self.fragments = fragments
        self._size = size
        width = fragments.image_size[1]
        place = fragments.pixels.cpu().numpy()
        self._rows, self._columns = place // width + region[1], place % width + region[0]
        self.face: Int[np.ndarray, " N"] = fragments.faces.cpu().numpy()
        self.owner = self.whole(self.face // body_faces + 1) - 1
        depth = fragments.depth[0].cpu().numpy()
        self.depth = np.full(size, np.inf, np.float32)
        self.depth[region[1] : region[3], region[0] : region[2]] = depth

    def whole(self, values: np.ndarray) -> np.ndarray:
        """Values of the fragments as an image, zero elsewhere."""
        image = np.zeros((*self._size, *values.shape[1:]), values.dtype)
        image[self._rows, self._columns] = values
        return image


def _keypoints(
    pixels: Float[np.ndarray, "J 2"],
    depths: Float[np.ndarray, " J"],
    mask: Bool[np.ndarray, "H W"],
    surface: Float[np.ndarray, "H W"],
) -> Float[np.ndarray, "J 3"]:
    height, width = mask.shape
    rounded = np.rint(pixels)
    inside = (rounded >= 0).all(axis=1) & (rounded < [width, height]).all(axis=1) & (depths > 0)
    x, y = rounded.T.astype(np.int64)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    seen = mask[y, x] & (depths <= surface[y, x] + _REACH)
    # Annotators guess hidden joints amid what they see of a person, and no others.
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.zeros((len(pixels), 3))
    # A pixel to spare: points on the very edge of a body, as the top of the head, round to pixels beside it.
    guessed = (x >= columns.min() - 1) & (x <= columns.max() + 1) & (y >= rows.min() - 1) & (y <= rows.max() + 1)
    labelled = inside & (seen | guessed)
    labels = np.where(labelled, np.where(seen, 2.0, 1.0), 0.0)
    return np.concatenate([np.where(labelled[:, None], rounded, 0.0), labels[:, None]], axis=1)


def people_in(people: Sequence[SeenPerson], least: int) -> list[int]:
    """The numbers of those of whom at least so many pixels are seen."""
    return [number for number, person in enumerate(people) if int(person.mask.sum()) >= least]
