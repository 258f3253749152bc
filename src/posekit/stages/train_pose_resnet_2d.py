"""`posekit train pose-resnet-2d`: trains the 2D branch of Pose ResNet, which labels the views for the 3D branch."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET
from posekit.config.pose_resnet import TrainPoseResNet2D
from posekit.errors import ConfigError
from posekit.models.pose_resnet import PoseResNet
from posekit.skeleton.catalog import MPII16
from posekit.stages.device import resolve_device
from posekit.stages.pose_training import (
    augmentation_of,
    evenly,
    loss_of,
    new_network,
    pose_report,
    rows_of_split,
    run_header,
    some_of,
)
from posekit.stages.report import StageReport
from posekit.training.loop import LoopSettings, train
from posekit.training.pose_labels import pixel_labels
from posekit.training.pose_monitor import PoseMonitor, flat_errors
from posekit.training.pose_resnet import STAGE_2D, PoseMethod
from posekit.training.pose_samples import PosePart, PoseSource
from posekit.training.runs import LoadedRun, RunFolder, load_run
from posekit.training.stored_crops import StoredCrops


def train_pose_resnet_2d(config: TrainPoseResNet2D) -> StageReport:
    """Writes a run folder with the weights of the network; goes on where an earlier run was stopped.

    Learns from the 2D key points of training people and their crops alone. Raises ConfigError for settings that exclude
    each other, InputError for files that cannot be used, DataError where no sample is left to learn from.
    """
    with ExitStack() as stack:
        inputs = _open_inputs(config, stack)
        run = RunFolder(config.output, run_header(config, STAGE_2D, inputs.digests(), "crop"))
        if run.is_finished() and not config.force:
            return StageReport(STAGE_2D, [config.output], skipped=True)
        if config.dry_run:
            names = ", ".join(str(dataset.path) for dataset in inputs.datasets)
            return StageReport(STAGE_2D, [], notes=[f"would train on {names} into {config.output}"])
        if config.force:
            run.start_over()
        parts = [_part(config, dataset, config.split) for dataset in inputs.datasets]
        source = stack.enter_context(
            closing(PoseSource(parts, config.input_size, MPII16, augmentation_of(config), config.seed))
        )
        network = new_network(config, inputs.init)
        monitor = _monitor(config, inputs, network, stack)
        method = PoseMethod(network, loss_of(config, config.loss), config.lr)
        outcome = train(
            method, source, LoopSettings.from_config(config), run, resolve_device(config.device), monitor=monitor
        )
    return pose_report(config, STAGE_2D, outcome, {"samples": len(source), "no picture": source.without_picture})


@dataclass(frozen=True, eq=False)
class _Inputs:
    datasets: list[Artifact]
    init: LoadedRun | None

    def digests(self) -> dict[str, str]:
        found = {f"dataset{number}": dataset.digest for number, dataset in enumerate(self.datasets)}
        return found if self.init is None else found | {"init": self.init.digest}


def _open_inputs(config: TrainPoseResNet2D, stack: ExitStack) -> _Inputs:
    if not config.datasets:
        raise ConfigError("no data set to learn from", hint="Give at least one with --datasets")
    datasets = [stack.enter_context(Artifact(path, DATASET)) for path in config.datasets]
    return _Inputs(datasets, None if config.init is None else load_run(config.init))


def _part(config: TrainPoseResNet2D, dataset: Artifact, split: str, most: int | None = None) -> PosePart:
    rows = rows_of_split(dataset, split)
    # The bound holds for each data set, so that none crowds out the others.
    rows = some_of(rows, config.max_samples, config.seed) if most is None else evenly(rows, most)
    labels = pixel_labels(dataset, rows, MPII16, config.crop_margin)
    return PosePart(StoredCrops.of(dataset, labels.rows), labels)


def _monitor(config: TrainPoseResNet2D, inputs: _Inputs, network: PoseResNet, stack: ExitStack) -> PoseMonitor | None:
    """What measures images of test people; None where there are none or nothing is to be measured."""
    held = [dataset for dataset in inputs.datasets if "test" in set(dataset.read("sequences", "split"))]
    if not config.monitor_samples or not held:
        return None
    most = -(-config.monitor_samples // len(held))
    parts = [_part(config, dataset, "test", most) for dataset in held]
    source = stack.enter_context(closing(PoseSource(parts, config.input_size, MPII16, None, config.seed)))
    return PoseMonitor(network, source, flat_errors, config.precision, config.monitor_every)
