"""What each kind of artifact holds: tables, columns, types, units, and the version of that agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from posekit.errors import ArtifactError


@dataclass(frozen=True)
class Column:
    """One column of a table.

    `shape` is the shape of one row; a letter stands for a size that is fixed per file (J joints, K body joints). A ragged
    column has rows of different length along one leading axis; it is stored as `<name>/values` and `<name>/offsets`.
    """

    name: str
    dtype: str
    about: str
    shape: tuple[int | str, ...] = ()
    ragged: bool = False
    optional: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the rows are text."""
        return self.dtype == "str"

    def coerce(self, values: object) -> np.ndarray:
        """Rows as an array of this column's type; ValueError where shapes disagree (a defect of the caller)."""
        if self.is_text:
            return np.asarray([str(value) for value in values], dtype=object)  # type: ignore[attr-defined]
        array = np.asarray(values, dtype=self.dtype)
        if array.ndim != len(self.shape) + 1:
            raise ValueError(f"column {self.name}: rows must have shape {self.shape}, got {array.shape[1:]}")
        for expected, found in zip(self.shape, array.shape[1:], strict=True):
            if isinstance(expected, int) and expected != found:
                raise ValueError(f"column {self.name}: rows must have shape {self.shape}, got {array.shape[1:]}")
        return array


@dataclass(frozen=True)
class Kind:
    """One kind of artifact and the version of its schema."""

    name: str
    version: int
    about: str
    tables: Mapping[str, tuple[Column, ...]]

    def column(self, table: str, name: str) -> Column:
        """A column of a table; ValueError where there is none (a defect of the caller)."""
        for column in self.tables.get(table, ()):
            if column.name == name:
                return column
        raise ValueError(f"{self.name} artifacts have no column {table}/{name}")


_KEY = (
    Column("sequence", "int32", "row of the table `sequences` of the data set"),
    Column("frame", "int64", "frame number in the source video, from 0"),
    Column("person", "int32", "number of the person in the sequence, the same in all views and frames"),
)
_CAMERA_INDEX = Column("camera", "int32", "row of the table `cameras`; -1 when the row joins all views")

_CAMERAS = (
    Column("name", "str", "name of the camera"),
    Column("session", "str", "what the pose of the camera belongs to (a subject of Human3.6M), or empty"),
    Column("width", "int32", "image width, px"),
    Column("height", "int32", "image height, px"),
    Column("intrinsics", "float64", "K, px", (3, 3)),
    Column("lens", "str", "pinhole, opencv or human36m"),
    Column("distortion", "float64", "coefficients of the lens model, padded with zeros", (8,)),
    Column("rotation", "float64", "camera_from_world rotation", (3, 3)),
    Column("translation", "float64", "camera_from_world translation, m", (3,)),
    Column("posed", "bool", "whether rotation and translation are known"),
)

_SEQUENCES = (
    Column("name", "str", "name of the sequence"),
    Column("subject", "str", "who is seen, or empty"),
    Column("action", "str", "what is done, or empty"),
    Column("trial", "int32", "number of the trial, from 1; 0 when unknown"),
    Column("split", "str", "train, test, or empty"),
    Column("fps", "float64", "frames per second"),
)

_PAIRS = (
    Column("session", "str", "subject or sequence whose cameras these are"),
    Column("first", "int32", "row of `cameras`"),
    Column("second", "int32", "row of `cameras`"),
    Column("fundamental", "float64", "F with x2' F x1 = 0, undistorted px", (3, 3)),
    Column("rotation", "float64", "second_from_first", (3, 3)),
    Column("translation", "float64", "second_from_first, m (unit length before scaling)", (3,)),
    Column("scale", "float64", "metres per unit of the translation"),
    Column("matches", "int64", "point pairs used"),
    Column("inlier_ratio", "float64", "share of point pairs within the threshold"),
    Column("homography_ratio", "float64", "inliers of a homography / inliers of F; near 1 is degenerate"),
    Column("sampson_px", "float64", "median Sampson distance of the inliers, px"),
    Column("ok", "bool", "whether the pair passed the checks and was used"),
)

_QUALITY = (
    _CAMERA_INDEX,
    Column("points", "int64", "points projected"),
    Column("mean_px", "float64", "mean reprojection error, px"),
    Column("median_px", "float64", "median reprojection error, px"),
    Column("p95_px", "float64", "95th percentile, px"),
    Column("rejected", "int64", "observations rejected as outliers"),
)

DATASET = Kind(
    "dataset",
    1,
    "one row for every person in every view and frame, with labels and (optionally) the encoded image crop",
    {
        "cameras": _CAMERAS,
        "sequences": _SEQUENCES,
        "videos": (
            Column("sequence", "int32", "row of `sequences`"),
            Column("camera", "int32", "row of `cameras`"),
            Column("path", "str", "video file, or folder of frames, relative to the raw root"),
            Column("frames", "int64", "number of frames"),
        ),
        "samples": (
            *_KEY,
            _CAMERA_INDEX,
            Column("bbox", "float32", "x0, y0, x1, y1 of the person, px of the original image", (4,)),
            Column("keypoints2d", "float32", "x, y (px, original image, distorted) and confidence", ("J", 3)),
            Column(
                "joints3d", "float32", "ground truth in the frame of the camera, m; NaN: none", ("J", 3), optional=True
            ),
            Column(
                "head_px",
                "float32",
                "size of the head, 0.6 of the diagonal of its box, px of the original image (MPII); NaN: none",
                optional=True,
            ),
            Column(
                "detections",
                "int32",
                "joints that the release's own 2D detector found with a confidence above 0.3 (3DPW)",
                optional=True,
            ),
            Column("image", "uint8", "encoded crop (JPEG or PNG)", ragged=True, optional=True),
            Column(
                "crop_from_image", "float64", "2x3 affine map, px of the image to px of the crop", (2, 3), optional=True
            ),
        ),
    },
)

JOINTS3D = Kind(
    "joints3d",
    1,
    "3D joints made from several views, in the world of `cameras`",
    {
        "cameras": _CAMERAS,
        "pairs": _PAIRS,
        "poses": (
            *_KEY,
            Column("joints3d", "float32", "world, m; NaN: not given", ("J", 3)),
            Column("confidence", "float32", "0: dropped", ("J",)),
            Column("error_px", "float32", "mean reprojection error over the views used, px", ("J",)),
            Column("views", "uint32", "bit c set: view from `cameras` row (camera % 32) c was used", ("J",)),
            Column("ok", "bool", "whether the frame passed the filter"),
        ),
        "quality": _QUALITY,
    },
)

CORRESPONDENCES = Kind(
    "correspondences",
    1,
    "image points with the surface points of the body that they show",
    {
        "samples": (
            *_KEY,
            _CAMERA_INDEX,
            Column("pixels", "float32", "x, y, px of the original image", (2,), ragged=True),
            Column("vertices", "int32", "vertex of the body", ragged=True),
            Column("weights", "float32", "confidence", ragged=True),
        ),
    },
)

FITS = Kind(
    "fits",
    1,
    "segment-scaled bodies registered to labels",
    {
        "cameras": _CAMERAS,
        "fits": (
            *_KEY,
            _CAMERA_INDEX,
            Column("pose", "float32", "axis-angle relative to the parent, rad; row 0 is held at zero", ("K", 3)),
            Column("segment_scales", "float32", "absolute scale of each segment, 1 = template", ("K",)),
            Column("betas", "float32", "shape coefficients of the rest body", ("S",)),
            Column("orientation", "float32", "nine numbers; Gram-Schmidt gives target_from_body", (3, 3)),
            Column("translation", "float32", "of the root: m (perspective), or x, y, 0 in crop units (weak)", (3,)),
            Column("scale", "float32", "global scale (perspective: 1-ish; weak: crop units per metre)"),
            Column(
                "crop_from_image",
                "float64",
                "affine map from px of the image to crop units (weak)",
                (2, 3),
                optional=True,
            ),
            Column("losses", "float32", "final loss terms, in the order of the fact `loss_names`", ("L",)),
            Column("residual_px", "float32", "mean distance of projected points to the labels, px of a 224 crop"),
            Column("ok", "bool", "whether the fit may be used"),
            Column("reason", "str", "why not, or empty"),
        ),
    },
)

TRUTH = Kind(
    "truth",
    1,
    "what the studio knows of its own pictures: bodies, masks, IUV",
    {
        "cameras": _CAMERAS,
        "sequences": _SEQUENCES,
        "bodies": (
            *_KEY,
            Column("betas", "float32", "shape coefficients", ("S",)),
            Column("pose", "float32", "axis-angle relative to the parent, rad; row 0 is world_from_body", ("K", 3)),
            Column("translation", "float32", "added after posing (SMPL's convention), world, m", (3,)),
            Column("gender", "str", "male, female or neutral, where the bodies are of several models", optional=True),
        ),
        "views": (
            *_KEY,
            _CAMERA_INDEX,
            Column("origin", "int32", "x, y of the top-left pixel of mask and IUV in the original image", (2,)),
            Column("mask", "uint8", "PNG, 255 = person, cut to the person's box", ragged=True),
            Column("iuv", "uint8", "PNG, channels part (0..24), u, v (0..255), cut to the person's box", ragged=True),
        ),
    },
)

KEYPOINTS = Kind(
    "keypoints",
    1,
    "2D key points of the people of a data set, from a network or from files",
    {
        "samples": (
            *_KEY,
            _CAMERA_INDEX,
            Column("keypoints2d", "float32", "x, y (px, original image, distorted) and confidence", ("J", 3)),
        ),
    },
)

VIEW_LABELS = Kind(
    "view-labels",
    1,
    "3D labels of single images, made from two views each, in the frame of the image's own camera",
    {
        "cameras": _CAMERAS,
        "pairs": _PAIRS,
        "samples": (
            *_KEY,
            _CAMERA_INDEX,
            Column("partner", "int32", "row of `cameras` of the other view"),
            Column("joints3d", "float32", "in the frame of the camera, m; NaN: dropped", ("J", 3)),
            Column("pixels", "float32", "where these joints fall in the original image, distorted, px", ("J", 2)),
            Column("weights", "float32", "0: dropped", ("J",)),
            Column("error_px", "float32", "reprojection error in this view, px", ("J",)),
            Column("ok", "bool", "whether the frame passed the filter"),
        ),
        "quality": _QUALITY,
    },
)

POSES = Kind(
    "poses",
    1,
    "joints that a network predicted from single images",
    {
        "cameras": _CAMERAS,
        "samples": (
            *_KEY,
            _CAMERA_INDEX,
            Column(
                "joints3d", "float32", "m, in axes parallel to the camera's; about the root or in its frame", ("J", 3)
            ),
            Column("keypoints2d", "float32", "x, y (px, original image, distorted) and confidence", ("J", 3)),
            Column("ok", "bool", "whether the prediction may be used"),
            Column("reason", "str", "why not, or empty"),
        ),
    },
)

OCCLUDERS = Kind(
    "occluders",
    1,
    "objects cut out of photographs, to be pasted in front of people",
    {
        "objects": (
            Column("category", "str", "what it is"),
            Column("source", "str", "name of the photograph"),
            Column("area_px", "int64", "pixels of the object in the photograph"),
            Column("image", "uint8", "PNG, red, green, blue and opacity, cut to the object's box", ragged=True),
        ),
    },
)

MASKS = Kind(
    "masks",
    1,
    "one mask for every person of a data set",
    {
        "samples": (
            *_KEY,
            _CAMERA_INDEX,
            Column("size", "int32", "height, width of the original image, px", (2,)),
            Column("counts", "uint8", "COCO's compressed run lengths of the mask over the original image", ragged=True),
            Column("bbox", "float32", "x0, y0, x1, y1 of the mask's person, px of the original image; NaN: none", (4,)),
            Column("score", "float32", "confidence of the detector, 1 for masks from files; 0: none"),
            Column("found", "bool", "whether there is a mask"),
        ),
    },
)

SEGMENTS = Kind(
    "segments",
    1,
    "true silhouettes and part segmentations of the people of a data set, over the whole original image",
    {
        "samples": (
            *_KEY,
            _CAMERA_INDEX,
            Column("size", "int32", "height, width of the original image, px", (2,)),
            Column("mask", "uint8", "PNG, 255 = person; empty: none", ragged=True),
            Column(
                "parts",
                "uint8",
                "PNG: 0 background, 1 left arm, 2 right arm, 3 head, 4 left leg, 5 right leg, 6 torso, 255 undecided; "
                "empty: none",
                ragged=True,
            ),
        ),
    },
)

ERRORS = Kind(
    "errors",
    1,
    "the errors of every evaluated sample, beside a result, so that two results can be compared sample by sample",
    {
        "sequences": _SEQUENCES,
        "errors": (
            Column("heading", "int32", "what was evaluated: place in the fact `headings`"),
            *_KEY,
            Column("camera", "int32", "row of the table `cameras` of the data set"),
            Column(
                "errors",
                "float64",
                "mean over the sample's points of each metric of the fact `metrics`, in its `units`; NaN: not measured",
                ("M",),
            ),
        ),
    },
)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        DATASET,
        KEYPOINTS,
        JOINTS3D,
        VIEW_LABELS,
        CORRESPONDENCES,
        MASKS,
        SEGMENTS,
        OCCLUDERS,
        FITS,
        POSES,
        TRUTH,
        ERRORS,
    )
}


def kind_by_name(name: str) -> Kind:
    """A kind by its name; ArtifactError lists those that exist."""
    try:
        return KINDS[name]
    except KeyError:
        raise ArtifactError("unknown kind of artifact", got=name, accepted=sorted(KINDS)) from None
