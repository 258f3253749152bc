"""`posekit train image-ssl`: a mesh estimator learns from single images by pretext tasks and rendering."""

from __future__ import annotations

import copy
import hashlib
from contextlib import ExitStack
from pathlib import Path

import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header, file_digest
from posekit.config.image_ssl import TrainImageSsl
from posekit.datasets.pictures import find_pictures
from posekit.errors import ConfigError
from posekit.models.backbone import Backbone, build_backbone
from posekit.models.discriminator import Discriminator
from posekit.models.pretext import InPainter, JigsawHead, RotationHead
from posekit.models.texture import TextureNetwork
from posekit.render.textured import TexturedRenderer
from posekit.stages.device import resolve_device
from posekit.stages.mesh_training import (
    MeshInputs,
    body_model,
    joints_loss_of,
    mesh_monitor,
    mesh_report,
    training_source,
)
from posekit.stages.report import StageReport
from posekit.training.backgrounds import Backgrounds
from posekit.training.image_ssl import (
    STAGE_HEADS,
    HeadSettings,
    HeadsMethod,
    ImageSslMethod,
    PretextHeads,
    PretextSettings,
    SslSettings,
    Studio,
    jigsaw_classes,
)
from posekit.training.image_ssl_losses import InPaintingWeights
from posekit.training.image_ssl_pictures import PicturedMonitor
from posekit.training.loop import LoopSettings, train
from posekit.training.mesh_estimator import STAGE_SSL, MeshFacts, load_mesh_estimator
from posekit.training.mesh_samples import MeshSource
from posekit.training.runs import KIND, LoadedRun, RunFolder, load_run

_CPU = torch.device("cpu")

_OF_HEADS = frozenset(
    {
        *("split", "shares", "batch", "precision", "epochs_heads", "edges"),
        *("lr_jigsaw", "lr_rotation", "lr_inpainter", "lr_discriminator", "lr_texture", "lr_texture_backbone"),
        *("clip_texture", "w_inpainting", "w_inpainting_real", "jigsaw_grid", "rotation_angles", "rotation_head"),
        *("rotation_upright", "patch", "inpainting_target", "gan_heads", "disc_output", "texture_backbone"),
        *("texture_weights", "augment", "flip", "gain", "zoom_sd", "zoom_max", "turn_sd", "turn_max", "turn_p"),
    }
)
"""The settings that the heads depend on: trainings that differ in others may share them."""


def train_image_ssl(config: TrainImageSsl) -> StageReport:
    """Writes two run folders, of the heads and of the network; goes on where an earlier run was stopped.

    Raises ConfigError for settings that exclude each other, InputError for files that do not belong together, FormatError
    for a start that is no mesh estimator, DataError where no sample or, for losses that need them, no mask is there.
    """
    with ExitStack() as stack:
        inputs = MeshInputs.open(config, stack)
        init = load_run(config.init)
        facts = MeshFacts.of(init)
        facts.require_body(inputs.body, config.init)
        _check(config, inputs, facts)
        heads_run = RunFolder(config.heads or config.output / "heads", _heads_header(config, inputs, init, facts))
        if config.dry_run:
            names = ", ".join(str(dataset.path) for dataset in inputs.datasets)
            return StageReport(STAGE_SSL, [], notes=[f"would train on {names} into {config.output}"])
        heads, counts = _trained_heads(config, inputs, facts, heads_run, stack)
        run = RunFolder(config.output, _header(config, inputs, init, facts, heads_run))
        if run.is_finished() and not config.force:
            return StageReport(STAGE_SSL, [config.output], skipped=True)
        if config.force:
            run.start_over()
        device = resolve_device(config.device)
        joints, body = inputs.named_joints().to(device), body_model(inputs, device)
        source = _source(config, inputs, facts, joints.names, stack)
        backbone, estimator, _ = load_mesh_estimator(config.init, _CPU)
        studio = _studio(config, facts, inputs, device)
        method = ImageSslMethod(
            backbone,
            estimator,
            heads,
            studio,
            _ssl_settings(config),
            _backgrounds(config, facts.input_size),
            None if config.supervision == "self" else joints_loss_of(config, facts, body, joints),
            copy.deepcopy(heads.discriminator) if config.disc_split else None,
        )
        measure = mesh_monitor(config, inputs, facts, (backbone, estimator), body, joints, stack)
        monitor = PicturedMonitor(method, source, config.output / "pictures", config.pictures, measure)
        outcome = train(method, source, LoopSettings.from_config(config), run, device, monitor=monitor)
    counts |= {"samples": len(source), "no picture": source.without_picture}
    return mesh_report(config, STAGE_SSL, outcome, counts, [f"init={facts.init}, sup={config.supervision}"])


def _check(config: TrainImageSsl, inputs: MeshInputs, facts: MeshFacts) -> None:
    inputs.require_masks()
    losses = ("jigsaw", "rotation", "inpainting", "rgb", "mask", "real")
    if config.supervision == "self" and not any(getattr(config, name) for name in losses):
        raise ConfigError("every loss is off: there is nothing to learn", accepted=[f"--{name}" for name in losses])
    if config.patch > facts.input_size:
        raise ConfigError(
            "the hole is larger than the crop",
            got=f"{config.patch} px of {facts.input_size}",
            accepted="a smaller --patch",
        )
    if config.gan_heads == "bce" and config.disc_output == "linear":
        raise ConfigError(
            "cross-entropy needs scores from 0 to 1", got="--disc-output linear", accepted="--disc-output sigmoid"
        )
    named = {dataset.path.stem for dataset in inputs.datasets}
    strangers = sorted(set(config.keypoints_of) - named)
    if strangers:
        raise ConfigError("--keypoints-of names data sets that are not given", got=strangers, accepted=sorted(named))
    if config.supervision == "semi" and not named & set(config.joints_of):
        raise ConfigError(
            "none of the data sets is named in --joints-of", got=list(config.joints_of), accepted=sorted(named)
        )


def _trained_heads(
    config: TrainImageSsl, inputs: MeshInputs, facts: MeshFacts, run: RunFolder, stack: ExitStack
) -> tuple[PretextHeads, dict[str, int]]:
    """The heads of stage 1, trained where that was not done yet."""
    heads = _new_heads(config, inputs, facts)
    if run.is_finished() and not config.force:
        return _loaded(heads, run.load()), {}
    if config.force:
        run.start_over()
    backbone, estimator, _ = load_mesh_estimator(config.init, _CPU)
    device = resolve_device(config.device)
    # Labels play no part here, so the joints' names do not either.
    source = _source(config, inputs, facts, ("left_hip", "right_hip"), stack)
    settings = HeadSettings(
        _pretext(config),
        config.gan_heads,
        InPaintingWeights(config.w_inpainting, config.w_inpainting_real),
        config.lr_jigsaw,
        config.lr_rotation,
        config.lr_inpainter,
        config.lr_discriminator,
        config.lr_texture,
        config.lr_texture_backbone,
        config.clip_texture,
    )
    method = HeadsMethod(backbone, estimator, heads, _studio(config, facts, inputs, device), settings)
    loop = LoopSettings(
        epochs=config.epochs_heads,
        batch=config.batch,
        lr=config.lr_jigsaw,
        precision=config.precision,
        seed=config.seed,
        workers=config.workers,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
    )
    outcome = train(method, source, loop, run, device)
    return _loaded(_new_heads(config, inputs, facts), run.load()), {"steps of the heads": outcome.steps}


def _new_heads(config: TrainImageSsl, inputs: MeshInputs, facts: MeshFacts) -> PretextHeads:
    features, seed = facts.form.features, config.seed
    trunk: Backbone | None = None
    if config.texture_backbone == "own":
        if config.texture_weights == "init":
            trunk = load_mesh_estimator(config.init, _CPU)[0]
        else:
            trunk = build_backbone(facts.backbone, config.texture_weights, None, seed)
    return PretextHeads(
        JigsawHead(features, config.jigsaw_grid**2, jigsaw_classes(config.jigsaw_grid), seed),
        RotationHead(features, len(config.rotation_angles), config.rotation_head, seed),
        InPainter(features, config.patch, seed),
        Discriminator(config.disc_output, facts.input_size, seed),
        TextureNetwork(len(inputs.body.faces), trunk, features, seed),
    )


def _loaded(heads: PretextHeads, run: LoadedRun) -> PretextHeads:
    for name, head in heads.named().items():
        head.load_state_dict(dict(run.module(name)))
        head.eval()
    return heads


def _source(
    config: TrainImageSsl, inputs: MeshInputs, facts: MeshFacts, names: tuple[str, ...], stack: ExitStack
) -> MeshSource:
    semi = config.supervision == "semi"

    def keypoints(dataset: Artifact) -> bool:
        stem = dataset.path.stem
        wanted = stem in config.keypoints_of if config.keypoints_of else stem not in config.joints_of
        return config.supervision != "self" and wanted

    def joints(dataset: Artifact) -> bool:
        return semi and dataset.path.stem in config.joints_of

    return training_source(config, inputs, facts, names, keypoints, joints, stack, upright=config.rotation_upright)


def _pretext(config: TrainImageSsl) -> PretextSettings:
    return PretextSettings(
        config.jigsaw_grid, config.rotation_angles, config.patch, config.inpainting_target, config.rotation_upright
    )


def _ssl_settings(config: TrainImageSsl) -> SslSettings:
    return SslSettings(
        pretext=_pretext(config),
        inpainting_weights=InPaintingWeights(config.w_inpainting, config.w_inpainting_real),
        jigsaw=config.jigsaw,
        rotation=config.rotation,
        inpainting=config.inpainting,
        rgb=config.rgb,
        mask=config.mask,
        real=config.real,
        composite=config.composite,
        inpainted_fakes=config.inpainted_fakes,
        lr=config.lr,
        lr_discriminator=config.disc_lr_stage2,
    )


def _studio(config: TrainImageSsl, facts: MeshFacts, inputs: MeshInputs, device: torch.device) -> Studio:
    body = body_model(inputs, device)
    weak = facts.camera == "weak"
    renderer = TexturedRenderer(body.faces, facts.input_size, config.edges, perspective=not weak)
    return Studio(body, renderer, facts.focal_px, weak)


def _backgrounds(config: TrainImageSsl, side: int) -> Backgrounds:
    return Backgrounds(side) if config.backgrounds is None else Backgrounds.read(config.backgrounds, side)


def _heads_header(config: TrainImageSsl, inputs: MeshInputs, init: LoadedRun, facts: MeshFacts) -> Header:
    settings = {name: value for name, value in config.settings().items() if name in _OF_HEADS}
    return Header(
        KIND,
        STAGE_HEADS,
        settings=settings,
        inputs=inputs.digests() | {"init": init.digest},
        seed=config.seed,
        facts={"input_size": facts.input_size},
    )


def _header(config: TrainImageSsl, inputs: MeshInputs, init: LoadedRun, facts: MeshFacts, heads: RunFolder) -> Header:
    digests = inputs.digests() | {"init": init.digest, "heads": heads.load().digest}
    if config.backgrounds is not None:
        digests["backgrounds"] = _folder_digest(config.backgrounds)
    described = facts.plain() | {"init": f"{facts.init}, {facts.supervision}", "supervision": config.supervision}
    return Header(KIND, STAGE_SSL, settings=config.settings(), inputs=digests, seed=config.seed, facts=described)


def _folder_digest(folder: Path) -> str:
    """Of the names and contents of the pictures in a folder."""
    found = find_pictures(folder)
    lines = (f"{name}\0{file_digest(path)}\0" for name, path in zip(found.names, found.paths, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
