"""`posekit train mesh-estimator`: trains a network that regresses a body model's parameters from images."""

from __future__ import annotations

from contextlib import ExitStack

from posekit.artifacts.provenance import Header, file_digest
from posekit.config.mesh_estimator import TrainMeshEstimator
from posekit.errors import ConfigError
from posekit.models.backbone import Backbone, build_backbone, feature_count_of
from posekit.models.mesh_estimator import MeshEstimator, MeshEstimatorForm
from posekit.models.mesh_files import load_mesh_checkpoint, read_mean_parameters
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
from posekit.training.loop import LoopSettings, train
from posekit.training.mesh_estimator import STAGE, MeshEstimatorMethod, MeshFacts, take_over
from posekit.training.runs import KIND, LoadedRun, RunFolder, load_run


def train_mesh_estimator(config: TrainMeshEstimator) -> StageReport:
    """Writes a run folder with the weights of trunk and estimator; goes on where an earlier run was stopped.

    With ``--epochs 0`` the weights of `--checkpoint` become a run folder as they are. Raises ConfigError for settings that
    exclude each other, FormatError for weights that do not fit, DataError where no sample is left.
    """
    if sum(given is not None for given in (config.init, config.checkpoint, config.weights_file)) > 1:
        raise ConfigError("several weights to begin with", accepted="one of --init, --checkpoint and --weights-file")
    with ExitStack() as stack:
        inputs = MeshInputs.open(config, stack)
        init = None if config.init is None else load_run(config.init)
        facts = _facts(config, inputs, init)
        run = RunFolder(config.output, _header(config, inputs, init, facts))
        if run.is_finished() and not config.force:
            return StageReport(STAGE, [config.output], skipped=True)
        if config.dry_run:
            names = ", ".join(str(dataset.path) for dataset in inputs.datasets)
            return StageReport(STAGE, [], notes=[f"would train on {names} into {config.output}"])
        if config.force:
            run.start_over()
        device = resolve_device(config.device)
        joints, body = inputs.named_joints(), body_model(inputs, device)
        full = config.supervision == "full"
        source = training_source(config, inputs, facts, joints.names, lambda _: True, lambda _: full, stack)
        backbone, estimator = _networks(config, facts, init)
        method = MeshEstimatorMethod(backbone, estimator, joints_loss_of(config, facts, body, joints), config.lr)
        monitor = mesh_monitor(config, inputs, facts, (backbone, estimator), body, joints.to(device), stack)
        outcome = train(method, source, LoopSettings.from_config(config), run, device, monitor=monitor)
    counts = {"samples": len(source), "no picture": source.without_picture}
    return mesh_report(config, STAGE, outcome, counts, [f"init={facts.init}, sup={config.supervision}"])


def _facts(config: TrainMeshEstimator, inputs: MeshInputs, init: LoadedRun | None) -> MeshFacts:
    if config.input_size % 32:
        raise ConfigError("the crop's side must suit the network", got=config.input_size, accepted="a multiple of 32")
    body = inputs.body
    form = MeshEstimatorForm(
        features=feature_count_of(config.backbone),
        joints=body.joint_count,
        shapes=body.shapedirs.shape[2],
        pose_form=config.pose_form,
        hidden_act=config.hidden_act,
    )
    return MeshFacts(
        config.input_size,
        config.backbone,
        form,
        config.camera,
        config.focal_px,
        body.digest,
        _init(config, init),
        config.supervision,
    )


def _init(config: TrainMeshEstimator, init: LoadedRun | None) -> str:
    """What the training began from, as results say it."""
    if init is not None:
        return f"checkpoint ({MeshFacts.of(init).init}, {MeshFacts.of(init).supervision})"
    if config.checkpoint is not None:
        return "checkpoint" if config.checkpoint_of == "other" else config.checkpoint_of
    return "weights file" if config.weights_file is not None else config.weights


def _header(config: TrainMeshEstimator, inputs: MeshInputs, init: LoadedRun | None, facts: MeshFacts) -> Header:
    files = {"checkpoint": config.checkpoint, "means": config.means, "weights": config.weights_file}
    digests = inputs.digests() | {name: file_digest(path) for name, path in files.items() if path is not None}
    if init is not None:
        digests["init"] = init.digest
    return Header(KIND, STAGE, settings=config.settings(), inputs=digests, seed=config.seed, facts=facts.plain())


def _networks(config: TrainMeshEstimator, facts: MeshFacts, init: LoadedRun | None) -> tuple[Backbone, MeshEstimator]:
    other = init is not None or config.checkpoint is not None
    backbone = build_backbone(config.backbone, "none" if other else config.weights, config.weights_file, config.seed)
    means = None if config.means is None else read_mean_parameters(config.means, facts.form.joints)
    estimator = MeshEstimator(facts.form, means, config.seed)
    if init is not None:
        take_over(backbone, estimator, init)
    elif config.checkpoint is not None:
        load_mesh_checkpoint(config.checkpoint, backbone, estimator)
        if means is not None:
            estimator.set_means(means)
    return backbone, estimator
