"""`posekit pseudo-label keypoints`: 2D key points for the people of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header, file_digest
from posekit.artifacts.schema import DATASET, KEYPOINTS
from posekit.artifacts.shards import ShardedArtifact
from posekit.config.base import beside
from posekit.config.keypoints import PseudoLabelKeypoints
from posekit.datasets.boxes import EVERY_FRAME, People, Person, read_keypoints
from posekit.datasets.openpose import keypoint_files
from posekit.errors import ConfigError, DataError, InputError
from posekit.labeling.masks import box_overlaps
from posekit.parallel import is_main, my_share, wait_for_all
from posekit.progress import track
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.device import resolve_device
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.report import StageReport, input_digests

STAGE = "pseudo-label keypoints"

_DEFAULT_MODEL = Path("runs/pose-resnet-2d")
_SHARD_ROWS = 512
_ROWS_READ = 8192
_KEY = ("sequence", "frame", "person", "camera")

Keypoints = Float[np.ndarray, "N J 3"]


def pseudo_label_keypoints(config: PseudoLabelKeypoints) -> StageReport:
    """Writes `labels/NAME.keypoints.h5`, one row for every sample; NaN with confidence 0 where nothing was found.

    Skips work that is there already; a killed run is taken up where it stopped. Under torchrun every process makes its share
    of the shards. Raises ConfigError for settings that do not go with the source, MissingFileError or FormatError for a model
    or files that cannot be used, and DataError where nobody has a key point.
    """
    _check_settings(config)
    output = config.output or beside(config.dataset, "labels", ".keypoints.h5")
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(config.dataset, DATASET))
        maker = _maker(config, dataset)
        header = Header(
            KEYPOINTS.name,
            STAGE,
            settings=config.settings(),
            inputs=input_digests(dataset=dataset) | maker.inputs,
            skeleton=maker.skeleton,
            seed=config.seed,
            facts={"source": config.source},
        )
        if not config.force and is_current(output, header):
            return _report(output, skipped=True)
        count = dataset.rows("samples")
        shards = ShardedArtifact(output, header, -(-count // _SHARD_ROWS))
        pending = list(range(shards.count)) if config.force else shards.pending()
        if config.dry_run:
            return StageReport(STAGE, [], notes=[f"would label {count} samples in {len(pending)} shards"])
        # Nobody begins before all have seen the same shards pending, and nobody goes on before the result is there.
        wait_for_all()
        for index in track(my_share(pending), STAGE, unit="shard"):
            rows = np.arange(index * _SHARD_ROWS, min((index + 1) * _SHARD_ROWS, count))
            keys = {name: dataset.read("samples", name, rows) for name in _KEY}
            with shards.writer(index) as writer:
                writer.append("samples", keys | {"keypoints2d": maker.make(rows)})
        wait_for_all()
        if is_main():
            shards.join({})
        wait_for_all()
    return _report(output, skipped=False)


@dataclass(frozen=True, eq=False)
class _Maker:
    """Key points of rows of the data set, in the order of `skeleton`, and the digests of what they are made from."""

    skeleton: Skeleton
    inputs: dict[str, str]
    make: Callable[[Int[np.ndarray, " N"]], Keypoints]


def _check_settings(config: PseudoLabelKeypoints) -> None:
    needs = {"model": "network", "files": "files", "noise_px": "truth", "outliers": "truth"}
    for name, source in needs.items():
        if getattr(config, name) and config.source != source:
            raise ConfigError(
                f"--{name.replace('_', '-')} does not go with --source {config.source}", accepted=f"--source {source}"
            )
    if config.source == "files" and config.files is None:
        raise ConfigError("no files to take key points from", hint="Name them with --files")


def _maker(config: PseudoLabelKeypoints, dataset: Artifact) -> _Maker:
    if config.source == "network":
        device = resolve_device(config.device)
        network = PoseNetwork.open(config.model or _DEFAULT_MODEL, device, config.precision, mirror=config.mirror)
        return _Maker(
            network.skeleton, {"model": network.digest}, lambda rows: _by_network(config, network, dataset, rows)
        )
    if config.source == "truth":
        return _Maker(dataset.skeleton, {}, lambda rows: _disturbed(config, dataset, rows))
    return _from_files(config, dataset)


def _by_network(
    config: PseudoLabelKeypoints, network: PoseNetwork, dataset: Artifact, rows: Int[np.ndarray, " N"]
) -> Keypoints:
    keypoints = network.keypoints(dataset, rows, config.batch)
    if config.confidence == "one":
        keypoints[..., 2] = np.isfinite(keypoints[..., 0])
    return keypoints


def _disturbed(config: PseudoLabelKeypoints, dataset: Artifact, rows: Int[np.ndarray, " N"]) -> Keypoints:
    """The data set's own key points, with the noise and the outliers of a study: the same for the same sample."""
    keypoints = dataset.read("samples", "keypoints2d", rows).astype(np.float64)
    boxes = dataset.read("samples", "bbox", rows).astype(np.float64)
    for place, key in enumerate(zip(*(dataset.read("samples", name, rows) for name in _KEY), strict=True)):
        generator = np.random.default_rng([config.seed, *(int(part) for part in key)])
        points = keypoints[place, :, :2]
        noise = config.noise_px * generator.standard_normal(points.shape)
        anywhere = generator.uniform(boxes[place, :2], boxes[place, 2:], points.shape)
        off = generator.random(len(points)) < config.outliers
        keypoints[place, :, :2] = np.where(off[:, None], anywhere, points + noise)
    return keypoints


def _from_files(config: PseudoLabelKeypoints, dataset: Artifact) -> _Maker:
    assert config.files is not None
    if not dataset.rows("videos"):
        raise InputError(
            f"{dataset.path} does not say which files its people are in",
            accepted="a data set of pictures, videos or several views",
        )
    stills = bool(dataset.header.facts.get("stills"))
    order = None if config.order == "auto" else config.order
    people = read_keypoints(config.files, order, 0.0, video=not stills)
    if people.skeleton is None:
        raise DataError(f"there are no key points in {config.files}")
    files = [config.files] if config.files.is_file() else _files_below(config.files)
    sha = hashlib.sha256("".join(f"{file.name}\0{file_digest(file)}\0" for file in files).encode())
    skeleton = people.skeleton
    return _Maker(skeleton, {"files": sha.hexdigest()}, lambda rows: _matched(config, dataset, people, skeleton, rows))


def _files_below(folder: Path) -> list[Path]:
    """The OpenPose files of a folder, or of the folders in it."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.glob("*.json"))]
    return [file for one in inner or [folder] for file in keypoint_files(one)]


def _matched(
    config: PseudoLabelKeypoints, dataset: Artifact, people: People, skeleton: Skeleton, rows: Int[np.ndarray, " N"]
) -> Keypoints:
    """For each sample the key points of whoever in the same picture has the most similar box."""
    videos = dataset.table("videos")
    name_of = {
        (int(sequence), int(camera)): str(path)
        for sequence, camera, path in zip(videos["sequence"], videos["camera"], videos["path"], strict=True)
    }
    boxes = dataset.read("samples", "bbox", rows).astype(np.float64)
    found = np.full((len(rows), len(skeleton), 3), np.nan)
    found[..., 2] = 0.0
    keys = zip(*(dataset.read("samples", name, rows) for name in ("sequence", "frame", "camera")), strict=True)
    for place, (sequence, frame, camera) in enumerate(keys):
        frames = people.of(name_of.get((int(sequence), int(camera)), ""))
        best = _closest(boxes[place], frames.get(int(frame), frames.get(EVERY_FRAME, ())), config.min_overlap)
        if best is not None:
            found[place] = best
    # OpenPose writes zeros for joints that it did not see.
    unseen = found[..., 2] <= 0
    found[unseen, :2] = np.nan
    return found


def _closest(box: Float[np.ndarray, "4"], people: Sequence[Person], least: float) -> Float[np.ndarray, "J 3"] | None:
    known = [(one.bbox, one.keypoints) for one in people if one.keypoints is not None]
    if not known:
        return None
    overlaps = box_overlaps(box[None], np.stack([bbox for bbox, _ in known]))[0]
    best = int(overlaps.argmax())
    return known[best][1] if overlaps[best] >= least else None


def _report(output: Path, *, skipped: bool) -> StageReport:
    joints = found = people = without = 0
    confidence = 0.0
    with Artifact(output, KEYPOINTS) as labels:
        for rows in labels.blocks("samples", _ROWS_READ):
            sure = np.nan_to_num(labels.read("samples", "keypoints2d", rows)[..., 2])
            joints, found = joints + sure.size, found + int((sure > 0).sum())
            people, without = people + len(sure), without + int((sure <= 0).all(axis=1).sum())
            confidence += float(sure.sum())
    if not found:
        raise DataError("nobody has a key point", got=output, hint="Check that the model or the files fit the data set")
    counts = {"samples": people, "joints": found, "samples without key points": without}
    return StageReport(
        STAGE,
        [output],
        skipped=skipped,
        metrics={"mean_confidence": confidence / found},
        counts={name: count for name, count in counts.items() if count},
    )
