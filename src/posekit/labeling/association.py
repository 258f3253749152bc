"""Who is who across views and time: detections of several cameras become people with one number each.

Detections of each view are first followed through time, in tracks that end wherever it is not certain who is who. Tracks of
different views are then joined by how well they agree with the epipolar geometry over all frames they share, which is far
surer than any single frame. In the end every frame is looked at again on its own. Where the cameras' poses are not known, the
geometry of two views is estimated from the tracks themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from posekit.labeling.association_frames import settle_frames
from posekit.labeling.association_tracks import Track, follow
from posekit.labeling.association_unposed import relative_cameras, track_distance
from posekit.labeling.association_views import View, make_view, pair_distances
from posekit.records import Camera

Detections = Sequence[Sequence[Float[np.ndarray, "_ J 3"]]]
PairTable = dict[tuple[int, int], Float[np.ndarray, "T _ _"]]

_UNSURE_PX = 0.5
"""How much of the threshold is added to the distance of tracks that share one frame only; falls with the square root."""


@dataclass(frozen=True)
class AssociationSettings:
    """How detections are matched.

    Distances are px at 1000 px image width. A track may miss `max_gap` frames. Without poses, two tracks must share
    `fewest_frames` frames for their geometry to be estimated, and agree with it to `max_unposed_px`: a geometry made to fit
    leaves less room.
    """

    min_confidence: float = 0.2
    max_distance_px: float = 40.0
    max_unposed_px: float = 10.0
    max_gap: int = 15
    fewest_frames: int = 10


@dataclass(frozen=True)
class Association:
    """Which detection of each camera and frame is which person.

    `members` (people x frames x cameras) are indices into the detections of that camera and frame, -1 where the person was
    not found. `distance_px` is each person's mean distance between views. `tracks_alone` and `detections_alone` count, per
    camera, who was seen by this camera only; `unusable` counts detections with too few certain joints, and `corrected` those
    that were taken from a person because they disagree with the other views in their frame.
    """

    members: Int[np.ndarray, "P T C"]
    distance_px: Float[np.ndarray, "P"]
    tracks_alone: Int[np.ndarray, "C"]
    detections_alone: Int[np.ndarray, "C"]
    unusable: int
    corrected: int

    def views(self) -> Int[np.ndarray, "P T"]:
        """In how many views each person is seen."""
        return (self.members >= 0).sum(axis=-1)


def associate(
    detections: Detections,
    cameras: Sequence[Camera],
    joints: int,
    settings: AssociationSettings | None = None,
    *,
    seed: int = 0,
) -> Association:
    """Matches the people of several views.

    `detections` are, for each camera and frame, people x joints x (x px, y px, confidence), all cameras over the same frames.
    Poses are used when all cameras have one. The first person is the one seen best in most views over most frames; people
    seen by one camera only are no one's match and are only counted.
    """
    settings = settings or AssociationSettings()
    views = [
        make_view(frames, camera, joints, settings.min_confidence)
        for frames, camera in zip(detections, cameras, strict=True)
    ]
    tracks = [track for number, view in enumerate(views) for track in follow(view, number, settings.max_gap)]
    posed = all(camera.posed for camera in cameras)
    table = _pair_table(views, cameras) if posed else {}
    if posed:
        groups = _joined(tracks, _distances_of_poses(tracks, table, settings), settings.max_distance_px)
    else:
        groups = _joined(
            tracks, _distances_without_poses(tracks, views, cameras, settings, seed), settings.max_unposed_px
        )
    people = [group for group in groups if len({tracks[i].camera for i in group}) > 1]
    before = _members([[tracks[i] for i in group] for group in people], len(views[0].present), len(views))
    if not posed:
        table = _estimated_table(before, views, cameras, seed)
    members = settle_frames(before, table, settings.max_distance_px)
    order = _ranking(members, views)
    tracks_alone, detections_alone = _alone(tracks, members)
    lost = (before >= 0) & (members != before)
    return Association(
        members=members[order],
        distance_px=_distances(members[order], table),
        tracks_alone=tracks_alone,
        detections_alone=detections_alone,
        unusable=sum(len(people) for frames in detections for people in frames)
        - sum(int(view.present.sum()) for view in views),
        corrected=int(lost.sum()),
    )


def _pair_table(views: Sequence[View], cameras: Sequence[Camera]) -> PairTable:
    return {
        (a, b): pair_distances(views[a], views[b], (cameras[a], cameras[b]))
        for a, b in combinations(range(len(views)), 2)
    }


def _estimated_table(
    members: Int[np.ndarray, "P T C"], views: Sequence[View], cameras: Sequence[Camera], seed: int
) -> PairTable:
    """Distances under the geometry that the people matched so far give; pairs of views that give none are left out."""
    table: PairTable = {}
    for a, b in combinations(range(len(views)), 2):
        posed = relative_cameras(members, (views[a], views[b]), (a, b), (cameras[a], cameras[b]), seed)
        if posed is not None:
            table[a, b] = pair_distances(views[a], views[b], posed)
    return table


def _alone(
    tracks: Sequence[Track], members: Int[np.ndarray, "P T C"]
) -> tuple[Int[np.ndarray, "C"], Int[np.ndarray, "C"]]:
    """Tracks, and detections, per camera that are no one's."""
    cameras = members.shape[2]
    left = [
        [t for t, detection in track.members.items() if not (members[:, t, track.camera] == detection).any()]
        for track in tracks
    ]
    per_track = np.bincount([track.camera for track, rest in zip(tracks, left, strict=True) if rest], minlength=cameras)
    counted = [track.camera for track, rest in zip(tracks, left, strict=True) for _ in rest]
    return per_track, np.bincount(np.array(counted, dtype=np.int64), minlength=cameras)


def _distances_of_poses(
    tracks: Sequence[Track], table: PairTable, settings: AssociationSettings
) -> Float[np.ndarray, "N N"]:
    """Distance of every two tracks of different cameras over the frames they share; NaN where they share none."""
    agreement = np.full((len(tracks), len(tracks)), np.nan)
    for i, j in combinations(range(len(tracks)), 2):
        first, second = tracks[i], tracks[j]
        if first.camera == second.camera:
            continue
        between = table[first.camera, second.camera]
        shared = sorted(first.members.keys() & second.members.keys())
        if not shared:
            continue
        away = between[shared, [first.members[t] for t in shared], [second.members[t] for t in shared]]
        away = away[~np.isnan(away)]
        if len(away):
            # The mean of the better part: a track that drifted to someone else for a moment is still this one's.
            trimmed = np.sort(away)[: max(1, round(0.8 * len(away)))].mean()
            agreement[i, j] = agreement[j, i] = trimmed + _UNSURE_PX * settings.max_distance_px / len(away) ** 0.5
    return agreement


def _distances_without_poses(
    tracks: Sequence[Track], views: Sequence[View], cameras: Sequence[Camera], settings: AssociationSettings, seed: int
) -> Float[np.ndarray, "N N"]:
    """As `_distances_of_poses`, each pair of tracks under the geometry that fits it best."""
    agreement = np.full((len(tracks), len(tracks)), np.nan)
    for i, j in combinations(range(len(tracks)), 2):
        first, second = tracks[i], tracks[j]
        if first.camera == second.camera:
            continue
        shared = sorted(first.members.keys() & second.members.keys())
        if len(shared) < settings.fewest_frames:
            continue
        agreement[i, j] = agreement[j, i] = track_distance(
            views[first.camera].pixels[shared, [first.members[t] for t in shared]],
            views[second.camera].pixels[shared, [second.members[t] for t in shared]],
            (cameras[first.camera], cameras[second.camera]),
            seed,
        )
    return agreement


def _joined(tracks: Sequence[Track], agreement: Float[np.ndarray, "N N"], max_distance: float) -> list[list[int]]:
    """Groups of tracks that are one person: the two nearest groups are joined until none are near enough.

    Two tracks of one camera that share a frame are two people. Groups are as far apart as their tracks on average.
    """
    groups = [[i] for i in range(len(tracks))]
    while True:
        best, pair = max_distance, (-1, -1)
        for i, j in combinations(range(len(groups)), 2):
            block = agreement[np.ix_(groups[i], groups[j])]
            known = block[~np.isnan(block)]
            if not len(known) or known.mean() > best or known.max() > 2 * max_distance:
                continue
            if not _clash(groups[i], groups[j], tracks):
                best, pair = float(known.mean()), (i, j)
        if pair[0] < 0:
            return groups
        merged = groups[pair[0]] + groups[pair[1]]
        groups = [group for number, group in enumerate(groups) if number not in pair] + [merged]


def _clash(first: Sequence[int], second: Sequence[int], tracks: Sequence[Track]) -> bool:
    return any(
        tracks[i].camera == tracks[j].camera and tracks[i].members.keys() & tracks[j].members.keys()
        for i in first
        for j in second
    )


def _members(people: Sequence[Sequence[Track]], frames: int, cameras: int) -> Int[np.ndarray, "P T C"]:
    members = np.full((len(people), frames, cameras), -1, dtype=np.int64)
    for number, group in enumerate(people):
        for track in group:
            for frame, detection in track.members.items():
                members[number, frame, track.camera] = detection
    return members


def _ranking(members: Int[np.ndarray, "P T C"], views: Sequence[View]) -> list[int]:
    """People in the order of how much of them is seen by at least two views; those never seen by two are left out."""
    scores = []
    for person in members:
        seen = person >= 0
        several = seen.sum(axis=-1) > 1
        score = 0.0
        for camera, view in enumerate(views):
            used = np.flatnonzero(several & seen[:, camera])
            score += float(view.confidence[used, person[used, camera]].sum())
        scores.append(score)
    return sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: (-scores[i], i))


def _distances(members: Int[np.ndarray, "P T C"], table: PairTable) -> Float[np.ndarray, "P"]:
    """Mean distance between the views of each person."""
    result = np.full(len(members), np.nan)
    for number, person in enumerate(members):
        away = []
        for (a, b), between in table.items():
            both = np.flatnonzero((person[:, a] >= 0) & (person[:, b] >= 0))
            away.append(between[both, person[both, a], person[both, b]])
        pooled = np.concatenate([np.zeros(0), *away])
        pooled = pooled[np.isfinite(pooled)]
        result[number] = pooled.mean() if len(pooled) else np.nan
    return result
