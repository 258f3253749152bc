"""The deform-and-learn strategy: register, train, predict, and register again from what was predicted.

Every step is a stage that writes files and skips what is there already, so a killed run goes on where it stopped::

    OUTPUT/lifter/                  the lifter, when none is given
    OUTPUT/round-1/NAME.fits.h5     bodies registered to each data set's training images
    OUTPUT/round-1/model/           the regressor that learned from them
    OUTPUT/round-1/NAME.h5          its predictions, from which the next round starts
    OUTPUT/round-1/NAME.json        errors, where there is ground truth
    OUTPUT/                         the model of the last round, and history.json
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from posekit import parallel
from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET
from posekit.atomic import replacing
from posekit.config.base import StageConfig, beside, build_config
from posekit.config.deform_and_learn import TrainDeformAndLearn
from posekit.config.labels import Register
from posekit.config.lifter import TrainLifter
from posekit.config.prediction import Predict
from posekit.config.regressor import Supervision, TrainRegressor
from posekit.config.results import Evaluate, Heading
from posekit.errors import ConfigError, MissingFileError
from posekit.stages.evaluate import evaluate
from posekit.stages.predict import predict
from posekit.stages.register import register
from posekit.stages.report import StageReport, Table, optional_input
from posekit.stages.train_lifter import train_lifter
from posekit.stages.train_regressor import train_regressor
from posekit.training.runs import CONFIG, WEIGHTS

STAGE = "train deform-and-learn"
HISTORY = "history.json"

_SUPERVISION: Mapping[str, Supervision] = {
    "rounds": "fits",
    "single-step": "labels",
    "single-step-noadv": "labels-no-adversary",
}
_TRAIN, _TEST = "deform-and-learn-train", "deform-and-learn"

logger = logging.getLogger(__name__)

Config = TypeVar("Config", bound=StageConfig)


def train_deform_and_learn(config: TrainDeformAndLearn) -> StageReport:
    """Runs all rounds; ends in the last round's model in `config.output` and a table of what each round measured.

    Raises ConfigError for settings that a stage does not know, before any work, and what the stages raise.
    """
    plan = _Plan.of(config)
    if config.dry_run:
        return StageReport(STAGE, [], notes=[plan.summary()])
    lifter = _lifter(config)
    history = [_round(config, number, datasets, lifter) for number, datasets in enumerate(plan.datasets, start=1)]
    if parallel.is_main():
        _publish(config, len(history))
        with replacing(config.output / HISTORY) as temporary:
            temporary.write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")
    parallel.wait_for_all()
    return _report(config, history)


@dataclass(frozen=True)
class _Data:
    """A data set with its correspondences and truth."""

    path: Path
    dense: Path
    truth: Path | None
    has_joints3d: bool

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class _Plan:
    """The data sets of each round; making one checks every setting."""

    config: TrainDeformAndLearn
    datasets: Sequence[Sequence[_Data]]

    @staticmethod
    def of(config: TrainDeformAndLearn) -> _Plan:
        every = _data(config)
        names = [data.name for data in every]
        if len(set(names)) < len(names):
            raise ConfigError("data sets must have different names", got=names, hint="Rename one of the files")
        last = [data for data in every if not config.last_datasets or data.path in config.last_datasets]
        stray = sorted(str(path) for path in config.last_datasets if path not in config.datasets)
        if stray:
            raise ConfigError("--last-datasets are not all among --datasets", got=stray, accepted=config.datasets)
        rounds = config.rounds if config.strategy == "rounds" else 1
        plan = _Plan(config, [every] * (rounds - 1) + [last if rounds > 1 else every])
        folder = _folder(config, 1)
        if config.lifter is None and config.use_lifter:
            _lifter_config(config)
        for number in (1, 2):
            _register_config(config, number, folder, every[0], None)
        _regressor_config(config, 1, every, None)
        return plan

    def summary(self) -> str:
        names = [", ".join(data.name for data in datasets) for datasets in self.datasets]
        return f"would run strategy {self.config.strategy}: " + "; ".join(
            f"round {number} on {name}" for number, name in enumerate(names, start=1)
        )


def _data(config: TrainDeformAndLearn) -> list[_Data]:
    for name, paths in (("dense", config.dense), ("truth", config.truth)):
        if paths and len(paths) != len(config.datasets):
            raise ConfigError(f"--{name} needs one file for each data set", got=paths, accepted=config.datasets)
    found = []
    for row, path in enumerate(config.datasets):
        if not path.exists():
            raise MissingFileError("there is no data set", got=path, hint="Run `posekit preprocess` first")
        with Artifact(path, DATASET) as dataset:
            has_joints3d = dataset.has("samples", "joints3d")
        given = config.dense[row] if config.dense else None
        dense = optional_input(given, beside(path, "labels", ".dense.h5"))
        if dense is None:
            raise MissingFileError(
                f"there are no dense correspondences for {path}",
                accepted="labels/NAME.dense.h5, or --dense",
                hint="Run `posekit pseudo-label surface`, or preprocess a data set that has annotations",
            )
        found.append(_Data(path, dense, config.truth[row] if config.truth else None, has_joints3d))
    return found


def _folder(config: TrainDeformAndLearn, number: int) -> Path:
    return config.output / f"round-{number}"


def _built(kind: type[Config], option: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Config:
    """The config of a stage from the settings given for it; those that the strategy fixes cannot be given."""
    taken = sorted(set(given) & set(fixed))
    if taken:
        raise ConfigError(f"{STAGE} sets these itself", got=taken, hint=f"Take them out of --{option}")
    try:
        return build_config(kind, {**given, **fixed})
    except ConfigError as error:
        raise ConfigError(f"--{option}: {error}") from error


def _common(config: TrainDeformAndLearn) -> dict[str, Any]:
    return {"seed": config.seed, "device": config.device, "force": config.force}


def _lifter_config(config: TrainDeformAndLearn) -> TrainLifter:
    fixed = {"datasets": config.datasets, "output": config.output / "lifter", **_common(config)}
    return _built(TrainLifter, "lifter-settings", config.lifter_settings, fixed)


def _lifter(config: TrainDeformAndLearn) -> Path | None:
    """The run folder of the lifter, trained now if there is none; None when it is not to be used."""
    if not config.use_lifter:
        return None
    given = optional_input(config.lifter, config.output.parent / "lifter")
    if given is not None:
        return given
    settings = _lifter_config(config)
    train_lifter(settings)
    return settings.output


def _register_config(
    config: TrainDeformAndLearn, number: int, folder: Path, data: _Data, lifter: Path | None
) -> Register:
    first = number == 1
    fixed: dict[str, Any] = {
        "dataset": data.path,
        "dense": data.dense,
        "lifter": lifter,
        "depths": "lifter" if lifter is not None else "none",
        "start": None if first else _folder(config, number - 1) / f"{data.name}.h5",
        "camera": "weak",
        "views": "single",
        "split": "train",
        "body": config.body,
        "output": folder / f"{data.name}.fits.h5",
        **_common(config),
    }
    option = "first-register" if first else "register-settings"
    return _built(Register, option, config.first_register if first else config.register_settings, fixed)


def _regressor_config(
    config: TrainDeformAndLearn, number: int, datasets: Sequence[_Data], lifter: Path | None
) -> TrainRegressor:
    folder = _folder(config, number)
    learns_from_fits = config.strategy == "rounds"
    goes_on = config.continue_weights and number > 1
    fixed: dict[str, Any] = {
        "datasets": tuple(data.path for data in datasets),
        "dense": tuple(data.dense for data in datasets),
        "fits": tuple(folder / f"{data.name}.fits.h5" for data in datasets) if learns_from_fits else (),
        "supervision": _SUPERVISION[config.strategy],
        "lifter": lifter,
        "init": _folder(config, number - 1) / "model" if goes_on else None,
        "epochs": config.epochs if learns_from_fits else config.epochs * config.rounds,
        "body": config.body,
        "output": folder / "model",
        **_common(config),
    }
    return _built(TrainRegressor, "regressor", config.regressor, fixed)


def _round(config: TrainDeformAndLearn, number: int, datasets: Sequence[_Data], lifter: Path | None) -> dict[str, Any]:
    """One round; what it measured."""
    folder = _folder(config, number)
    began = time.monotonic()
    measured: dict[str, Any] = {"round": number, "datasets": {data.name: {} for data in datasets}}
    if config.strategy == "rounds":
        for data in datasets:
            logger.info("round %d: registering %s", number, data.name)
            report = register(_register_config(config, number, folder, data, lifter))
            measured["datasets"][data.name] |= {"ok_share": report.metrics["ok_share"]}
    logger.info("round %d: training", number)
    train_regressor(_regressor_config(config, number, datasets, lifter))
    for data in datasets:
        predict(_predict_config(config, folder, data))
        if config.evaluate and data.has_joints3d:
            measured["datasets"][data.name] |= _errors(config, folder, data)
    measured["seconds"] = round(time.monotonic() - began, 1)
    return measured


def _predict_config(config: TrainDeformAndLearn, folder: Path, data: _Data) -> Predict:
    return Predict(
        dataset=data.path,
        model=folder / "model",
        dense=None,
        body=config.body,
        output=folder / f"{data.name}.h5",
        precision=config.regressor.get("precision", Predict.model_fields["precision"].default),
        **_common(config),
    )


def _errors(config: TrainDeformAndLearn, folder: Path, data: _Data) -> dict[str, float]:
    """Errors of the fits on training images, and of the predictions on test images (mm)."""
    wanted = {"test": (_TEST, None, folder / f"{data.name}.h5", folder / f"{data.name}.json")}
    if config.strategy == "rounds":
        fits = folder / f"{data.name}.fits.h5"
        wanted["train_fits"] = (_TRAIN, fits, None, folder / f"{data.name}.fits.json")
    errors: dict[str, float] = {}
    if parallel.is_main():
        for name, (protocol, fits_path, predictions, output) in wanted.items():
            heading: Heading = "fits" if fits_path is not None else "predictions"
            report = evaluate(
                Evaluate(
                    dataset=data.path,
                    fits=fits_path,
                    predictions=predictions,
                    truth=data.truth,
                    body=config.body,
                    protocol=protocol,
                    output=output,
                    headings=(heading,),
                    **_common(config),
                )
            )
            for metric in ("bone_rescaled_mpjpe_mm", "mpjpe_mm", "pa_mpjpe_mm"):
                errors[f"{name}_{metric}"] = report.metrics[f"{heading}_{metric}"]
    parallel.wait_for_all()
    return errors


def _publish(config: TrainDeformAndLearn, rounds: int) -> None:
    """Puts the last model where `posekit predict` looks for it; the description last, so that it is whole or absent."""
    model = _folder(config, rounds) / "model"
    for name in (WEIGHTS, CONFIG):
        with replacing(config.output / name) as temporary:
            shutil.copyfile(model / name, temporary)


def _report(config: TrainDeformAndLearn, history: Sequence[Mapping[str, Any]]) -> StageReport:
    rows, metrics = [], {}
    for entry in history:
        for name, errors in entry["datasets"].items():
            fits, test = (errors.get(f"{part}_bone_rescaled_mpjpe_mm") for part in ("train_fits", "test"))
            rows.append([str(entry["round"]), name, _share(errors.get("ok_share")), _mm(fits), _mm(test)])
            shown = {"train_fits_mpjpe_mm": fits, "test_mpjpe_mm": test}
            metrics |= {f"round_{entry['round']}_{name}_{key}": v for key, v in shown.items() if v is not None}
    columns = ["round", "data set", "fits ok", "fits on training images, MPJPE [mm]", "test, MPJPE [mm]"]
    return StageReport(
        STAGE,
        [config.output / WEIGHTS],
        metrics=metrics,
        tables=[
            Table(f"Strategy {config.strategy} (predictions rescaled to the canonical bone length)", columns, rows)
        ],
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:.1f} %"


def _mm(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
