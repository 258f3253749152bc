"""Depths for 2D key points, by a network that learned them from 2D poses alone (Yoshiyasu and Gamez 2019, section 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from posekit.errors import FormatError, MissingFileError
from posekit.labeling.depth_networks import DepthGenerator
from posekit.skeleton.catalog import skeleton_by_name
from posekit.skeleton.skeleton import Skeleton

GENERATOR = "generator"
STAGE = "train lifter"
ROOT = "pelvis"
_SMALLEST_POSE = 1e-6


def pose_sizes(points: Float[Tensor, "B J D"], root: int) -> Float[Tensor, " B"]:
    """The mean distance of the other joints to the root: what normalised poses are divided by (Kudo et al. 2018)."""
    return torch.linalg.vector_norm(points - points[:, [root]], dim=-1).sum(1) / (points.shape[1] - 1)


def normalised_poses(points: Float[Tensor, "B J 2"], root: int) -> tuple[Float[Tensor, "B J 2"], Float[Tensor, " B"]]:
    """Poses with the root at the origin and of size one, and the sizes they had; a pose of one point becomes zeros."""
    sizes = pose_sizes(points, root)
    return (points - points[:, [root]]) / sizes.clamp_min(_SMALLEST_POSE)[:, None, None], sizes


def mirrored_poses(points: Float[Tensor, "B J D"], permutation: Sequence[int]) -> Float[Tensor, "B J D"]:
    """What a mirror would show: x turned about, left and right joints renamed."""
    renamed = points[:, list(permutation)]
    return torch.cat([-renamed[..., :1], renamed[..., 1:]], dim=-1)


class Lifter(nn.Module):
    """A trained generator of depths, with the joints that it knows.

    `digest` identifies the weights. Depths are averaged with those of the mirrored pose: what is true of a person is true
    of the mirror image.
    """

    def __init__(self, skeleton: Skeleton, generator: DepthGenerator, digest: str = "") -> None:
        super().__init__()
        self.skeleton = skeleton
        self.generator = generator
        self.digest = digest
        self._root = skeleton.index(ROOT)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The joints that `depths` takes, in this order."""
        return self.skeleton.joints

    @torch.no_grad()
    def depths(
        self, keypoints: Float[Tensor, "B J 2"], valid: Bool[Tensor, "B J"]
    ) -> tuple[Float[Tensor, "B J"], Bool[Tensor, " B"]]:
        """Depths relative to the pelvis in the unit of the key points, larger is farther, and where they are possible.

        Key points have y down, in any unit and from any origin. The network needs all of its joints: poses that lack one,
        and poses whose joints all coincide, get zeros and are not possible.
        """
        weights = next(self.generator.parameters())
        known = valid & keypoints.isfinite().all(-1)
        # In the key points' own precision first: pixels far from the origin lose digits when they are narrowed.
        poses, sizes = normalised_poses(torch.where(known[..., None], keypoints, 0.0), self._root)
        possible = known.all(1) & (sizes > _SMALLEST_POSE * keypoints.detach().abs().amax((1, 2)).nan_to_num(0.0))
        poses = torch.where(possible[:, None, None], poses, 0.0).to(weights)
        depths = self._relative(poses).to(keypoints)
        return torch.where(possible[:, None], depths * sizes[:, None], 0.0), possible

    def _relative(self, poses: Float[Tensor, "B J 2"]) -> Float[Tensor, "B J"]:
        permutation = list(self.skeleton.flip_permutation)
        own, other = self.generator(torch.cat([poses, mirrored_poses(poses, permutation)])).chunk(2)
        depths = 0.5 * (own + other[:, permutation])
        return depths - depths[:, [self._root]]


def load_lifter(run_folder: Path, device: torch.device) -> Lifter:
    """The lifter of a finished run of `posekit train lifter`.

    Raises MissingFileError where there is none, FormatError where the run is that of something else.
    """
    config = _config(run_folder / "config.json")
    settings: Mapping[str, Any] = config["settings"]
    skeleton = skeleton_by_name(str(settings["joints"]))
    generator = DepthGenerator(len(skeleton), int(settings["width"]))
    weights = run_folder / "model.safetensors"
    if not weights.is_file():
        raise MissingFileError("the run holds no trained lifter yet", got=run_folder, hint="Run `posekit train lifter`")
    prefix = f"{GENERATOR}."
    try:
        stored = load_file(weights)
        generator.load_state_dict({k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)})
    except (SafetensorError, RuntimeError) as error:
        raise FormatError(f"{weights} does not hold the weights of a lifter", got=str(error)) from error
    return Lifter(skeleton, generator, str(config["weights_digest"])).to(device).eval()


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(
            "no run of a training here", got=path.parent, hint="Run `posekit train lifter`"
        ) from None
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {path}", got=error) from error
    if not isinstance(config, dict) or config.get("stage") != STAGE:
        stage = config.get("stage") if isinstance(config, dict) else None
        raise FormatError(f"{path.parent} is no run of a lifter", got=stage, accepted=STAGE)
    return config
