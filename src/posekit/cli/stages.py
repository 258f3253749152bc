"""The commands of the pipeline: each names its config and its stage, nothing more."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from posekit import parallel
from posekit.cli.console import print_json, print_report, say
from posekit.cli.options import Runner, stage_command
from posekit.config.base import StageConfig

GROUPS = {
    "synthesize": "Render small synthetic data in the raw layout of a real data set.",
    "preprocess": "Turn a raw release or own pictures and recordings into one data set file.",
    "pseudo-label": "Make labels for a data set.",
    "train": "Train networks; a killed training goes on where it stopped.",
    "body": "Make body model files.",
    "eval": "Compare labels, fits and predictions with ground truth by published protocols.",
}

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("synthesize h36m", "data:SynthesizeH36M", "posekit.stages.synthesize:synthesize_h36m"),
    ("synthesize coco", "coco:SynthesizeCoco", "posekit.stages.synthesize_coco:synthesize_coco"),
    ("synthesize lsp", "lsp:SynthesizeLSP", "posekit.stages.synthesize_lsp:synthesize_lsp"),
    ("synthesize 3dpw", "threedpw:Synthesize3DPW", "posekit.stages.synthesize_3dpw:synthesize_3dpw"),
    ("synthesize voc", "voc:SynthesizeVoc", "posekit.stages.synthesize_voc:synthesize_voc"),
    ("synthesize mpii", "mpii:SynthesizeMpii", "posekit.stages.synthesize_mpii:synthesize_mpii"),
    ("preprocess h36m", "data:PreprocessH36M", "posekit.stages.preprocess_h36m:preprocess_h36m"),
    ("preprocess multiview", "data:PreprocessMultiview", "posekit.stages.preprocess_multiview:preprocess_multiview"),
    ("preprocess coco", "coco:PreprocessCoco", "posekit.stages.preprocess_coco:preprocess_coco"),
    ("preprocess lsp", "lsp:PreprocessLSP", "posekit.stages.preprocess_lsp:preprocess_lsp"),
    ("preprocess 3dpw", "threedpw:Preprocess3DPW", "posekit.stages.preprocess_3dpw:preprocess_3dpw"),
    ("preprocess voc", "voc:PreprocessVoc", "posekit.stages.preprocess_voc:preprocess_voc"),
    ("preprocess mpii", "mpii:PreprocessMpii", "posekit.stages.preprocess_mpii:preprocess_mpii"),
    ("preprocess images", "prediction:PreprocessImages", "posekit.stages.preprocess_pictures:preprocess_images"),
    ("preprocess video", "prediction:PreprocessVideo", "posekit.stages.preprocess_pictures:preprocess_video"),
    (
        "pseudo-label surface",
        "pseudo_labels:PseudoLabelSurface",
        "posekit.stages.pseudo_label_surface:pseudo_label_surface",
    ),
    (
        "pseudo-label keypoints",
        "keypoints:PseudoLabelKeypoints",
        "posekit.stages.pseudo_label_keypoints:pseudo_label_keypoints",
    ),
    ("pseudo-label masks", "masks:PseudoLabelMasks", "posekit.stages.pseudo_label_masks:pseudo_label_masks"),
    ("triangulate", "labels:Triangulate", "posekit.stages.triangulate:triangulate"),
    ("register", "labels:Register", "posekit.stages.register:register"),
    ("train lifter", "lifter:TrainLifter", "posekit.stages.train_lifter:train_lifter"),
    ("train regressor", "regressor:TrainRegressor", "posekit.stages.train_regressor:train_regressor"),
    (
        "train deform-and-learn",
        "deform_and_learn:TrainDeformAndLearn",
        "posekit.pipelines.deform_and_learn:train_deform_and_learn",
    ),
    (
        "train pose-resnet-2d",
        "pose_resnet:TrainPoseResNet2D",
        "posekit.stages.train_pose_resnet_2d:train_pose_resnet_2d",
    ),
    ("train pose-resnet", "pose_resnet:TrainPoseResNet", "posekit.stages.train_pose_resnet:train_pose_resnet"),
    (
        "train mesh-estimator",
        "mesh_estimator:TrainMeshEstimator",
        "posekit.stages.train_mesh_estimator:train_mesh_estimator",
    ),
    ("train image-ssl", "image_ssl:TrainImageSsl", "posekit.stages.train_image_ssl:train_image_ssl"),
    ("predict", "prediction:Predict", "posekit.stages.predict:predict"),
    ("eval h36m", "results:Evaluate", "posekit.stages.evaluate:evaluate"),
    ("eval lsp", "lsp:EvaluateLSP", "posekit.stages.evaluate_lsp:evaluate_lsp"),
    ("eval 3dpw", "threedpw:Evaluate3DPW", "posekit.stages.evaluate:evaluate"),
    ("eval mpii", "mpii:EvaluateMpii", "posekit.stages.evaluate_mpii:evaluate_mpii"),
    ("eval lifter", "lifter:EvaluateLifter", "posekit.stages.evaluate_lifter:evaluate_lifter"),
    ("eval compare", "results:Compare", "posekit.stages.compare:compare"),
    ("render", "results:Render", "posekit.stages.render:render"),
    ("export", "results:Export", "posekit.stages.export:export"),
    ("body build", "programs:BuildBody", "posekit.stages.build_body:build_body"),
    ("demo", "programs:Demo", "posekit.pipelines.demo:demo"),
)
"""(command as typed, module:class of the config below `posekit.config`, module:function of the stage)."""

SHARED = frozenset(
    {
        "register",
        "predict",
        "pseudo-label surface",
        "pseudo-label keypoints",
        "train lifter",
        "train regressor",
        "train deform-and-learn",
        "train pose-resnet-2d",
        "train pose-resnet",
        "train mesh-estimator",
        "train image-ssl",
    }
)
"""Commands whose work several processes share; of any other the main process does all."""


def config_of(path: str) -> type[StageConfig]:
    """The config that `COMMANDS` names."""
    module, _, name = path.partition(":")
    kind: type[StageConfig] = getattr(importlib.import_module(f"posekit.config.{module}"), name)
    return kind


def add_commands(app: typer.Typer) -> None:
    """Adds the pipeline's commands to the app; those of a group are made when the group is asked for them."""
    in_groups: dict[str, dict[str, tuple[str, str, str]]] = {name: {} for name in GROUPS}
    for row in COMMANDS:
        group, _, name = row[0].rpartition(" ")
        if group:
            in_groups[group][name] = row
        else:
            app.command(name)(_command(*row))
    for name, rows in in_groups.items():
        app.add_typer(typer.Typer(no_args_is_help=True, help=GROUPS[name], cls=_group_of(rows)), name=name)


def _command(typed: str, config: str, stage: str) -> Callable[..., None]:
    return stage_command(config_of(config), _runner(typed, stage))


class _OnDemand(dict[str, Any]):
    """Commands by name, each made when it is first looked at: the options of forty take longer than help may."""

    def __init__(self, rows: Mapping[str, tuple[str, str, str]]) -> None:
        super().__init__(dict.fromkeys(rows))
        self._rows = rows

    def __getitem__(self, name: str) -> Any:
        if name in self and super().__getitem__(name) is None:
            alone = typer.Typer(add_completion=False)
            alone.command(name)(_command(*self._rows[name]))
            self[name] = typer.main.get_command(alone)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


def _group_of(rows: Mapping[str, tuple[str, str, str]]) -> type[TyperGroup]:
    class Group(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = _OnDemand(rows)

    return Group


def _runner(typed: str, stage: str) -> Runner:
    module, _, function = stage.partition(":")

    def run(settings: StageConfig, as_json: bool) -> None:
        if not parallel.is_main() and typed not in SHARED:
            return
        began = time.monotonic()
        report = getattr(importlib.import_module(module), function)(settings)
        seconds = time.monotonic() - began
        if not parallel.is_main():
            return
        if as_json:
            print_json(report.to_dict() | {"seconds": round(seconds, 3)})
        else:
            print_report(report)
            say(f"{report.stage} took {seconds:.1f} s")

    return run
