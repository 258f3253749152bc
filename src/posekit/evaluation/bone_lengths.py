"""The canonical bone length: that of the average training subject of a data set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from posekit.artifacts.files import Artifact
from posekit.evaluation.protocols import Protocol
from posekit.records import clips_from_columns
from posekit.skeleton.catalog import CATALOG
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton

_SAMPLES_AT_ONCE = 8192


def with_canonical_length(dataset: Artifact, protocol: Protocol) -> Protocol:
    """The protocol with the bone length of the average training subject as its canonical length.

    The protocol comes back as it was where it has no canonical length, or where there is no such subject.
    """
    if protocol.canonical_bone_length is None:
        return protocol
    average = average_bone_length(dataset, None if protocol.skeleton is None else CATALOG[protocol.skeleton])
    if average is None:
        return protocol
    return replace(protocol, canonical_bone_length=average.metres, canonical_from=average.source)


@dataclass(frozen=True)
class BoneLength:
    """The length of all bones of a skeleton, and in words whose it is."""

    metres: float
    source: str


def average_bone_length(dataset: Artifact, skeleton: Skeleton | None) -> BoneLength | None:
    """The total length of the bones of the average training subject; None where no such subject has ground truth.

    Each subject of the split `train` counts once, by the mean length of each bone over its samples with ground truth.
    Without a skeleton the bones are the data set's own. Raises InputError where the data set lacks a joint of it.
    """
    if not dataset.has("samples", "joints3d"):
        return None
    target = skeleton or dataset.skeleton
    joints = joint_map(dataset.skeleton, target, require_all=dataset.skeleton is not target)
    parents, children = [bone[0] for bone in target.bones], [bone[1] for bone in target.bones]
    clips = clips_from_columns(dataset.table("sequences"))
    subjects = np.array([clip.subject if clip.split == "train" else "" for clip in clips], dtype=str)
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(parents)))
    counts: dict[str, int] = defaultdict(int)
    for rows in dataset.blocks("samples", _SAMPLES_AT_ONCE):
        subject = subjects[dataset.read("samples", "sequence", rows)]
        if not (subject != "").any():
            continue
        points = joints.points(dataset.read("samples", "joints3d", rows).astype(np.float64))
        lengths = np.linalg.norm(points[:, children] - points[:, parents], axis=-1)
        for name in np.unique(subject[subject != ""]):
            known = lengths[(subject == name) & np.isfinite(lengths).all(-1)]
            sums[str(name)] += known.sum(0)
            counts[str(name)] += len(known)
    means = {name: sums[name] / count for name, count in sorted(counts.items()) if count}
    if not means:
        return None
    return BoneLength(
        float(np.mean(list(means.values()), axis=0).sum()),
        f"the average skeleton of the training subjects {', '.join(means)}",
    )
