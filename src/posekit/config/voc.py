"""Configs of the stages that make occluders of PASCAL VOC."""

from __future__ import annotations

from pathlib import Path

from posekit.config.base import SeededConfig, StageConfig, read_path, runtime, setting, write_path


class SynthesizeVoc(SeededConfig):
    """`posekit synthesize voc`: small synthetic pictures of things in the raw layout of PASCAL VOC 2012."""

    output: Path = write_path("raw/voc", "Folder to write the raw layout into.")
    pictures: int = setting(60, "Pictures with segmentation.", ge=1)
    things: int = setting(4, "Things in a picture, at most.", ge=1, le=8)
    size: int = setting(400, "Longest side of the pictures (px).", ge=96, le=1000)


class PreprocessVoc(StageConfig):
    """`posekit preprocess voc`: objects cut out of the segmented pictures of PASCAL VOC 2012, to paste over people."""

    raw: Path = read_path("raw/voc", "Folder of the release, VOCdevkit/VOC2012 or above.", workspace="raw.voc")
    output: Path = write_path("data/voc.occluders.h5", "Occluders to write.")
    left_out: tuple[str, ...] = setting(("person",), "Categories that are left out.")
    difficult: bool = setting(False, "Take objects that are marked as difficult, too.")
    truncated: bool = setting(False, "Take objects that are marked as truncated, too.")
    min_area_px: int = setting(500, "Objects with fewer pixels are left out (Sárándi et al. 2018: 500).", ge=1)
    rim_px: int = setting(8, "Width of the softened border (Sárándi et al. 2018: 8).", ge=0)
    rim_opacity: float = setting(0.75, "Opacity of the border (Sárándi et al. 2018: 0.75).", gt=0, le=1)
    shrink: int = setting(2, "Objects are stored at one over this of their size (Sárándi et al. 2018: 2).", ge=1)
    check: bool = runtime(False, "List every missing file and stop.")
