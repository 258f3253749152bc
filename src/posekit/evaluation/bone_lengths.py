"""The canonical bone length: that of the average training subject of a data set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from posekit.artifacts.files import Artifact
from posekit.evaluation.protocols import Protocol
from posekit.records import clips_from_columns
from posekit.skeleton.catalog import CATALOG
from posekit.skeleton.mapping import joint_map

_SAMPLES_AT_ONCE = 8192


def with_canonical_length(dataset: Artifact, protocol: Protocol) -> Protocol:
    """The protocol with the bone length of the average training subject as its canonical length.

    Each subject of the split `train` counts once, by the mean length of each bone over its samples with ground truth.
    The protocol comes back as it was where it has no canonical length, or where there is no such subject.
    """
    if protocol.canonical_bone_length is None or not dataset.has("samples", "joints3d"):
        return protocol
    target = dataset.skeleton if protocol.skeleton is None else CATALOG[protocol.skeleton]
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
        return protocol
    return replace(
        protocol,
        canonical_bone_length=float(np.mean(list(means.values()), axis=0).sum()),
        canonical_from=f"the average skeleton of the training subjects {', '.join(means)}",
    )
