"""`posekit predict`: bodies of the people in images or videos, by a trained model, optionally refined."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from posekit import parallel
from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, FITS, POSES
from posekit.artifacts.shards import ShardedArtifact
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.base import beside
from posekit.config.prediction import Predict, PreprocessImages, PreprocessVideo
from posekit.datasets.pictures import find_media
from posekit.errors import ConfigError, DataError, InputError
from posekit.labeling.lifting import load_lifter
from posekit.progress import track
from posekit.records import camera_columns, cameras_from_columns
from posekit.registration.bodies import BodyRows, bodies_of, of_split
from posekit.registration.depths import labelled_landmarks
from posekit.registration.fitting import vertex_parts
from posekit.registration.labels import LabelReader, LabelSource
from posekit.registration.losses import LOSS_NAMES, Weights
from posekit.registration.refinement import REFINED, Judged, Refiner
from posekit.registration.solver import SolverSettings
from posekit.registration.verdicts import VerdictRules
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.device import resolve_device
from posekit.stages.pictures import make_data_set
from posekit.stages.predict_poses import POSE_STAGES, PoseWork, check_pose_settings, pose_report
from posekit.stages.prediction_network import prediction_network
from posekit.stages.report import (
    StageReport,
    input_digests,
    open_optional,
    optional_input,
    require_same_source,
)
from posekit.training.runs import stage_of
from posekit.training.stored_crops import StoredCrops

STAGE = "predict"

_SHARD_ROWS = 256
_PARTS = ("pose", "segment_scales", "betas", "orientation", "translation", "scale")


@dataclass
class Outcome:
    """What became of the bodies; kept in the file, so that later runs can report the same. Sums are over bodies."""

    counts: Counter[str] = field(default_factory=Counter)
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"counts": dict(self.counts), "sums": dict(self.sums)}

    def add(self, other: Mapping[str, Any]) -> None:
        """Takes in another outcome's plain values."""
        self.counts.update(other["counts"])
        for name, value in other["sums"].items():
            self.sums[name] += value

    def note(self, name: str, values: np.ndarray) -> None:
        """Adds values to a mean; NaN does not count."""
        there = np.isfinite(values)
        self.sums[name] += float(values[there].sum())
        self.sums[f"{name}_count"] += int(there.sum())

    def mean(self, name: str) -> float | None:
        """The mean of all values noted, or None without any."""
        count = self.sums.get(f"{name}_count", 0)
        return self.sums[name] / count if count else None


def predict(config: Predict) -> StageReport:
    """Writes `predictions/NAME.h5`: one body for every person in every picture; skips work that is there already.

    With a Pose ResNet it is joints instead of a body. A killed run is taken up where it stopped, and several processes share
    the work. Raises ConfigError for settings that exclude each other or mean nothing for the model, InputError for a model
    or labels that do not fit the data set or the body, DataError where no sample is left.
    """
    _check_settings(config)
    model_stage = stage_of(config.model)
    check_pose_settings(config, model_stage)
    notes: list[str] = []
    path = _dataset(config, notes)
    output = config.output or beside(path, "predictions", ".h5")
    if not path.exists() and config.dry_run:
        return StageReport(STAGE, [], notes=[*notes, f"would write {output}"])
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(path, DATASET))
        work = _pose_work(config, dataset) if model_stage in POSE_STAGES else _body_work(config, dataset, stack)
        if not config.force and is_current(output, work.header):
            return _report(config, output, notes, skipped=True)
        shards = ShardedArtifact(output, work.header, -(-len(work.bodies) // _SHARD_ROWS))
        pending = list(range(shards.count)) if config.force else shards.pending()
        if config.dry_run:
            note = f"would predict {len(work.bodies)} bodies in {len(pending)} shards of {_SHARD_ROWS}"
            return StageReport(STAGE, [], notes=[*notes, note])
        # Everyone must have seen the same shards pending before anyone makes one.
        parallel.wait_for_all()
        mine = parallel.my_share(pending)
        for index in track(mine, STAGE, unit="shard"):
            work.write(shards, index)
        parallel.wait_for_all()
        if parallel.is_main():
            work.join(shards)
        parallel.wait_for_all()
    return _report(config, output, notes, skipped=False, milliseconds=work.milliseconds())


def _pose_work(config: Predict, dataset: Artifact) -> PoseWork:
    return PoseWork(config, dataset, _bodies(dataset, config.split), _SHARD_ROWS)


def _body_work(config: Predict, dataset: Artifact, stack: ExitStack) -> _Work:
    dense = open_optional(optional_input(config.dense, beside(dataset.path, "labels", ".dense.h5")), CORRESPONDENCES)
    if dense is not None:
        stack.enter_context(dense)
    return _Work(config, dataset, dense)


def _check_settings(config: Predict) -> None:
    if config.media is None and (config.boxes is not None or config.keypoints is not None):
        raise ConfigError(
            "boxes and key points are for images and videos without a data set",
            got=config.boxes or config.keypoints,
            hint="Give --media, or make the data set with `posekit preprocess images`",
        )
    if config.media is not None and config.dataset is not None:
        raise ConfigError(
            "a data set and media at once", got=f"{config.dataset}, {config.media}", accepted="one of them"
        )
    if config.lifter is not None and not config.refine:
        raise ConfigError("a lifter is for the refinement alone", got=config.lifter, hint="Add --refine")


def _dataset(config: Predict, notes: list[str]) -> Path:
    """The data set to work on; from media it is made first, by the main process."""
    if config.dataset is not None:
        return config.dataset
    if config.media is None:
        there = sorted(config.data.glob("*.h5"))
        default = config.data / "h36m.h5"
        return there[0] if len(there) == 1 and not default.exists() else default
    media = find_media(config.media)
    whole = config.media.resolve()
    path = config.data / f"{whole.name if whole.is_dir() else whole.stem}.h5"
    shared: dict[str, Any] = {"raw": config.media, "output": path, "boxes": config.boxes, "keypoints": config.keypoints}
    shared["dry_run"] = config.dry_run
    if parallel.is_main():
        made = (
            make_data_set(PreprocessVideo(**shared, stride=config.stride), media, "preprocess video")
            if media.video
            else make_data_set(PreprocessImages(**shared), media, "preprocess images")
        )
        notes += made.notes
    parallel.wait_for_all()
    return path


class _Work:
    """Everything that predicts the bodies of one data set."""

    def __init__(self, config: Predict, dataset: Artifact, dense: Artifact | None) -> None:
        self._config, self._dataset = config, dataset
        device = resolve_device(config.device)
        self._body = SegmentScaledBody(load_body(config.body)).to(device)
        _check_dense(dense, dataset, self._body)
        self._network = prediction_network(config.model, self._body, device, config.precision, config.batch)
        self.bodies = _bodies(dataset, config.split)
        lifter = None if config.lifter is None else load_lifter(config.lifter, device)
        landmarks = labelled_landmarks(self._body, [dataset.skeleton], lifter)
        cameras = cameras_from_columns(dataset.table("cameras"))
        source = LabelSource(
            dataset,
            cameras,
            None,
            dense,
            landmarks.names,
            weak=True,
            seed=config.seed,
            lifter=lifter,
            max_points=config.max_points,
            vertex_part=vertex_parts(self._body.body),
        )
        self._reader = LabelReader(source)
        self._refiner = Refiner(self._body, landmarks, _solver_settings(config), VerdictRules(), config.min_score)
        self._crops = StoredCrops.of(dataset, self.bodies.samples[:, 0])
        self._seconds = {"network": 0.0, "refinement": 0.0}
        self._done = 0
        inputs = input_digests(dataset=dataset, dense=dense) | {"body": self._body.body.digest}
        inputs |= {"model": self._network.digest} | ({} if lifter is None else {"lifter": lifter.digest})
        self.header = _header(config, self._body, inputs)

    def write(self, shards: ShardedArtifact, index: int) -> None:
        """Predicts the bodies of one shard."""
        rows = np.arange(index * _SHARD_ROWS, min((index + 1) * _SHARD_ROWS, len(self.bodies)))
        bodies, outcome = self.bodies.select(rows), Outcome()
        targets, crops = self._reader.read(bodies)
        began = time.monotonic()
        parameters, reasons = self._network.predict(self._crops.select(rows), crops[:, 0])
        self._seconds["network"] += time.monotonic() - began
        judged = self._refiner.judge(targets, parameters)
        outcome.note("residual_px", judged.residual_px.cpu().numpy())
        if self._config.refine:
            began = time.monotonic()
            refined, became = self._refiner.refine(targets, judged)
            self._seconds["refinement"] += time.monotonic() - began
            outcome.counts.update(became)
            changed = np.array([what == REFINED for what in became])
            for name, before, after in (
                ("all_labels", judged.residual_px, refined.residual_px),
                ("dense", judged.dense_px, refined.dense_px),
            ):
                outcome.note(f"{name}_before", before.cpu().numpy()[changed])
                outcome.note(f"{name}_after", after.cpu().numpy()[changed])
            judged = refined
        self._done += len(rows)
        outcome.counts.update({f"not ok: {reason}": count for reason, count in Counter(reasons).items() if reason})
        with shards.writer(index) as writer:
            writer.append("fits", _columns(bodies, judged, crops[:, 0], reasons))
            writer.header = replace(writer.header, facts={**writer.header.facts, "outcome": outcome.plain()})

    def join(self, shards: ShardedArtifact) -> None:
        """Makes the shards one file."""
        outcome = Outcome()
        for index in range(shards.count):
            with Artifact(shards.part(index)) as shard:
                outcome.add(shard.header.facts["outcome"])
        header = replace(shards.header, facts={**shards.header.facts, "outcome": outcome.plain()})
        cameras = camera_columns(cameras_from_columns(self._dataset.table("cameras")))
        ShardedArtifact(shards.path, header, shards.count).join({"cameras": cameras})

    def milliseconds(self) -> dict[str, float]:
        """Time for each image, of what this process did."""
        parts = {"network": True, "refinement": self._config.refine}
        return {
            f"{name}_ms_per_image": 1000.0 * self._seconds[name] / self._done
            for name, done in parts.items()
            if done and self._done
        }


def _bodies(dataset: Artifact, split: str) -> BodyRows:
    bodies = bodies_of(dataset, joint_views=False, usable=np.ones(dataset.rows("cameras"), dtype=bool), stride=1)
    bodies = bodies.select(of_split(dataset, bodies, split))
    if not len(bodies):
        there = sorted({str(name) or "none named" for name in dataset.read("sequences", "split")})
        raise DataError(
            f"no sample of {dataset.path} is left to predict", got=f"--split {split}", accepted=["all", *there]
        )
    return bodies


def _check_dense(dense: Artifact | None, dataset: Artifact, body: SegmentScaledBody) -> None:
    if dense is None:
        return
    # Correspondences made beside raw data know names instead of the rows of a data set.
    if "sequence_names" not in dense.header.facts:
        require_same_source(dense, "dataset", dataset)
    meant = dense.header.facts.get("body_digest")
    if meant is not None and meant != body.body.digest:
        raise InputError(
            f"the correspondences of {dense.path} name vertices of another body",
            got=f"digest {body.body.digest[:12]}",
            accepted=str(meant)[:12],
            hint="Give the body that they were made with: --body FILE",
        )


def _solver_settings(config: Predict) -> SolverSettings:
    """How predictions are refined: the normal weights of a registration, never stiff, the shape as predicted."""
    weights = Weights(
        dense=config.w_dense,
        keypoints=config.w_keypoints,
        depth=config.w_depth,
        scale=config.w_scale,
        pose=config.w_pose,
    )
    return SolverSettings(
        weights=weights,
        iterations=config.refine_iters,
        lr=config.refine_lr,
        stiff="none",
        robust_px=config.robust_px or None,
    )


def _header(config: Predict, body: SegmentScaledBody, inputs: dict[str, str]) -> Header:
    return Header(
        FITS.name,
        STAGE,
        settings=config.settings(),
        inputs=inputs,
        skeleton=Skeleton("rig", body.body.joint_names, body.kinematics.parents),
        seed=config.seed,
        facts={
            "body": body.body.digest,
            "camera": "weak",
            "views": "single",
            "loss_names": list(LOSS_NAMES),
            "joint_names": list(body.body.joint_names),
        },
    )


def _columns(bodies: BodyRows, judged: Judged, crops: np.ndarray, reasons: Sequence[str]) -> dict[str, Any]:
    parts = {name: getattr(judged.parameters, name).float().cpu().numpy() for name in _PARTS}
    return parts | {
        "sequence": bodies.sequence,
        "frame": bodies.frame,
        "person": bodies.person,
        "camera": bodies.camera,
        "crop_from_image": crops,
        "losses": judged.losses.nan_to_num().cpu().numpy(),
        "residual_px": judged.residual_px.cpu().numpy(),
        "ok": [not reason for reason in reasons],
        "reason": list(reasons),
    }


def _report(
    config: Predict,
    output: Path,
    notes: Sequence[str],
    *,
    skipped: bool,
    milliseconds: Mapping[str, float] | None = None,
) -> StageReport:
    outcome = Outcome()
    with Artifact(output) as fits:
        if fits.kind is POSES:
            return pose_report(fits, notes, skipped=skipped, milliseconds=milliseconds)
        ok = fits.read("fits", "ok")
        outcome.add(fits.header.facts["outcome"])
    means = {
        "residual_px_predicted": outcome.mean("residual_px"),
        "residual_px_before_refinement": outcome.mean("all_labels_before"),
        "residual_px_after_refinement": outcome.mean("all_labels_after"),
        "dense_px_before_refinement": outcome.mean("dense_before"),
        "dense_px_after_refinement": outcome.mean("dense_after"),
    }
    metrics = {name: value for name, value in means.items() if value is not None} | dict(milliseconds or {})
    said = list(notes)
    if config.refine and not outcome.counts[REFINED]:
        said.append("nothing was refined: there are too few correspondences and key points, or none helped")
    if not ok.all():
        said.append(f"{int((~ok).sum())} of {len(ok)} bodies are not to be used; the column `reason` says why")
    counts = {"bodies": len(ok), "ok": int(ok.sum()), **dict(sorted(outcome.counts.items()))}
    return StageReport(STAGE, [output], skipped=skipped, metrics=metrics, counts=counts, notes=said)
