"""The raw layouts of LSP, LSP-extended and the segmentations of UPi-S1h."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import scipy.io
import torch
from jaxtyping import Bool, Float, UInt8

from posekit.body.landmarks import landmarks
from posekit.body.smpl_file import BodyData
from posekit.body.surface import COARSE_6
from posekit.camera_stack import stack_cameras
from posekit.datasets.crops import encode_image
from posekit.datasets.lsp import IGNORE, UPI_FROM, PartOrder
from posekit.skeleton.catalog import COCO17, LSP14
from posekit.synthetic.bodies import posed
from posekit.synthetic.snapshot import SeenPerson, Shot, Snapshot

LSP_FOLDER, EXTENDED_FOLDER, SEGMENTS_FOLDER = "lsp_dataset", "lspet_dataset", "upi-s1h/data/lsp"

_MATLAB = 1.0
"""What the annotations call the first pixel."""


def image_name(extended: bool, number: int) -> str:
    """The file of a picture, below the raw folder."""
    return f"{EXTENDED_FOLDER}/images/im{number:05d}.jpg" if extended else f"{LSP_FOLDER}/images/im{number:04d}.jpg"


def segment_names(number: int) -> tuple[str, str]:
    """The silhouette and the part segmentation of a picture of LSP, below the raw folder."""
    stem = f"{SEGMENTS_FOLDER}/im{number:04d}"
    return f"{stem}_segmentation.png", f"{stem}_part_segmentation.png"


class JointFinder:
    """LSP's joints of a body in a picture."""

    def __init__(self, body: BodyData) -> None:
        self._body = body
        points = landmarks(body, LSP14.joints)
        self._from_joints = points.joint_weights.double().numpy()
        self._from_vertices = points.vertex_weights.double().numpy()
        self._vertex_ids = points.vertex_ids

    def find(self, shot: Shot, seen: SeenPerson) -> tuple[Float[np.ndarray, "14 2"], Bool[np.ndarray, "14"]]:
        """Pixels of the first person's joints (the first pixel is 1), and which are hidden."""
        body = posed(self._body, shot.people[0])
        points = self._from_joints @ body.joints[0] + self._from_vertices @ body.vertices[0, self._vertex_ids]
        pixels = stack_cameras([shot.camera])[0].project(torch.from_numpy(points)).numpy()
        hidden = np.array([_hidden(name, pixels[row], seen) for row, name in enumerate(LSP14.joints)])
        return pixels + _MATLAB, hidden


def _hidden(name: str, pixel: np.ndarray, seen: SeenPerson) -> bool:
    if name in COCO17:
        return bool(seen.keypoints[COCO17.index(name), 2] < 2)
    height, width = seen.mask.shape
    # The top of the head lies on the outline.
    x, y = np.rint(pixel).astype(int).clip(2, [width - 3, height - 3])
    return not seen.mask[y - 2 : y + 3, x - 2 : x + 3].any()


def write_image(folder: Path, extended: bool, number: int, snapshot: Snapshot, quality: int) -> None:
    """One picture."""
    path = folder / image_name(extended, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_image(snapshot.image, "jpeg", quality).tobytes())


def write_joints(
    folder: Path,
    extended: bool,
    places: Float[np.ndarray, "N 14 2"],
    flags: Bool[np.ndarray, "N 14"],
) -> None:
    """The joints: LSP's as (3, 14, N) with 1 for hidden ones, LSP-extended's as (14, 3, N) with 1 for labelled ones."""
    joints = np.concatenate([places, flags[..., None].astype(np.float64)], axis=-1)
    if extended:
        joints[~flags, :2] = -1.0
    path = folder / (EXTENDED_FOLDER if extended else LSP_FOLDER) / "joints.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"joints": joints.transpose((1, 2, 0) if extended else (2, 1, 0))})


def write_segments(
    folder: Path, number: int, seen: SeenPerson, order: PartOrder, fit: Literal["exact", "short", "double"]
) -> None:
    """The silhouette and the six parts of a picture: of its size, a row short, or enlarged.

    Pixels between two parts are left undecided.
    """
    mask = seen.mask.astype(np.uint8) * np.uint8(255)
    parts = undecided_between(COARSE_6[seen.parts].astype(np.uint8))
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    for stored, upi in enumerate(UPI_FROM[order]):
        table[upi] = stored
    for name, labels in zip(segment_names(number), (mask, table[parts]), strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if fit == "short":
            labels = labels[:-1]
        elif fit == "double":
            labels = np.repeat(np.repeat(labels, 2, axis=0), 2, axis=1)
        path.write_bytes(np.asarray(cv2.imencode(".png", labels)[1]).tobytes())


def undecided_between(parts: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """255 at pixels whose right neighbour is of another part of the body."""
    undecided = parts.copy()
    left, right = parts[:, :-1], parts[:, 1:]
    undecided[:, :-1][(left != right) & (left > 0) & (right > 0)] = IGNORE
    return undecided
