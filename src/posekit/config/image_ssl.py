"""Config of `posekit train image-ssl`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posekit.config.base import read_path, runtime, setting, write_path
from posekit.config.mesh_estimator import TrainMesh
from posekit.config.training import Decay

SslSupervision = Literal["self", "weak", "semi"]


class TrainImageSsl(TrainMesh):
    """`posekit train image-ssl`: a mesh estimator learns from single images, by pretext tasks and by rendering.

    First the heads of the pretext tasks are trained on the features of the given network (stage 1 of the paper), then the
    network through the heads (stage 2).
    """

    recipes: ClassVar[str] = "image_ssl"

    backgrounds: Path | None = read_path(
        None, "Folder of images without people, which rendered bodies are laid over; default: smooth noise."
    )
    init: Path = read_path("runs/mesh-estimator", "Run folder of the mesh estimator that is trained further.")
    heads: Path | None = write_path(
        None, "Run folder of the trained heads, made where it is not there; default: heads in the folder of the run."
    )
    output: Path = write_path("runs/image-ssl", "Folder of the run: weights, config, logs, checkpoint.")

    epochs_heads: int = setting(10, "Passes over the data for the heads (paper: 10).", ge=1)
    epochs: int = setting(10, "Passes over the data for the network (paper: 10).", ge=1)
    batch: int = setting(16, "Samples of one step, over all processes (authors' code: 16).", ge=1)
    lr: float = setting(5e-6, "Learning rate of Adam for the network (paper: 5e-6).", gt=0)
    decay: Decay = setting("exponential", "How the network's learning rate falls (paper: by 0.99 every epoch).")
    lr_jigsaw: float = setting(1e-2, "Learning rate of the jigsaw head (paper: 0.01).", gt=0)
    lr_rotation: float = setting(5e-4, "Learning rate of the rotation head (paper: 5e-4).", gt=0)
    lr_inpainter: float = setting(1e-4, "Learning rate of the in-painter (paper: 1e-4).", gt=0)
    lr_discriminator: float = setting(1e-4, "Learning rate of the discriminator with the heads (paper: 1e-4).", gt=0)
    lr_texture: float = setting(1e-2, "Learning rate of the texture network (paper: 0.01).", gt=0)
    lr_texture_backbone: float | None = setting(
        None,
        "Learning rate of the texture network's trunk; default: that of the whole (paper); 1e-4 is steadier.",
        gt=0,
    )
    clip_texture: bool = setting(False, "Cut the norm of the texture network's gradient to 1 (not in the paper).")
    disc_lr_stage2: float = setting(
        1e-4, "Learning rate of the discriminator with the network (authors: 1e-4; the paper may mean 5e-6).", gt=0
    )

    supervision: SslSupervision = setting(
        "self",
        "Learn from images alone (self), also from 2D key points of the data sets that --keypoints-of names (weak), or also "
        "from 3D joints of those that --joints-of names (semi).",
    )
    keypoints_of: tuple[str, ...] = setting(
        (),
        "Names of the data sets whose 2D key points are learned from; empty: all but those of --joints-of (authors).",
    )
    joints_of: tuple[str, ...] = setting(
        ("h36m",), "Names of the data sets whose 3D joints are learned from (authors)."
    )

    jigsaw: bool = setting(True, "Learn from jigsaws (2).")
    rotation: bool = setting(True, "Learn from turned images (3).")
    inpainting: bool = setting(True, "Learn from images with a hole (4).")
    rgb: bool = setting(True, "Learn from the colours of rendered bodies (6).")
    mask: bool = setting(True, "Learn from the silhouettes of rendered bodies (10).")
    real: bool = setting(True, "Learn from how real rendered bodies look (9); without, (11) does without them, too.")

    w_inpainting: float = setting(0.999, "Share of likeness in the loss of in-painting (paper: 0.999).", ge=0)
    w_inpainting_real: float = setting(0.001, "Share of the discriminator in it (paper: 0.001).", ge=0)
    jigsaw_grid: Literal[2, 3] = setting(2, "Tiles on a side (paper: 2).")
    rotation_angles: tuple[int, ...] = setting((0, 90, 180, 270), "Angles to tell apart, degrees (paper).")
    rotation_head: Literal["linear", "mlp"] = setting(
        "linear", "Layers of the rotation head: one (authors' code), or two (what the paper's Table 2 may mean)."
    )
    rotation_upright: bool = setting(False, "Turn crops that the augmentation did not turn itself.")
    patch: Literal[8, 16, 32, 64, 128] = setting(64, "Side of the hole (px; paper: 64 of 224).")
    inpainting_target: Literal["pm1", "imagenet"] = setting(
        "pm1", "In-painted colours lie in -1 to 1, or are normalised as images are (authors' code)."
    )
    gan_heads: Literal["lsgan", "bce"] = setting(
        "lsgan", "Adversarial losses of the heads: least squares (paper), or cross-entropy (authors' code)."
    )
    disc_output: Literal["sigmoid", "linear"] = setting("sigmoid", "Last layer of the discriminator (paper: 0 to 1).")
    disc_split: bool = setting(
        False,
        "In-painted images are judged by the discriminator as the heads left it (authors' code); paper: one for all.",
    )
    inpainted_fakes: bool = setting(True, "In-painted images are imitations in (11) (paper); authors' code: no.")
    texture_backbone: Literal["own", "shared"] = setting(
        "own", "Trunk of the texture network: of its own (authors' code), or the network's features."
    )
    texture_weights: Literal["imagenet", "none", "init"] = setting(
        "imagenet", "First weights of its own trunk: torchvision's of ImageNet, random, or those of --init."
    )
    composite: Literal["soft", "hard"] = setting(
        "soft", "Lay rendered bodies over backgrounds by their share of each pixel, or whole pixels (authors' code)."
    )
    edges: Literal["hard", "smooth", "soft"] = setting(
        "hard", "Outlines of rendered bodies: whole pixels (authors' code), smooth, or blurred as SoftRas does."
    )

    pictures: int = runtime(6, "People whose pretext tasks are drawn after every epoch, into pictures/; 0: none.", ge=0)
