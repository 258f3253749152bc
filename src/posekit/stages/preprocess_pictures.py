"""`posekit preprocess images` and `posekit preprocess video`: own pictures and videos to one file."""

from __future__ import annotations

from posekit.config.prediction import PreprocessImages, PreprocessVideo
from posekit.datasets.pictures import find_pictures, find_videos
from posekit.stages.pictures import make_data_set
from posekit.stages.report import StageReport


def preprocess_images(config: PreprocessImages) -> StageReport:
    """A data set of single pictures; see `posekit.stages.pictures.make_data_set`. MissingFileError when there are none."""
    return make_data_set(config, find_pictures(config.raw), "preprocess images")


def preprocess_video(config: PreprocessVideo) -> StageReport:
    """A data set of videos; see `posekit.stages.pictures.make_data_set`. MissingFileError when there are none."""
    return make_data_set(config, find_videos(config.raw), "preprocess video")
