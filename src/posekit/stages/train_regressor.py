"""`posekit train regressor`: trains the network that regresses bodies from images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, FITS
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.base import beside
from posekit.config.regressor import TrainRegressor
from posekit.errors import ConfigError, DataError
from posekit.labeling.lifting import Lifter, load_lifter
from posekit.models.backbone import build_backbone
from posekit.models.body_regressor import BodyRegressor
from posekit.records import cameras_from_columns
from posekit.registration.bodies import BodyRows, KeyedRows, bodies_of, of_split, pack_keys
from posekit.registration.depths import labelled_landmarks
from posekit.registration.fitting import vertex_parts
from posekit.registration.labels import LabelReader, LabelSource
from posekit.registration.landmarks import LandmarkBlends
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport, require_same_source
from posekit.training.augmentation import Augmentation
from posekit.training.body_losses import LossBody
from posekit.training.crops import CropPart, CropSource
from posekit.training.loop import LoopSettings, TrainingOutcome, train
from posekit.training.regressor import (
    REGRESSOR,
    STAGE,
    RegressorFacts,
    RegressorMethod,
    RegressorSettings,
    load_weights,
)
from posekit.training.regressor_monitor import RegressorMonitor
from posekit.training.runs import KIND, LoadedRun, RunFolder, load_run
from posekit.training.single_step import ProjectionAdversary


def train_regressor(config: TrainRegressor) -> StageReport:
    """Writes a run folder with the weights of the regressor; goes on where an earlier run was stopped.

    Learns from training subjects' images, their 2D labels, depths that a lifter gives these, and registered bodies; no 3D
    joint of the data sets is read, except to log errors of other subjects where that is asked for. Raises ConfigError for
    settings that exclude each other, InputError for files that do not belong together, and DataError where no sample is
    left to learn from.
    """
    settings = RegressorSettings.of(config)
    if not any(vars(settings.weights).values()):
        raise ConfigError("every weight is zero: there is nothing to learn")
    with ExitStack() as stack:
        inputs = _open_inputs(config, stack)
        run = RunFolder(config.output, _header(config, inputs))
        finished = run.is_finished() and not config.force
        if config.dry_run and not finished:
            names = ", ".join(str(dataset.path) for dataset in inputs.datasets)
            return StageReport(STAGE, [], notes=[f"would train on {names} into {config.output}"])
        if finished:
            return StageReport(STAGE, [config.output], skipped=True)
        if config.force:
            run.start_over()
        landmarks = _landmarks(inputs)
        parts, left_out = _parts(config, inputs, landmarks)
        augmentation = Augmentation.of(config)
        source = stack.enter_context(
            closing(CropSource(parts, config.input_size, augmentation, config.seed, inputs.body.body))
        )
        left_out["no picture"] += source.without_picture
        notes = _notes(parts)
        body = LossBody(inputs.body, landmarks, config.robust_px or None)
        method = _method(config, settings, inputs, body)
        monitor = _monitor(config, inputs, landmarks, method, body, stack)
        loop = LoopSettings.from_config(config)
        outcome = train(method, source, loop, run, resolve_device(config.device), monitor=monitor)
    return _report(config, outcome, len(source), left_out, [*notes, *outcome.notes])


@dataclass(frozen=True, eq=False)
class _Inputs:
    """The opened inputs; `fits` and `dense` have one entry for each data set."""

    datasets: list[Artifact]
    fits: list[Artifact | None]
    dense: list[Artifact | None]
    lifter: Lifter | None
    init: LoadedRun | None
    weights_digest: str | None
    body: SegmentScaledBody

    def digests(self) -> dict[str, str]:
        """Digests of what is there, by role."""
        files: list[tuple[str, Sequence[Artifact | None]]] = [
            ("dataset", self.datasets),
            ("fits", self.fits),
            ("dense", self.dense),
        ]
        found = {
            f"{role}{number}": artifact.digest
            for role, artifacts in files
            for number, artifact in enumerate(artifacts)
            if artifact is not None
        }
        named = {
            "lifter": None if self.lifter is None else self.lifter.digest,
            "init": None if self.init is None else self.init.digest,
            "weights": self.weights_digest,
        }
        return found | {role: digest for role, digest in named.items() if digest} | {"body": self.body.body.digest}


def _open_inputs(config: TrainRegressor, stack: ExitStack) -> _Inputs:
    if not config.datasets:
        raise ConfigError("no data set to learn from", hint="Give at least one with --datasets")
    if config.init is not None and config.weights_file is not None:
        raise ConfigError("a regressor and weights of a trunk to begin with", accepted="--init or --weights-file")
    datasets = [stack.enter_context(Artifact(path, DATASET)) for path in config.datasets]
    fits: list[Artifact | None] = [None] * len(datasets)
    if config.supervision == "fits":
        paths = _one_each("fits", config.fits, config.datasets) or [beside(d, "fits", ".h5") for d in config.datasets]
        fits = [stack.enter_context(Artifact(path, FITS)) for path in paths]
    given = _one_each("dense", config.dense, config.datasets)
    usual = [beside(path, "labels", ".dense.h5") for path in config.datasets]
    dense = [
        stack.enter_context(Artifact(path, CORRESPONDENCES)) if given or path.exists() else None
        for path in given or usual
    ]
    for artifacts in (fits, dense):
        for artifact, dataset in zip(artifacts, datasets, strict=True):
            # Correspondences made beside raw data know names instead of the rows of a data set.
            if artifact is not None and "sequence_names" not in artifact.header.facts:
                require_same_source(artifact, "dataset", dataset)
    return _Inputs(
        datasets,
        fits,
        dense,
        None if config.lifter is None else load_lifter(config.lifter, torch.device("cpu")),
        None if config.init is None else load_run(config.init),
        None if config.weights_file is None else file_digest(config.weights_file),
        SegmentScaledBody(load_body(config.body)),
    )


def _one_each(role: str, paths: Sequence[Path], datasets: Sequence[Path]) -> list[Path]:
    if paths and len(paths) != len(datasets):
        raise ConfigError(f"--{role} needs one file for each data set", got=len(paths), accepted=len(datasets))
    return list(paths)


def _header(config: TrainRegressor, inputs: _Inputs) -> Header:
    body = inputs.body.body
    facts = RegressorFacts(config.input_size, config.backbone, config.rotations, body.joint_count, body.digest)
    return Header(
        KIND,
        STAGE,
        settings=config.settings(),
        inputs=inputs.digests(),
        seed=config.seed,
        facts=facts.plain(),
    )


def _landmarks(inputs: _Inputs) -> LandmarkBlends:
    """The joints that any data set labels or the lifter gives depths."""
    skeletons = [dataset.skeleton for dataset in inputs.datasets]
    return labelled_landmarks(inputs.body, skeletons, inputs.lifter)


def _reader(config: TrainRegressor, inputs: _Inputs, number: int, landmarks: LandmarkBlends) -> LabelReader:
    dataset = inputs.datasets[number]
    return LabelReader(
        LabelSource(
            dataset,
            cameras_from_columns(dataset.table("cameras")),
            None,
            inputs.dense[number],
            landmarks.names,
            weak=True,
            seed=config.seed,
            lifter=inputs.lifter,
            vertex_part=vertex_parts(inputs.body.body),
        )
    )


def _parts(config: TrainRegressor, inputs: _Inputs, landmarks: LandmarkBlends) -> tuple[list[CropPart], dict[str, int]]:
    """What is learned from, and how many bodies are left out or without fit, by reason."""
    parts: list[CropPart] = []
    require_fit = config.supervision == "fits" and config.unfitted == "leave-out"
    counts = {"of other subjects": 0, "no picture": 0, "no fit": 0, "fit not ok": 0}
    for number, (dataset, fits) in enumerate(zip(inputs.datasets, inputs.fits, strict=True)):
        every = _bodies(dataset)
        bodies = every if config.split == "all" else every.select(of_split(dataset, every, "train"))
        counts["of other subjects"] += len(every) - len(bodies)
        if not len(bodies):
            raise DataError(f"{dataset.path} has no training subject", hint="Learn from everybody with --split all")
        parts.append(CropPart(dataset, _reader(config, inputs, number, landmarks), bodies, fits, require_fit))
        if fits is not None:
            rows = KeyedRows(_keys(fits)).find(pack_keys(bodies.sequence, bodies.frame, bodies.person, bodies.camera))
            counts["no fit"] += int((rows < 0).sum())
            counts["fit not ok"] += int((~fits.read("fits", "ok")[rows[rows >= 0]]).sum())
    return parts, counts


def _bodies(dataset: Artifact) -> BodyRows:
    return bodies_of(dataset, joint_views=False, usable=np.ones(dataset.rows("cameras"), dtype=bool), stride=1)


def _keys(fits: Artifact) -> Int[np.ndarray, " N"]:
    return pack_keys(*(fits.read("fits", name) for name in ("sequence", "frame", "person", "camera")))


def _method(config: TrainRegressor, settings: RegressorSettings, inputs: _Inputs, body: LossBody) -> RegressorMethod:
    pretrained = "none" if inputs.init is not None else config.weights
    backbone = build_backbone(config.backbone, pretrained, config.weights_file, config.seed)
    regressor = BodyRegressor(backbone, body.body.joint_count, config.rotations, config.seed)
    if inputs.init is not None and config.init is not None:
        load_weights(regressor, inputs.init.module(REGRESSOR), config.init)
    if not settings.weights.adversary:
        return RegressorMethod(regressor, body, settings)
    annotated = set.intersection(*(set(dataset.skeleton.joints) for dataset in inputs.datasets))
    adversary = ProjectionAdversary(body.joint_names, sorted(annotated), config.angles)
    discriminator = adversary.discriminator(config.adversary_width, config.seed)
    return RegressorMethod(regressor, body, settings, adversary, discriminator)


def _monitor(
    config: TrainRegressor,
    inputs: _Inputs,
    landmarks: LandmarkBlends,
    method: RegressorMethod,
    body: LossBody,
    stack: ExitStack,
) -> RegressorMonitor | None:
    """What measures images of test subjects, evenly chosen; None where there is nothing to measure."""
    held: list[tuple[int, BodyRows]] = []
    for number, dataset in enumerate(inputs.datasets):
        bodies = _bodies(dataset)
        test = bodies.select(of_split(dataset, bodies, "test"))
        if len(test) and dataset.has("samples", "joints3d"):
            held.append((number, test))
    count = -(-config.monitor_samples // max(1, len(held)))
    if not count or not held:
        return None
    parts = [
        CropPart(
            inputs.datasets[number],
            _reader(config, replace(inputs, lifter=None), number, landmarks),
            test.select(np.unique(np.linspace(0, len(test) - 1, count).round().astype(np.int64))),
        )
        for number, test in held
    ]
    source = stack.enter_context(closing(CropSource(parts, config.input_size, None, config.seed, inputs.body.body)))
    datasets = [part.dataset for part in parts]
    return RegressorMonitor(method.regressor, body, source, datasets, config.precision, config.monitor_every)


def _notes(parts: Sequence[CropPart]) -> list[str]:
    shaped = [part.fits.path for part in parts if part.fits is not None and part.fits.read("fits", "betas").any()]
    return [
        f"{path} holds shape coefficients, which the regressor does not have; register with --no-fit-betas"
        for path in shaped
    ]


def _report(
    config: TrainRegressor, outcome: TrainingOutcome, samples: int, left_out: dict[str, int], notes: Sequence[str]
) -> StageReport:
    metrics = {f"loss_{name}": value for name, value in outcome.losses.items()} | dict(outcome.monitored)
    metrics |= {"seconds": outcome.seconds, "waiting_share": outcome.waiting_share}
    what = "left out" if config.unfitted == "leave-out" else "without fit, learned from by labels"
    missing = left_out["no fit"] + left_out["fit not ok"]
    said = list(notes)
    if missing:
        said.append(
            f"{missing} images {what}: {left_out['no fit']} have no fit, {left_out['fit not ok']} one that is not ok"
        )
    counts = {"samples": samples, "steps": outcome.steps} | {name: count for name, count in left_out.items() if count}
    return StageReport(STAGE, [config.output], skipped=outcome.skipped, metrics=metrics, counts=counts, notes=said)
