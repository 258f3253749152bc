r"""Makes `demo_overlay.png`, the picture of the README, from the folder that `posekit demo` wrote.

    posekit demo --output demo --resolution 1000
    posekit render --dataset demo/data/h36m.h5 --fits demo/fits/h36m.h5 --draw mesh --sequence "S1 Walking 1" \
        --output demo/renders/picture
    python docs/pictures/make_demo_picture.py demo

Four views of one instant: the synthetic frame above, the registered body drawn over it below, both cut to the person.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET
from posekit.datasets.crops import crop_image, square_crop
from posekit.datasets.media import open_frames

SIDE, FRAME, SEQUENCE, GAP = 320, 6, "S1 Walking 1", 6


def main(demo: Path) -> None:
    with Artifact(demo / "data" / "h36m.h5", DATASET) as dataset:
        raw = Path(dataset.header.facts["raw_root"])
        sequence = list(dataset.read("sequences", "name")).index(SEQUENCE)
        samples, videos = dataset.table("samples"), dataset.table("videos")
        names = dataset.read("cameras", "name")
    columns = []
    for camera in np.unique(samples["camera"][samples["sequence"] == sequence]):
        row = (samples["sequence"] == sequence) & (samples["camera"] == camera) & (samples["frame"] == FRAME)
        video = (videos["sequence"] == sequence) & (videos["camera"] == camera)
        crop = square_crop(samples["bbox"][row][0].astype(float), SIDE, 1.25)
        stem = f"{SEQUENCE.replace(' ', '_')}_{names[camera]}"
        pictures = []
        for path in (raw / str(videos["path"][video][0]), demo / "renders" / "picture" / f"{stem}_overlay.mp4"):
            with open_frames(path) as frames:
                pictures.append(crop_image(frames.frame(FRAME), crop, SIDE))
        columns.append(np.vstack([np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for picture in pictures]))
    target = Path(__file__).with_name("demo_overlay.png")
    cv2.imwrite(str(target), np.hstack(columns)[:-GAP, :-GAP, ::-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
