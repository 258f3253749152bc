"""Trains a mesh estimator on single pictures without labels (Cha et al. 2021, "Towards Single 2D Image-Level
Self-Supervision for 3D Human Pose and Shape Estimation").

First the heads of the pretext tasks learn from features that stay as they are; then the features and the bodies learn through
heads that stay as they are. Numbers in brackets are the paper's equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from posekit import parallel
from posekit.body.model import BodyModel
from posekit.models.backbone import Backbone, normalised_colours
from posekit.models.discriminator import Discriminator
from posekit.models.mesh_estimator import MeshEstimate, MeshEstimator
from posekit.models.pretext import InPainter, JigsawHead, RotationHead
from posekit.models.texture import TextureNetwork
from posekit.render.textured import TexturedImages, TexturedRenderer
from posekit.training.backgrounds import Backgrounds
from posekit.training.image_ssl_losses import (
    GanForm,
    InPaintingWeights,
    accuracy,
    classification_loss,
    discriminator_loss,
    inpainting_loss,
    mask_loss,
    realness_loss,
    rgb_loss,
)
from posekit.training.mesh_estimator import BACKBONE, ESTIMATOR, JointsLoss
from posekit.training.mesh_samples import MeshBatch
from posekit.training.method import Method, Worker
from posekit.training.pretext_inputs import (
    RIGHT_ANGLES,
    Composite,
    InPaintingTarget,
    inpainting_target,
    jigsaw_pictures,
    over_background,
    pasted,
    patch_of,
    random_classes,
    render_target,
    tile_orders,
    turned,
    with_hole,
)

STAGE_HEADS = "train image-ssl: heads"

JIGSAW, ROTATION, INPAINTER, TEXTURE = "jigsaw", "rotation", "inpainter", "texture"
DISCRIMINATOR, INPAINTING_DISCRIMINATOR = "discriminator", "inpainting_discriminator"
HEADS = (JIGSAW, ROTATION, INPAINTER, DISCRIMINATOR, TEXTURE)

_MOST_TEXTURE_GRADIENT = 1.0
"""What the norm of the texture network's gradient is cut to, where it is."""


@dataclass(frozen=True)
class PretextSettings:
    """What the pretext tasks show: tiles on a side, angles (degrees), the hole's side (px), and in which range it is filled."""

    grid: int = 2
    angles: tuple[int, ...] = RIGHT_ANGLES
    patch: int = 64
    target: InPaintingTarget = "pm1"
    upright: bool = False
    """Turn crops without the turn of the augmentation."""


@dataclass(frozen=True, eq=False)
class PretextHeads:
    """The networks of the pretext tasks and of rendering."""

    jigsaw: JigsawHead
    rotation: RotationHead
    inpainter: InPainter
    discriminator: Discriminator
    texture: TextureNetwork

    def named(self) -> dict[str, nn.Module]:
        """By the names that they are stored under."""
        return {name: getattr(self, name) for name in HEADS}


@dataclass(frozen=True, eq=False)
class Pretext:
    """The tasks that a batch sets, and the plain and normalised pictures of all of them."""

    settings: PretextSettings
    plain: Float[Tensor, "B 3 S S"]
    whole: Float[Tensor, "B 3 S S"]
    tiles: Float[Tensor, "B T 3 S S"]
    orders: Int64[Tensor, " B"]
    rotated: Float[Tensor, "B 3 S S"]
    turns: Int64[Tensor, " B"]
    holed: Float[Tensor, "B 3 S S"]

    @staticmethod
    def of(batch: MeshBatch, settings: PretextSettings, worker: Worker) -> Pretext:
        """Draws tasks for a batch; they do not depend on how many processes share the work."""
        whole = draw_tasks(len(batch) * parallel.world_size(), settings, worker.generator)
        dtype = next(worker.module(DISCRIMINATOR).parameters()).dtype
        return Pretext.set(batch, settings, [worker.mine(part) for part in whole], dtype)

    @staticmethod
    def set(
        batch: MeshBatch, settings: PretextSettings, drawn: Sequence[Tensor], dtype: torch.dtype = torch.float32
    ) -> Pretext:
        """The tasks that `draw_tasks` gave."""
        orders, places, turns = drawn
        plain = plain_pictures(batch.images, dtype)
        upright = plain_pictures(batch.upright, dtype) if settings.upright else plain
        return Pretext(
            settings,
            plain,
            normalised_colours(plain),
            normalised_colours(jigsaw_pictures(plain, orders, places, settings.grid)),
            orders.to(plain.device),
            normalised_colours(turned(upright, turns, settings.angles)),
            turns.to(plain.device),
            normalised_colours(with_hole(plain, settings.patch)),
        )

    @property
    def patches(self) -> Float[Tensor, "B 3 P P"]:
        """What the in-painter is to give."""
        return inpainting_target(patch_of(self.plain, self.settings.patch), self.settings.target)

    def filled(self, given: Float[Tensor, "B 3 P P"]) -> Float[Tensor, "B 3 S S"]:
        """Normalised pictures with what the in-painter gave."""
        return pasted(self.plain, given, self.settings.target)


def draw_tasks(
    count: int, settings: PretextSettings, generator: torch.Generator
) -> tuple[Int64[Tensor, " B"], Float[Tensor, "B T 2"], Int64[Tensor, " B"]]:
    """Orders of tiles, where the tiles are cropped, and turns, for so many pictures."""
    return (
        random_classes(count, jigsaw_classes(settings.grid), generator),
        torch.rand(count, settings.grid**2, 2, generator=generator),
        random_classes(count, len(settings.angles), generator),
    )


def plain_pictures(images: Tensor, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B 3 S S"]:
    """Bytes as colours in [0, 1], channels first."""
    return images.permute(0, 3, 1, 2).to(dtype) / 255.0


@dataclass(frozen=True, eq=False)
class Studio:
    """What draws estimated bodies into crops: the body, the renderer, and the focal length of its cameras (px of 224)."""

    body: BodyModel
    renderer: TexturedRenderer
    focal_px: float = 5000.0
    weak: bool = False

    def draw(self, estimate: MeshEstimate, colours: Float[Tensor, "B F 3"]) -> TexturedImages:
        """Bodies over black."""
        camera = estimate.weak() if self.weak else estimate.perspective(focal_px=self.focal_px)
        return self.renderer.render(estimate.posed(self.body).vertices, camera, colours)


@dataclass(frozen=True)
class HeadSettings:
    """How the heads are trained (the paper's stage 1)."""

    pretext: PretextSettings = field(default_factory=PretextSettings)
    gan: GanForm = "lsgan"
    inpainting: InPaintingWeights = field(default_factory=InPaintingWeights)
    lr_jigsaw: float = 1e-2
    lr_rotation: float = 5e-4
    lr_inpainter: float = 1e-4
    lr_discriminator: float = 1e-4
    lr_texture: float = 1e-2
    lr_texture_backbone: float | None = None
    clip_texture: bool = False


class HeadsMethod(Method[MeshBatch]):
    """The heads learn; features and bodies are those of a network that stays as it is (2 to 6)."""

    def __init__(
        self,
        backbone: Backbone,
        estimator: MeshEstimator,
        heads: PretextHeads,
        studio: Studio,
        settings: HeadSettings,
    ) -> None:
        self._backbone, self._estimator, self._studio = backbone, estimator, studio
        for constant in (backbone, estimator):
            constant.requires_grad_(False)
        self.heads = heads
        self._settings = settings
        rates = {
            JIGSAW: settings.lr_jigsaw,
            ROTATION: settings.lr_rotation,
            INPAINTER: settings.lr_inpainter,
            DISCRIMINATOR: settings.lr_discriminator,
        }
        self._optimizers: dict[str, Optimizer] = {
            name: Adam(getattr(heads, name).parameters(), lr=rate) for name, rate in rates.items()
        }
        self._optimizers[TEXTURE] = Adam(_texture_groups(heads.texture, settings))

    def modules(self) -> dict[str, nn.Module]:
        """The heads."""
        return self.heads.named()

    def optimizers(self) -> dict[str, Optimizer]:
        """One for each head."""
        return dict(self._optimizers)

    def constants(self) -> dict[str, nn.Module]:
        """The network whose features are used."""
        return {BACKBONE: self._backbone, ESTIMATOR: self._estimator, "body": self._studio.body}

    def step(self, batch: MeshBatch, worker: Worker) -> dict[str, Tensor]:
        """One step of every head; also logs how often the classes were found and what the discriminator holds of whom."""
        settings = self._settings
        task = Pretext.of(batch, settings.pretext, worker)
        with torch.no_grad():
            whole, tiles, rotated, holed = features_of(self._backbone, task)
            estimate = self._estimator(whole)
        orders = worker.module(JIGSAW)(tiles, whole)
        turns = worker.module(ROTATION)(rotated)
        given = worker.module(INPAINTER)(holed)
        filled = task.filled(given)
        with worker.through(DISCRIMINATOR) as judge:
            verdict = judge(filled)
        drawn = self._studio.draw(estimate, worker.module(TEXTURE)(task.whole, whole))
        targets = render_target(task.plain, batch.masks)
        losses = {
            "jigsaw": classification_loss(orders, task.orders),
            "rotation": classification_loss(turns, task.turns),
            "inpainting": inpainting_loss(given, task.patches, verdict, settings.inpainting, settings.gan),
            "rgb": rgb_loss(drawn.rgb, targets, batch.masked, masked_count(batch, worker)),
        }
        worker.backward(torch.stack([loss.to(torch.float32) for loss in losses.values()]).sum())
        for name in (JIGSAW, ROTATION, INPAINTER):
            worker.step(name)
        worker.step(TEXTURE, _MOST_TEXTURE_GRADIENT if settings.clip_texture else None)
        losses |= teach(DISCRIMINATOR, task.whole, {"inpainted": filled.detach()}, settings.gan, worker)
        losses |= {
            "jigsaw_accuracy": accuracy(orders, task.orders),
            "rotation_accuracy": accuracy(turns, task.turns),
        }
        return {name: loss.detach() for name, loss in losses.items()}


JointSupervision = Literal["self", "weak", "semi"]


@dataclass(frozen=True)
class SslSettings:
    """How features and bodies are trained (the paper's stage 2), and which of its losses count."""

    pretext: PretextSettings = field(default_factory=PretextSettings)
    inpainting_weights: InPaintingWeights = field(default_factory=InPaintingWeights)
    jigsaw: bool = True
    rotation: bool = True
    inpainting: bool = True
    rgb: bool = True
    mask: bool = True
    real: bool = True
    composite: Composite = "soft"
    inpainted_fakes: bool = True
    """Whether in-painted pictures are imitations in (11)."""
    lr: float = 5e-6
    lr_discriminator: float = 1e-4

    @property
    def renders(self) -> bool:
        """Whether bodies are drawn at all."""
        return self.rgb or self.mask or self.real

    @property
    def teaches(self) -> bool:
        """Whether a discriminator learns."""
        return self.real or (self.inpainting and self.inpainted_fakes)


class ImageSslMethod(Method[MeshBatch]):
    """Features and bodies learn from pictures, and where `joints` is given from labels (7 to 11); the heads stay as they are.

    Running statistics stay too, and nothing is dropped out: the network is in evaluation mode throughout, as in the
    authors' code. `judge` is the discriminator that in-painted pictures are shown to where it is not the one that learns.
    """

    def __init__(
        self,
        backbone: Backbone,
        estimator: MeshEstimator,
        heads: PretextHeads,
        studio: Studio,
        settings: SslSettings,
        backgrounds: Backgrounds,
        joints: JointsLoss | None = None,
        judge: Discriminator | None = None,
    ) -> None:
        self.backbone, self.estimator, self.heads = backbone, estimator, heads
        self.studio, self.settings, self.backgrounds = studio, settings, backgrounds
        self._joints, self._judge = joints, judge
        frozen: list[nn.Module] = [heads.jigsaw, heads.rotation, heads.inpainter, heads.texture]
        frozen += [] if judge is None else [judge]
        frozen += [] if settings.teaches else [heads.discriminator]
        for head in frozen:
            head.requires_grad_(False)
        estimator.requires_grad_(settings.renders or joints is not None)
        self._optimizers: dict[str, Optimizer] = {BACKBONE: Adam(backbone.parameters(), lr=settings.lr)}
        if settings.renders or joints is not None:
            self._optimizers[ESTIMATOR] = Adam(estimator.parameters(), lr=settings.lr)
        if settings.teaches:
            self._optimizers[DISCRIMINATOR] = Adam(heads.discriminator.parameters(), lr=settings.lr_discriminator)

    def modules(self) -> dict[str, nn.Module]:
        """Trunk, estimator and discriminator."""
        return {BACKBONE: self.backbone, ESTIMATOR: self.estimator, DISCRIMINATOR: self.heads.discriminator}

    def optimizers(self) -> dict[str, Optimizer]:
        """Those of what learns: Adam goes number by number, so that trunk and estimator may have one each."""
        return dict(self._optimizers)

    def steady(self) -> frozenset[str]:
        """The discriminator's rate does not fall."""
        return frozenset({DISCRIMINATOR})

    def constants(self) -> dict[str, nn.Module]:
        """The other heads and the body."""
        heads = {name: head for name, head in self.heads.named().items() if name != DISCRIMINATOR}
        judge: dict[str, nn.Module] = {} if self._judge is None else {INPAINTING_DISCRIMINATOR: self._judge}
        return heads | judge | {"body": self.studio.body}

    def step(self, batch: MeshBatch, worker: Worker) -> dict[str, Tensor]:
        """One step of trunk and estimator, then one of the discriminator on what it saw."""
        for name in (BACKBONE, ESTIMATOR):
            worker.module(name).eval()
        settings = self.settings
        task = Pretext.of(batch, settings.pretext, worker)
        whole, tiles, rotated, holed = features_of(worker.module(BACKBONE), task)
        losses: dict[str, Tensor] = {}
        seen: dict[str, Tensor] = {}
        imitations: dict[str, Tensor] = {}
        if settings.jigsaw:
            orders = self.heads.jigsaw(tiles, whole)
            losses["jigsaw"] = classification_loss(orders, task.orders)
            seen["jigsaw_accuracy"] = accuracy(orders, task.orders)
        if settings.rotation:
            turns = self.heads.rotation(rotated)
            losses["rotation"] = classification_loss(turns, task.turns)
            seen["rotation_accuracy"] = accuracy(turns, task.turns)
        if settings.inpainting:
            losses["inpainting"], imitations["inpainted"] = self._inpainted(task, holed, worker)
        if settings.renders or self._joints is not None:
            estimate = worker.module(ESTIMATOR)(whole)
            seen["camera_scale"] = estimate.camera[:, 0].mean()
        if settings.renders:
            found, shares, image = self._rendered(batch, task, whole, estimate, worker)
            losses |= found
            seen |= shares
            imitations |= image
        if self._joints is not None:
            losses |= self._joints(estimate, batch, worker.mean)
        losses["total"] = torch.stack([loss.to(torch.float32) for loss in losses.values()]).sum()
        worker.backward(losses["total"])
        worker.step(BACKBONE)
        if ESTIMATOR in self._optimizers:
            worker.step(ESTIMATOR)
        if settings.teaches:
            if not settings.inpainted_fakes:
                imitations.pop("inpainted", None)
            losses |= teach(DISCRIMINATOR, task.whole, imitations, "lsgan", worker)
        return {name: value.detach() for name, value in (losses | seen).items()}

    def _inpainted(self, task: Pretext, holed: Float[Tensor, "B C"], worker: Worker) -> tuple[Tensor, Tensor]:
        """The loss of the in-painted pictures (4), and the pictures without gradient."""
        given = self.heads.inpainter(holed)
        filled = task.filled(given)
        if self._judge is not None:
            verdict = self._judge(filled)
        else:
            with worker.through(DISCRIMINATOR) as judge:
                verdict = judge(filled)
        loss = inpainting_loss(given, task.patches, verdict, self.settings.inpainting_weights)
        return loss, filled.detach()

    def _rendered(
        self, batch: MeshBatch, task: Pretext, whole: Float[Tensor, "B C"], estimate: MeshEstimate, worker: Worker
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Losses of drawn bodies (6, 9, 10), how well they cover people, and the pictures without gradient."""
        settings = self.settings
        with torch.no_grad():
            colours = self.heads.texture(task.whole, whole)
        drawn = self.studio.draw(estimate, colours)
        count = masked_count(batch, worker)
        masks = batch.masks.to(drawn.mask.dtype)
        losses: dict[str, Tensor] = {}
        if settings.rgb:
            losses["rgb"] = rgb_loss(drawn.rgb, render_target(task.plain, masks), batch.masked, count)
        if settings.mask:
            losses["mask"] = mask_loss(drawn.mask, masks, batch.masked, count)
        images: dict[str, Tensor] = {}
        if settings.real:
            behind = self.backgrounds.crops(len(batch) * parallel.world_size(), worker.generator)
            over = over_background(drawn.rgb, drawn.alpha, worker.mine(behind).to(drawn.rgb), settings.composite)
            images["rendered"] = normalised_colours(over)
            with worker.through(DISCRIMINATOR) as judge:
                losses["real"] = realness_loss(judge(images["rendered"]))
        shares = {"silhouette_iou": overlap(drawn.alpha.detach(), masks, batch.masked, count)}
        return losses, shares, {name: image.detach() for name, image in images.items()}


def jigsaw_classes(grid: int) -> int:
    """How many orders the tiles have."""
    return len(tile_orders(grid))


def masked_count(batch: MeshBatch, worker: Worker) -> Float[Tensor, ""]:
    """How many samples of a process have a mask, on average."""
    return worker.mean(batch.masked.sum().to(torch.float32))


def overlap(
    alpha: Float[Tensor, "B S S"],
    masks: Float[Tensor, "B S S"],
    masked: Tensor,
    count: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Mean intersection over union of covered pixels and masks, over the samples that have one; 0 without."""
    covered, person = alpha > 0.5, masks > 0.5
    both, either = (covered & person).flatten(1).sum(1), (covered | person).flatten(1).sum(1)
    each = torch.where(masked, both / either.clamp_min(1), 0.0)
    return each.sum() / torch.where(count == 0, 1.0, count)


def features_of(backbone: nn.Module, task: Pretext) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of whole pictures, tiles (by slot), turned ones and ones with a hole, in one pass."""
    count, slots = task.tiles.shape[:2]
    features = backbone(torch.cat([task.whole, task.tiles.flatten(0, 1), task.rotated, task.holed]))
    whole, tiles, rotated, holed = features.split([count, count * slots, count, count])
    return whole, tiles.reshape(count, slots, -1), rotated, holed


def teach(
    name: str, photographs: Float[Tensor, "B 3 S S"], imitations: dict[str, Tensor], form: GanForm, worker: Worker
) -> dict[str, Tensor]:
    """A step of a discriminator on photographs and imitations (5, 11), and its mean verdicts."""
    discriminator = worker.module(name)
    real = discriminator(photographs)
    fakes = {kind: discriminator(pictures) for kind, pictures in imitations.items()}
    loss = discriminator_loss(real, list(fakes.values()), form)
    worker.backward(loss)
    worker.step(name)
    verdicts = {f"verdict_{kind}": scores.mean() for kind, scores in fakes.items()}
    return {"discriminator": loss, "verdict_real": real.mean()} | verdicts


def _texture_groups(texture: TextureNetwork, settings: HeadSettings) -> Sequence[dict[str, object]]:
    groups: list[dict[str, object]] = [{"params": list(texture.head.parameters()), "lr": settings.lr_texture}]
    if texture.backbone is not None:
        rate = settings.lr_texture_backbone
        groups.append(
            {"params": list(texture.backbone.parameters()), "lr": settings.lr_texture if rate is None else rate}
        )
    return groups
