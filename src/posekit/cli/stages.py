"""The commands of the pipeline: each names its config and its stage, nothing more."""

from __future__ import annotations

import importlib
import time

import typer

from posekit import parallel
from posekit.cli.console import print_json, print_report, say
from posekit.cli.options import Runner, stage_command
from posekit.config import (
    coco,
    data,
    deform_and_learn,
    keypoints,
    labels,
    lifter,
    lsp,
    masks,
    mpii,
    pose_resnet,
    prediction,
    programs,
    pseudo_labels,
    regressor,
    results,
    threedpw,
    voc,
)
from posekit.config.base import StageConfig

GROUPS = {
    "synthesize": "Render small synthetic data in the raw layout of a real data set.",
    "preprocess": "Turn a raw release or own pictures and recordings into one data set file.",
    "pseudo-label": "Make labels for a data set.",
    "train": "Train networks; a killed training goes on where it stopped.",
    "body": "Make body model files.",
    "eval": "Compare labels, fits and predictions with ground truth by published protocols.",
}

COMMANDS: tuple[tuple[str, type[StageConfig], str], ...] = (
    ("synthesize h36m", data.SynthesizeH36M, "posekit.stages.synthesize:synthesize_h36m"),
    ("synthesize coco", coco.SynthesizeCoco, "posekit.stages.synthesize_coco:synthesize_coco"),
    ("synthesize lsp", lsp.SynthesizeLSP, "posekit.stages.synthesize_lsp:synthesize_lsp"),
    ("synthesize 3dpw", threedpw.Synthesize3DPW, "posekit.stages.synthesize_3dpw:synthesize_3dpw"),
    ("synthesize voc", voc.SynthesizeVoc, "posekit.stages.synthesize_voc:synthesize_voc"),
    ("synthesize mpii", mpii.SynthesizeMpii, "posekit.stages.synthesize_mpii:synthesize_mpii"),
    ("preprocess h36m", data.PreprocessH36M, "posekit.stages.preprocess_h36m:preprocess_h36m"),
    ("preprocess multiview", data.PreprocessMultiview, "posekit.stages.preprocess_multiview:preprocess_multiview"),
    ("preprocess coco", coco.PreprocessCoco, "posekit.stages.preprocess_coco:preprocess_coco"),
    ("preprocess lsp", lsp.PreprocessLSP, "posekit.stages.preprocess_lsp:preprocess_lsp"),
    ("preprocess 3dpw", threedpw.Preprocess3DPW, "posekit.stages.preprocess_3dpw:preprocess_3dpw"),
    ("preprocess voc", voc.PreprocessVoc, "posekit.stages.preprocess_voc:preprocess_voc"),
    ("preprocess mpii", mpii.PreprocessMpii, "posekit.stages.preprocess_mpii:preprocess_mpii"),
    ("preprocess images", prediction.PreprocessImages, "posekit.stages.preprocess_pictures:preprocess_images"),
    ("preprocess video", prediction.PreprocessVideo, "posekit.stages.preprocess_pictures:preprocess_video"),
    (
        "pseudo-label surface",
        pseudo_labels.PseudoLabelSurface,
        "posekit.stages.pseudo_label_surface:pseudo_label_surface",
    ),
    (
        "pseudo-label keypoints",
        keypoints.PseudoLabelKeypoints,
        "posekit.stages.pseudo_label_keypoints:pseudo_label_keypoints",
    ),
    ("pseudo-label masks", masks.PseudoLabelMasks, "posekit.stages.pseudo_label_masks:pseudo_label_masks"),
    ("triangulate", labels.Triangulate, "posekit.stages.triangulate:triangulate"),
    ("register", labels.Register, "posekit.stages.register:register"),
    ("train lifter", lifter.TrainLifter, "posekit.stages.train_lifter:train_lifter"),
    ("train regressor", regressor.TrainRegressor, "posekit.stages.train_regressor:train_regressor"),
    (
        "train deform-and-learn",
        deform_and_learn.TrainDeformAndLearn,
        "posekit.pipelines.deform_and_learn:train_deform_and_learn",
    ),
    (
        "train pose-resnet-2d",
        pose_resnet.TrainPoseResNet2D,
        "posekit.stages.train_pose_resnet_2d:train_pose_resnet_2d",
    ),
    ("train pose-resnet", pose_resnet.TrainPoseResNet, "posekit.stages.train_pose_resnet:train_pose_resnet"),
    ("predict", prediction.Predict, "posekit.stages.predict:predict"),
    ("eval h36m", results.Evaluate, "posekit.stages.evaluate:evaluate"),
    ("eval lsp", lsp.EvaluateLSP, "posekit.stages.evaluate_lsp:evaluate_lsp"),
    ("eval 3dpw", threedpw.Evaluate3DPW, "posekit.stages.evaluate:evaluate"),
    ("eval mpii", mpii.EvaluateMpii, "posekit.stages.evaluate_mpii:evaluate_mpii"),
    ("eval lifter", lifter.EvaluateLifter, "posekit.stages.evaluate_lifter:evaluate_lifter"),
    ("eval compare", results.Compare, "posekit.stages.compare:compare"),
    ("render", results.Render, "posekit.stages.render:render"),
    ("export", results.Export, "posekit.stages.export:export"),
    ("body build", programs.BuildBody, "posekit.stages.build_body:build_body"),
    ("demo", programs.Demo, "posekit.pipelines.demo:demo"),
)
"""(command as typed, config, module:function of the stage)."""

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
    }
)
"""Commands whose work several processes share; of any other the main process does all."""


def add_commands(app: typer.Typer) -> None:
    """Adds the pipeline's commands to the app."""
    groups = {name: typer.Typer(no_args_is_help=True, help=about) for name, about in GROUPS.items()}
    for typed, kind, stage in COMMANDS:
        group, _, name = typed.rpartition(" ")
        (groups[group] if group else app).command(name)(stage_command(kind, _runner(typed, stage)))
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)


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
