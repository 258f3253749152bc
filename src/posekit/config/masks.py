"""Config of the stage that gives people their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, StageConfig, read_path, runtime, setting, write_path


class PseudoLabelMasks(StageConfig):
    """`posekit pseudo-label masks`: one mask for every person of a data set, by Mask R-CNN or from files."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    raw: Path | None = read_path(None, "Folder of the original frames; default: the one that preprocess read.")
    masks: Path | None = read_path(
        None,
        "What to read masks from: the folder of pictures (png), a file of COCO annotations or the release's folder (coco), "
        "the release's folder (h36m), the studio's truth.h5 (truth); default: the raw folder, or truth.h5 in it.",
    )
    weights_file: Path | None = read_path(
        None, "Weights of Mask R-CNN (.pth or .safetensors); default: torchvision's, downloaded once."
    )
    output: Path | None = write_path(None, "Masks to write; default: labels/NAME.masks.h5.")
    source: Literal["mask-rcnn", "png", "coco", "h36m", "truth"] = setting(
        "mask-rcnn",
        "mask-rcnn: detected in the pictures; png: pictures of masks; coco: segmentations of COCO annotations; h36m: the "
        "silhouettes of the release; truth: what the studio knows.",
    )
    network: Literal["v1", "v2"] = setting(
        "v2", "torchvision's maskrcnn_resnet50_fpn (v1), or the one that was trained longer (v2)."
    )
    pictures: Literal["auto", "originals", "crops"] = setting(
        "auto", "What Mask R-CNN sees: the original frames, or the stored crops; auto: crops only without originals."
    )
    min_score: float = setting(0.5, "Detections with a lower score count for nothing.", ge=0.05, le=1)
    min_overlap: float = setting(
        0.3,
        "Least overlap (intersection over union) of a detection's box with a person's; the paper takes the largest and "
        "names no least.",
        ge=0,
        le=1,
    )
    image_side: int = setting(800, "Shorter side of what Mask R-CNN sees (px).", ge=32)
    batch: int = runtime(2, "Pictures that go through the network together.", ge=1)
    device: Device = runtime("auto", "auto, cpu or cuda.")
