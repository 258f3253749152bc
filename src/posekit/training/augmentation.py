"""Random changes of crops that pictures, labels and fitted bodies go through together.

In normalised crop units every change is a linear map about the crop's centre: mirror, turn, enlarge. Depths in crop units
are enlarged with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.body.mirror import BodyMirror, mirrored_axis_angles
from posekit.config.training import CropTrainingConfig
from posekit.errors import ConfigError
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import Targets
from posekit.skeleton.skeleton import mirrored

_LIMITS = {"flip": 1.0, "gain": 1.0, "scale_max": 0.9, "rotation_max": 180.0, "rotation_p": 1.0}


@dataclass(frozen=True)
class Augmentation:
    """How much crops are changed; the defaults are those of SPIN (Kolotouros et al. 2019). Zero switches a change off.

    `flip` is the probability of a mirror image. Every colour channel is multiplied by a number from 1 - `gain` to
    1 + `gain`. The side of the crop is multiplied by a normal number around 1, which differs from 1 by `scale_max` at
    most. With the probability `rotation_p` the crop is turned by a normal angle of at most `rotation_max`; degrees.
    """

    flip: float = 0.5
    gain: float = 0.4
    scale_sd: float = 0.25
    scale_max: float = 0.25
    rotation_sd: float = 30.0
    rotation_max: float = 60.0
    rotation_p: float = 0.4

    @staticmethod
    def of(config: CropTrainingConfig) -> Augmentation | None:
        """The changes of a config, or None."""
        if not config.augment:
            return None
        return Augmentation(
            config.flip, config.gain, config.zoom_sd, config.zoom_max, config.turn_sd, config.turn_max, config.turn_p
        )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = _LIMITS.get(name, float("inf"))
            if not 0.0 <= value <= most:
                raise ConfigError(f"augmentation cannot use this value of {name}", got=value, accepted=f"0 to {most}")

    def draw(self, generators: Sequence[np.random.Generator]) -> CropChange:
        """One change for each generator; as many numbers are taken from each whatever is switched off."""
        uniform = np.stack([generator.random(5) for generator in generators])
        normal = np.stack([generator.standard_normal(2) for generator in generators])
        side = 1.0 + (self.scale_sd * normal[:, 0]).clip(-self.scale_max, self.scale_max)
        degrees = (self.rotation_sd * normal[:, 1]).clip(-self.rotation_max, self.rotation_max)
        return CropChange(
            flip=uniform[:, 0] < self.flip,
            turn=np.where(uniform[:, 1] < self.rotation_p, np.radians(degrees), 0.0),
            zoom=1.0 / side,
            gain=1.0 + self.gain * (2.0 * uniform[:, 2:] - 1.0),
        )


@dataclass(frozen=True, eq=False)
class Sides:
    """What changes places when a picture is mirrored: labelled joints, rig joints and vertices.

    `unpaired` marks labelled joints of one side whose other side has no label: a mirrored picture does not show them.
    """

    joints: Int[Tensor, " J"]
    unpaired: Bool[Tensor, " J"]
    rig: Int[Tensor, " K"]
    vertices: Int[Tensor, " V"]

    @staticmethod
    def of(joint_names: Sequence[str], body: BodyMirror) -> Sides:
        """Of joints by their names, and of a body."""
        places = {name: row for row, name in enumerate(joint_names)}
        return Sides(
            joints=torch.tensor([places.get(mirrored(name), row) for row, name in enumerate(joint_names)]).long(),
            unpaired=torch.tensor([mirrored(name) not in places for name in joint_names]).bool(),
            rig=torch.from_numpy(body.joints),
            vertices=torch.from_numpy(body.vertices),
        )


@dataclass(frozen=True, eq=False)
class CropChange:
    """What is done to each crop of a batch: mirrored left to right, then turned (rad, from x to y), then enlarged.

    `gain` multiplies the colour channels of the picture, red first.
    """

    flip: Bool[np.ndarray, " B"]
    turn: Float[np.ndarray, " B"]
    zoom: Float[np.ndarray, " B"]
    gain: Float[np.ndarray, "B 3"]

    @cached_property
    def linear(self) -> Float[np.ndarray, "B 2 2"]:
        """changed_from_plain in normalised crop units."""
        columns = np.stack([np.where(self.flip, -1.0, 1.0), np.ones(len(self.flip))], axis=1)
        return self.zoom[:, None, None] * self.turns * columns[:, None]

    @property
    def upright(self) -> CropChange:
        """The same without the turn."""
        return replace(self, turn=np.zeros_like(self.turn))

    @cached_property
    def turns(self) -> Float[np.ndarray, "B 2 2"]:
        """The turns alone."""
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        return np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)

    def targets(self, targets: Targets, sides: Sides) -> Targets:
        """Cleaned weak-perspective labels, in the changed crops."""
        flip, zoom = torch.from_numpy(self.flip), torch.from_numpy(self.zoom)

        def swapped(values: Tensor, dim: int) -> Tensor:
            return torch.where(_rows(flip, values), values.index_select(dim, sides.joints), values)

        lost = flip[:, None] & sides.unpaired
        return replace(
            targets,
            keypoints=self._moved(swapped(targets.keypoints, 2)),
            keypoint_weights=swapped(targets.keypoint_weights, 2).masked_fill(lost[:, None], 0.0),
            joints=(swapped(targets.joints, 1) * zoom[:, None, None]).to(targets.joints.dtype),
            joint_weights=swapped(targets.joint_weights, 1).masked_fill(lost[..., None], 0.0),
            points=self._moved(targets.points),
            # Vertex 0 stands where there is no point; there it stays.
            vertices=torch.where(
                flip[:, None, None] & (targets.point_weights > 0), sides.vertices[targets.vertices], targets.vertices
            ),
        )

    def bodies(self, bodies: BodyParameters, sides: Sides) -> BodyParameters:
        """Bodies in the changed crops; the shape coefficients of a mirrored body stay as they are."""
        flip = torch.from_numpy(self.flip)
        across = torch.ones(len(bodies), 3, dtype=torch.float64)
        across[:, 0] = torch.where(flip, -1.0, 1.0)
        turn = torch.eye(3, dtype=torch.float64).repeat(len(bodies), 1, 1)
        turn[:, :2, :2] = torch.from_numpy(self.turns)
        zoom = torch.from_numpy(self.zoom)
        pose, scales = bodies.pose, bodies.segment_scales
        return replace(
            bodies,
            pose=torch.where(_rows(flip, pose), mirrored_axis_angles(pose, sides.rig), pose),
            segment_scales=torch.where(_rows(flip, scales), scales[:, sides.rig], scales),
            orientation=(turn @ (across[:, :, None] * bodies.orientation * across[:, None])).to(pose.dtype),
            translation=(zoom[:, None] * (turn @ (across * bodies.translation)[..., None])[..., 0]).to(pose.dtype),
            scale=(zoom * bodies.scale).to(pose.dtype),
        )

    def _moved(self, points: Float[Tensor, "B 1 N 2"]) -> Float[Tensor, "B 1 N 2"]:
        # In numpy: torch would share larger batches among threads, which loading threads had better not start.
        linear = self.linear[:, None, None]
        x, y = points.numpy()[..., None, 0], points.numpy()[..., None, 1]
        return torch.from_numpy(x * linear[..., 0] + y * linear[..., 1]).to(points.dtype)


def _rows(mask: Bool[Tensor, " B"], like: Tensor) -> Bool[Tensor, "B *ones"]:
    return mask.reshape(-1, *[1] * (like.dim() - 1))
