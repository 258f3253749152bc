"""Published evaluation protocols by name: which frames, which joints, which root, which alignment.

Numbers with the same name are not always comparable: "protocol 1" and "protocol 2" mean different things in different
families of papers. A result therefore carries its whole protocol. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from posekit.errors import InputError

Alignment = Literal["root", "procrustes", "scale", "bone_length"]
Split = Literal["all", "train", "test"]
ScaleBy = Literal["lsq", "procrustes"]

METRIC_OF_ALIGNMENT: dict[Alignment, str] = {
    "root": "mpjpe",
    "procrustes": "pa_mpjpe",
    "scale": "n_mpjpe",
    "bone_length": "bone_rescaled_mpjpe",
}

H36M_FRONTAL_CAMERA = "60457274"
H36M_TRAINING = ("S1", "S5", "S6", "S7", "S8")
H36M_TEST = ("S9", "S11")

H36M_BONE_LENGTH = 4.150
"""Length of the 16 bones of Human3.6M's 17 joints in the skeleton of its exponential-map recordings, m."""

_CONSTANT = "the skeleton of Human3.6M's exponential-map recordings"


@dataclass(frozen=True)
class Protocol:
    """One way to measure 3D joints.

    `skeleton` names the joints that are measured, or is None for all that the data set has. `roots` are the joints whose
    mean is the root (they need not be measured themselves). Empty `subjects`, `cameras` and `trials` mean all. Of the
    frames of a video those with ``frame % stride == 0`` count; `split` narrows them to sequences that the data set marks
    as train or test. `headline` is the alignment of the published figure. `canonical_bone_length` (m) is what all bones
    sum to after the alignment by bone length, and `canonical_from` says where that length is from. Samples in which the
    release's own detector found fewer than `min_detections` joints do not count. `scale_by` says how the alignment by scale
    finds it: by least squares, or (`procrustes`) that of the full similarity, as EpipolarPose does.
    """

    name: str
    title: str
    frames: str
    headline: Alignment
    skeleton: str | None = None
    roots: tuple[str, ...] = ("pelvis",)
    alignments: tuple[Alignment, ...] = ("root", "procrustes", "scale")
    subjects: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    trials: tuple[int, ...] = ()
    stride: int = 1
    split: Split = "all"
    canonical_bone_length: float | None = None
    canonical_from: str = ""
    scale_by: ScaleBy = "lsq"
    action_average: bool = False
    min_detections: int = 0

    def selects(self, *, subject: str, camera: str, trial: int, frame: int, split: str = "") -> bool:
        """Whether a view of a frame is evaluated. A camera that is not known (empty) is let through."""
        return (
            (not self.subjects or subject in self.subjects)
            and self.split in ("all", split)
            and (not self.cameras or not camera or camera in self.cameras)
            and (not self.trials or trial in self.trials)
            and frame % self.stride == 0
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for results."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


_CATALOG = (
    Protocol(
        name="all",
        title="every frame of the data set, in its own joints",
        frames="all",
        headline="root",
    ),
    Protocol(
        name="h36m-spin-p1",
        title="Human3.6M, protocol 1 as in SPIN",
        frames="S9 and S11, all four cameras, every 5th frame, 14 joints, pelvis as root",
        headline="root",
        skeleton="j14",
        subjects=H36M_TEST,
        stride=5,
    ),
    Protocol(
        name="h36m-spin-p2",
        title="Human3.6M, protocol 2 as in SPIN",
        frames="S9 and S11, frontal camera 60457274, every 5th frame, 14 joints; published after Procrustes",
        headline="procrustes",
        skeleton="j14",
        subjects=H36M_TEST,
        cameras=(H36M_FRONTAL_CAMERA,),
        stride=5,
    ),
    Protocol(
        name="h36m-hmr-p1",
        title="Human3.6M, protocol 1 as in HMR",
        frames="S9 and S11, all four cameras, every 5th frame, 14 joints, middle of the hips as root",
        headline="root",
        skeleton="j14",
        roots=("left_hip", "right_hip"),
        subjects=H36M_TEST,
        stride=5,
    ),
    Protocol(
        name="h36m-hmr-p2",
        title="Human3.6M, protocol 2 as in HMR",
        frames="S9 and S11, trial 1, frontal camera 60457274, every 5th frame, 14 joints; published after Procrustes",
        headline="procrustes",
        skeleton="j14",
        roots=("left_hip", "right_hip"),
        subjects=H36M_TEST,
        cameras=(H36M_FRONTAL_CAMERA,),
        trials=(1,),
        stride=5,
    ),
    Protocol(
        name="h36m-17",
        title="Human3.6M, protocols 1 to 3 of Martinez et al. and VideoPose3D",
        frames="S9 and S11, all four cameras, every frame, 17 joints, pelvis as root; mean of the 15 actions' means",
        headline="root",
        skeleton="h36m17",
        subjects=H36M_TEST,
        action_average=True,
    ),
    Protocol(
        name="deform-and-learn",
        title="Yoshiyasu and Gamez 2019",
        frames="S9 and S11, all four cameras, every frame, 17 joints, prediction rescaled to the canonical bone length",
        headline="bone_length",
        skeleton="h36m17",
        alignments=("bone_length", "root", "procrustes", "scale"),
        subjects=H36M_TEST,
        canonical_bone_length=H36M_BONE_LENGTH,
        canonical_from=_CONSTANT,
    ),
    Protocol(
        name="deform-and-learn-train",
        title="Yoshiyasu and Gamez 2019, on the training subjects",
        frames="S1, S5, S6, S7 and S8, all four cameras, every frame, 17 joints, "
        "prediction rescaled to the canonical bone length",
        headline="bone_length",
        skeleton="h36m17",
        alignments=("bone_length", "root", "procrustes", "scale"),
        subjects=H36M_TRAINING,
        canonical_bone_length=H36M_BONE_LENGTH,
        canonical_from=_CONSTANT,
    ),
    Protocol(
        name="pose-resnet",
        title="Pose ResNet 2023",
        frames="S9 and S11, all four cameras, every frame, 16 joints including the pelvis, which is the root",
        headline="root",
        skeleton="mpii16",
        subjects=H36M_TEST,
    ),
    Protocol(
        name="pose-resnet-train",
        title="Pose ResNet 2023, on the training subjects",
        frames="S1, S5, S6, S7 and S8, all four cameras, every frame, 16 joints including the pelvis, which is the root",
        headline="root",
        skeleton="mpii16",
        subjects=H36M_TRAINING,
    ),
    Protocol(
        name="3dpw-spin",
        title="3DPW as in SPIN",
        frames="all people and pictures whose camera is trusted (35,515 of the release's test set), 14 joints by "
        "Human3.6M's regressor on the bodies of men and women, its pelvis as root",
        headline="procrustes",
        skeleton="j14",
        alignments=("root", "procrustes"),
    ),
    Protocol(
        name="3dpw-vibe",
        title="3DPW as in VIBE",
        frames="people and pictures whose camera is trusted and of whom more than 6 key points were detected with a "
        "confidence above 0.3 (34,561 of the release's test set), 14 joints by Human3.6M's regressor, middle of the hips "
        "as root",
        headline="procrustes",
        skeleton="j14",
        roots=("left_hip", "right_hip"),
        alignments=("root", "procrustes"),
        min_detections=7,
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _CATALOG}

ALIASES = {"p1": "h36m-hmr-p1", "p2": "h36m-hmr-p2"}
"""The short names mean what they mean in `posekit preprocess h36m`."""


def protocol_by_name(name: str) -> Protocol:
    """A protocol by its name or alias; InputError lists those that exist."""
    try:
        return PROTOCOLS[ALIASES.get(name, name)]
    except KeyError:
        raise InputError("unknown protocol", got=name, accepted=[*PROTOCOLS, *ALIASES]) from None


def narrowed(protocol: Protocol, split: Split) -> Protocol:
    """A protocol on one split of the data set; InputError for protocols that choose their subjects themselves."""
    if split == "all":
        return protocol
    if protocol.subjects:
        raise InputError(
            f"protocol {protocol.name} chooses its subjects itself",
            got=f"split {split}",
            accepted="split all",
            hint="Use --protocol all, or --protocol deform-and-learn-train for the training subjects",
        )
    return replace(protocol, split=split, frames=f"{protocol.frames}; sequences of the split {split}")
