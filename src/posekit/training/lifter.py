"""The adversarial training of the lifter (Yoshiyasu and Gamez 2019, section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from posekit import parallel
from posekit.config.lifter import TrainLifter
from posekit.errors import ConfigError
from posekit.labeling.depth_networks import DepthGenerator, PoseDiscriminator
from posekit.labeling.lifting import GENERATOR, ROOT, pose_sizes
from posekit.skeleton.skeleton import Skeleton
from posekit.training.method import Method, Worker
from posekit.training.pose_geometry import PoseGeometry, Projection, Turntable
from posekit.training.poses import PoseBatch

DISCRIMINATOR = "discriminator"
TURNTABLE = "turntable"
BETAS = (0.5, 0.999)
"""Of Adam, as adversarial trainings have them since Radford et al. 2016."""

_SMALLEST_VIEW = 1e-3
_CONSISTENCY_BEGINS, _CONSISTENCY_WHOLE = 0.15, 0.35
"""Shares of the training. A generator that does not know front from back yet would be held to what it says."""


class LifterMethod(Method[PoseBatch]):
    """Learns depths such that lifted poses, seen from elsewhere, look like poses of the data.

    One step of the discriminator and one of the generator for each batch. `rest` are the resting joints of the average
    body. Raises ConfigError for settings that exclude each other.
    """

    def __init__(self, config: TrainLifter, skeleton: Skeleton, rest: Float[Tensor, "J 3"]) -> None:
        if not config.angles and not config.random_angles:
            raise ConfigError("poses are to be judged from no angle", hint="Give --angles or --random-angles")
        self._config = config
        self._skeleton, self._root = skeleton, skeleton.index(ROOT)
        self._projection = Projection(config.distance)
        self.geometry = PoseGeometry(skeleton, rest)
        first = torch.Generator().manual_seed(config.seed)
        self.generator = DepthGenerator(len(skeleton), config.width, generator=first)
        width = config.discriminator_width or config.width
        self._discriminator = PoseDiscriminator(len(skeleton), width, generator=first)
        self._turntable = Turntable(math.radians(config.tilt)).requires_grad_(config.learn_tilt)
        self._optimizers: dict[str, Optimizer] = {
            name: Adam(module.parameters(), lr=config.lr, betas=BETAS) for name, module in self.modules().items()
        }
        if config.orientation == "nose":
            self.geometry.nose(rest[None])  # raises for joints without a neck

    def modules(self) -> dict[str, nn.Module]:
        """Both networks, and the tilt of the cameras where that is learned."""
        networks: dict[str, nn.Module] = {GENERATOR: self.generator, DISCRIMINATOR: self._discriminator}
        return networks | ({TURNTABLE: self._turntable} if self._config.learn_tilt else {})

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each."""
        return self._optimizers

    def constants(self) -> dict[str, nn.Module]:
        """The tilt of the cameras where it is given."""
        return {} if self._config.learn_tilt else {TURNTABLE: self._turntable}

    def step(self, batch: PoseBatch, worker: Worker) -> dict[str, Tensor]:
        """One step of each network; the losses by name, unweighted."""
        real = batch.poses
        depths = self._lifted(worker.module(GENERATOR), real)
        points = self._projection.lift(real, depths)
        angles = self._angles(len(real), worker)
        views = self._turned(points[:, None].expand(-1, angles.shape[1], -1, -1), angles, worker)
        seen = self._projection.project(views)
        sizes = pose_sizes(seen.flatten(0, 1), self._root).clamp_min(_SMALLEST_VIEW).reshape(angles.shape)
        made = seen / sizes[..., None, None]
        judged = self._discriminate(real, made.detach(), worker)
        worker.backward(judged["discriminator"])
        worker.step(DISCRIMINATOR)
        losses = self._prior_losses(points)
        losses["adversarial"] = F.softplus(-self._logits(made, worker)).mean()
        if self._config.w_consistency:
            losses["consistency"] = self._consistency(real, views, made, sizes, angles, worker)
        worker.backward(self._weighted(losses, worker.progress))
        worker.step(GENERATOR)
        if self._config.learn_tilt:
            worker.step(TURNTABLE)
            losses["tilt_degrees"] = torch.rad2deg(self._turntable.tilt)
        return {name: loss.detach() for name, loss in (losses | judged).items()}

    def _lifted(self, generator: nn.Module, poses: Float[Tensor, "B J 2"]) -> Float[Tensor, "B J"]:
        depths: Tensor = generator(poses)
        return depths - depths[:, [self._root]]

    def _turned(
        self, points: Float[Tensor, "B N J 3"], angles: Float[Tensor, "B N"], worker: Worker
    ) -> Float[Tensor, "B N J 3"]:
        turn = worker.module(TURNTABLE) if self._config.learn_tilt else self._turntable
        turned: Tensor = turn(points, angles)
        return turned

    def _angles(self, count: int, worker: Worker) -> Float[Tensor, "B N"]:
        if self._config.random_angles:
            return 2.0 * math.pi * self._random(torch.rand, count, (self._config.random_angles,), worker)
        fixed = torch.tensor(self._config.angles, device=worker.device)
        return fixed.deg2rad().expand(count, -1)

    def _random(self, draw: Callable[..., Tensor], count: int, shape: Sequence[int], worker: Worker) -> Tensor:
        whole = draw((count * parallel.world_size(), *shape), generator=worker.generator)
        return worker.mine(whole).to(worker.device)

    def _discriminate(
        self, real: Float[Tensor, "B J 2"], made: Float[Tensor, "B N J 2"], worker: Worker
    ) -> dict[str, Tensor]:
        logits = self._logits(torch.cat([real[:, None], made], dim=1), worker)
        loss = F.softplus(-logits[:, 0]).mean() + F.softplus(logits[:, 1:]).mean()
        right = 0.5 * ((logits[:, 0] > 0).float().mean() + (logits[:, 1:] < 0).float().mean())
        return {"discriminator": loss, "told_apart": right}

    def _logits(self, poses: Float[Tensor, "B N J 2"], worker: Worker) -> Float[Tensor, "B N"]:
        """Verdicts on poses that were disturbed a little, real and made ones alike, so that few data are not learned by
        heart (Karras et al. 2020)."""
        count, each = poses.shape[:2]
        if self._config.sway:
            sway = math.radians(self._config.sway) * self._random(torch.randn, count, (each, 1), worker)
            x, y = poses.unbind(-1)
            poses = torch.stack([x * sway.cos() - y * sway.sin(), x * sway.sin() + y * sway.cos()], dim=-1)
        if self._config.blur:
            noise = self._random(torch.randn, count, poses.shape[1:], worker)
            poses = poses + self._config.blur * (noise - noise[:, :, [self._root]])
        logits: Tensor = worker.module(DISCRIMINATOR)(poses.flatten(0, 1))
        return logits.reshape(count, each)

    def _prior_losses(self, points: Float[Tensor, "B J 3"]) -> dict[str, Tensor]:
        lengths = self.geometry.bone_lengths(points)
        losses = {"ratio": self.geometry.ratio(lengths), "symmetry": self.geometry.symmetry(lengths)}
        if self._config.orientation != "none":
            knees = self._config.orientation == "knee"
            losses["orientation"] = self.geometry.knees(points) if knees else self.geometry.nose(points)
        if self._config.w_twist:
            losses["twist"] = self.geometry.twist(points, math.radians(self._config.twist))
        return {name: loss.mean() for name, loss in losses.items()}

    def _consistency(
        self,
        real: Float[Tensor, "B J 2"],
        views: Float[Tensor, "B N J 3"],
        made: Float[Tensor, "B N J 2"],
        sizes: Float[Tensor, "B N"],
        angles: Float[Tensor, "B N"],
        worker: Worker,
    ) -> Tensor:
        """Squared differences of a view's depths from those it gets when lifted itself, and of the pose from what is seen
        when that is turned back."""
        depths = self._lifted(worker.module(GENERATOR), made.flatten(0, 1)).reshape(made.shape[:-1]) * sizes[..., None]
        again = self._projection.lift(made * sizes[..., None, None], depths)
        back = self._projection.project(self._turned(again, -angles, worker))
        seen = (back - real[:, None]).square().sum((-1, -2))
        return ((depths - views[..., 2]).square().sum(-1) + seen).mean()

    def _weighted(self, losses: dict[str, Tensor], progress: float) -> Tensor:
        config = self._config
        share = (progress - _CONSISTENCY_BEGINS) / (_CONSISTENCY_WHOLE - _CONSISTENCY_BEGINS)
        weights = {
            "adversarial": config.w_adversarial,
            "ratio": config.w_ratio,
            "symmetry": config.w_symmetry,
            "orientation": config.w_orientation,
            "twist": config.w_twist,
            "consistency": config.w_consistency * min(1.0, max(0.0, share)),
        }
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
