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
from posekit.config.base import StageConfig, beside, build_config, find_recipe, load_recipe
from posekit.config.deform_and_learn import TrainDeformAndLearn
from posekit.config.labels import Register
from posekit.config.lifter import TrainLifter
from posekit.config.prediction import Predict
from posekit.config.regressor import Supervision, TrainRegressor
from posekit.config.results import Evaluate
from posekit.config.training import Precision
from posekit.errors import ConfigError, DataError, MissingFileError
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
_METRICS = ("bone_rescaled_mpjpe_mm", "mpjpe_mm", "pa_mpjpe_mm")

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
    earlier = _read_history(config)
    history: list[dict[str, Any]] = []
    for number, datasets in enumerate(plan.datasets, start=1):
        history.append(_round(config, number, datasets, lifter, earlier))
        _write_history(config, history)
    if parallel.is_main():
        _publish(config, len(history))
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
        chosen = {path.resolve() for path in config.last_datasets}
        last = [data for data in every if not chosen or data.path.resolve() in chosen]
        stray = sorted(map(str, chosen - {data.path.resolve() for data in every}))
        if stray:
            raise ConfigError("--last-datasets are not all among --datasets", got=stray, accepted=config.datasets)
        rounds = config.rounds if config.strategy == "rounds" else 1
        plan = _Plan(config, [every] * (rounds - 1) + [last if rounds > 1 else every])
        folder = _folder(config, 1)
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
    if not config.datasets:
        raise ConfigError("no data set to learn from", hint="Give at least one with --datasets")
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
    """The config of a stage from the settings given for it, over those of the recipe that they may name.

    What the strategy fixes cannot be given.
    """
    taken = sorted(set(given) & set(fixed))
    if taken:
        raise ConfigError(f"{STAGE} sets these itself", got=taken, hint=f"Take them out of --{option}")
    try:
        values = dict(given)
        recipe = values.pop("recipe", None)
        base = {} if recipe is None else load_recipe(find_recipe(kind, Path(str(recipe))))
        return build_config(kind, {**base, **values, **fixed})
    except (ConfigError, MissingFileError) as error:
        raise ConfigError(f"--{option}: {error}") from error


def _common(config: TrainDeformAndLearn) -> dict[str, Any]:
    return {"seed": config.seed, "device": config.device, "force": config.force}


def _lifter_config(config: TrainDeformAndLearn) -> TrainLifter:
    fixed = {
        "datasets": config.datasets,
        "body": config.body,
        "output": config.output / "lifter",
        **_common(config),
    }
    return _built(TrainLifter, "lifter-settings", config.lifter_settings, fixed)


def _lifter(config: TrainDeformAndLearn) -> Path | None:
    """The run folder of the lifter, trained now if there is none; None when it is not to be used.

    A training from labels alone learns no depths.
    """
    if not config.use_lifter or config.strategy != "rounds":
        return None
    usual = config.output.parent / "lifter"
    if config.lifter is not None:
        return config.lifter
    # A folder that is only about to become a lifter does not count.
    if (usual / CONFIG).is_file():
        return usual
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
        "joints3d": None,
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
    built = _built(TrainRegressor, "regressor", config.regressor, fixed)
    # A file of weights is what the trunk of the first round begins with; those of a round before hold their own.
    return built.model_copy(update={"weights_file": None}) if goes_on else built


def _round(
    config: TrainDeformAndLearn,
    number: int,
    datasets: Sequence[_Data],
    lifter: Path | None,
    earlier: Mapping[int, float],
) -> dict[str, Any]:
    """One round; what it measured. `earlier` are the seconds that rounds took which may be done already."""
    folder = _folder(config, number)
    began = time.monotonic()
    measured: dict[str, Any] = {"round": number, "datasets": {data.name: {} for data in datasets}}
    if config.strategy == "rounds":
        for data in datasets:
            logger.info("round %d: registering %s", number, data.name)
            report = register(_register_config(config, number, folder, data, lifter))
            measured["datasets"][data.name] |= {"ok_share": report.metrics["ok_share"]}
    logger.info("round %d: training", number)
    regressor = _regressor_config(config, number, datasets, lifter)
    trained = train_regressor(regressor)
    for data in datasets:
        predict(_predict_config(config, folder, data, regressor.precision))
        if config.evaluate and data.has_joints3d:
            measured["datasets"][data.name] |= _errors(config, folder, data)
    seconds = round(time.monotonic() - began, 1)
    measured["seconds"] = earlier.get(number, seconds) if trained.skipped else seconds
    return measured


def _read_history(config: TrainDeformAndLearn) -> dict[int, float]:
    """The seconds of each round that an earlier run noted."""
    try:
        return {
            int(entry["round"]): float(entry["seconds"]) for entry in json.loads(_history(config).read_text("utf-8"))
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write_history(config: TrainDeformAndLearn, history: Sequence[Mapping[str, Any]]) -> None:
    if parallel.is_main():
        with replacing(_history(config)) as temporary:
            temporary.write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")


def _history(config: TrainDeformAndLearn) -> Path:
    return config.output / HISTORY


def _predict_config(config: TrainDeformAndLearn, folder: Path, data: _Data, precision: Precision) -> Predict:
    return Predict(
        dataset=data.path,
        model=folder / "model",
        dense=data.dense,
        body=config.body,
        output=folder / f"{data.name}.h5",
        precision=precision,
        **_common(config),
    )


def _errors(config: TrainDeformAndLearn, folder: Path, data: _Data) -> dict[str, float]:
    """Errors of the predictions on test images, and of the fits on training images (mm)."""
    errors: dict[str, float] = {}
    if parallel.is_main():
        common = {"dataset": data.path, "truth": data.truth, "body": config.body, **_common(config)}
        test = Evaluate(
            predictions=folder / f"{data.name}.h5",
            headings=("predictions",),
            protocol="deform-and-learn",
            baseline=True,
            output=folder / f"{data.name}.json",
            **common,
        )
        named = {f"predictions_{name}": f"test_{name}" for name in _METRICS}
        errors |= _measured(test, named | {"mean-pose_mpjpe_mm": "mean_pose_mpjpe_mm"})
        if config.strategy == "rounds":
            train = Evaluate(
                fits=folder / f"{data.name}.fits.h5",
                headings=("fits",),
                protocol="deform-and-learn-train",
                output=folder / f"{data.name}.fits.json",
                **common,
            )
            errors |= _measured(train, {f"fits_{name}": f"train_fits_{name}" for name in _METRICS})
    parallel.wait_for_all()
    return errors


def _measured(config: Evaluate, named: Mapping[str, str]) -> dict[str, float]:
    """These metrics of an evaluation under other names; none where the protocol takes none of the data set's subjects."""
    try:
        metrics = evaluate(config).metrics
    except DataError as error:
        logger.warning("not measured: %s", error)
        return {}
    return {name: metrics[metric] for metric, name in named.items() if metric in metrics}


def _publish(config: TrainDeformAndLearn, rounds: int) -> None:
    """Puts the last model where `posekit predict` looks for it; the description last, so that it is whole or absent."""
    model = _folder(config, rounds) / "model"
    for name in (WEIGHTS, CONFIG):
        with replacing(config.output / name) as temporary:
            shutil.copyfile(model / name, temporary)


def _report(config: TrainDeformAndLearn, history: Sequence[Mapping[str, Any]]) -> StageReport:
    rows: list[list[str]] = []
    metrics: dict[str, float] = {}
    for entry in history:
        for name, errors in entry["datasets"].items():
            shown = {
                name: errors.get(name) for name in ("train_fits_bone_rescaled_mpjpe_mm", "test_bone_rescaled_mpjpe_mm")
            }
            fits, test = shown.values()
            rows.append([str(entry["round"]), name, _share(errors.get("ok_share")), _mm(fits), _mm(test)])
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
