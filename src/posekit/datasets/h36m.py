"""Human3.6M: which recordings a protocol takes, what is missing for them, and their cameras.

The published protocols are those of the HMR lineage (Kanazawa et al. 2018): training on S1, S5, S6, S7, S8, testing on S9 and
S11. Protocol 1 tests all cameras and trials, protocol 2 the camera 60457274 and the first trials.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from posekit.datasets.h36m_layout import (
    BOXES,
    D2,
    D3_MONO,
    VIDEO,
    ImageSource,
    Key,
    Kind,
    Layout,
    RawTree,
    scan,
    subjects_there,
)
from posekit.datasets.h36m_metadata import CAMERA_IDS, Metadata, Take, find_metadata, read_metadata
from posekit.errors import ConfigError, FormatError, MissingFileError
from posekit.records import Clip

Protocol = Literal["all", "p1", "p2"]
KnownBad = Literal["drop", "drop-displaced", "keep"]

TRAIN_SUBJECTS = ("S1", "S5", "S6", "S7", "S8")
TEST_SUBJECTS = ("S9", "S11")
SUBJECTS = (*TRAIN_SUBJECTS, *TEST_SUBJECTS)
"""The subjects with public ground truth."""

MISSING_IN_RELEASE = frozenset({Key("S11", "Directions", "54138969")})
"""Videos that the release lacks or has damaged."""

DISPLACED = frozenset({("S9", "Greeting"), ("S9", "SittingDown 1"), ("S9", "Waiting 1")})
"""Sequences whose ground truth is shifted against the image: good for root-relative errors, not for absolute ones."""

_PROTOCOL2_CAMERA = "60457274"


@dataclass(frozen=True)
class Selection:
    """What to take of the release; no subjects means all that are there."""

    layout: Layout = "auto"
    protocol: Protocol = "all"
    subjects: tuple[str, ...] = ()
    train_stride: int = 1
    test_stride: int = 1
    known_bad: KnownBad = "drop"

    def takes(self, key: Key, take: Take) -> bool:
        """Whether a sequence in a camera belongs to what is asked for."""
        if self.known_bad != "keep" and key in MISSING_IN_RELEASE:
            return False
        if self.known_bad == "drop-displaced" and (key.subject, key.base) in DISPLACED:
            return False
        if self.protocol == "p2" and key.subject in TEST_SUBJECTS:
            return key.camera == _PROTOCOL2_CAMERA and take.trial == 1
        return True

    def stride(self, subject: str) -> int:
        """Every how many frames of a subject are taken."""
        return self.test_stride if subject in TEST_SUBJECTS else self.train_stride


@dataclass(frozen=True)
class Recording:
    """One sequence in one camera, with the files that make it up."""

    key: Key
    take: Take
    stride: int
    images: ImageSource
    d2: Path
    d3_mono: Path
    boxes: Path | None

    @property
    def sequence(self) -> str:
        """Name of the sequence, the same for all cameras."""
        return f"{self.key.subject} {self.key.base}"

    def clip(self, fps: float) -> Clip:
        """The sequence as a row of the table `sequences`."""
        split = "test" if self.key.subject in TEST_SUBJECTS else "train"
        return Clip(self.sequence, fps, self.key.subject, self.take.action, self.take.trial, split)

    def files(self, raw: Path) -> list[Path]:
        """Every file that is read for it."""
        boxes = [] if self.boxes is None else [self.boxes]
        return [self.d2, self.d3_mono, *boxes, *self.images.files_read(raw, self.stride)]


@dataclass(frozen=True)
class Release:
    """A raw folder as a selection sees it.

    `recordings` are whole and stand in the order of subject, action, trial, camera; `problems` name every file that is
    missing, misnamed or empty; `absent` counts sequences of which nothing is there at all.
    """

    raw: Path
    layout: Literal["videos", "frames"]
    metadata: Metadata | None
    recordings: tuple[Recording, ...]
    problems: tuple[str, ...]
    absent: int = 0
    dropped: tuple[str, ...] = field(default=())


def check(raw: Path, selection: Selection) -> list[str]:
    """One line for every file that is missing, misnamed or empty, found by names and sizes alone."""
    return list(open_release(raw, selection).problems)


def open_release(raw: Path, selection: Selection) -> Release:
    """Looks for all files that a selection needs and opens none but metadata.xml.

    Raises ConfigError for subjects that there are not, MissingFileError where there is no raw folder or no subject in it.
    What is missing below that is listed in `problems`, not raised.
    """
    subjects = _subjects(raw, selection)
    problems: list[str] = []
    metadata: Metadata | None = None
    try:
        metadata = read_metadata(find_metadata(raw))
    except MissingFileError as error:
        problems.append(f"missing: metadata.xml ({error.hint})")
    except FormatError as error:
        problems.append(f"unusable: {error}")
    tree = scan(raw, selection.layout, subjects, metadata)
    problems += [_stray_line(tree, stray, metadata) for stray in tree.strays]
    recordings: list[Recording] = []
    dropped: list[str] = []
    absent = 0
    for subject in subjects:
        problems += _missing_folders(tree, subject)
        for take in _expected_takes(tree, subject, metadata):
            keys = [Key(subject, take.base, camera) for camera in CAMERA_IDS]
            if not any(_has_any(tree, key) for key in keys):
                absent += any(selection.takes(key, take) for key in keys)
                continue
            for key in keys:
                if not selection.takes(key, take):
                    dropped += [_title(key)] if selection.known_bad != "keep" and _is_bad(key) else []
                    continue
                lines = list(_problems_of(tree, key))
                problems += lines
                if not lines and metadata is not None and _is_whole(tree, key):
                    recordings.append(_recording(tree, key, take, selection.stride(subject)))
    return Release(raw, tree.layout, metadata, tuple(recordings), tuple(problems), absent, tuple(dropped))


def _subjects(raw: Path, selection: Selection) -> tuple[str, ...]:
    unknown = [subject for subject in selection.subjects if subject not in SUBJECTS]
    if unknown:
        raise ConfigError("subjects without public ground truth, or no subjects", got=unknown, accepted=SUBJECTS)
    if not raw.is_dir():
        raise MissingFileError(
            "raw folder of Human3.6M not found",
            got=raw,
            hint="Name it with --raw or in posekit.toml, or make a synthetic one with `posekit synthesize h36m`",
        )
    there = subjects_there(raw)
    gone = [subject for subject in selection.subjects if subject not in there]
    if gone:
        raise MissingFileError(f"subjects not found in {raw}", got=gone, accepted=there or "nothing is there")
    found = tuple(s for s in there if s in SUBJECTS and (not selection.subjects or s in selection.subjects))
    if not found:
        raise MissingFileError(
            f"no subject of Human3.6M in {raw}", got=there or "no folder S1, S5, ...", accepted=SUBJECTS
        )
    return found


def _expected_takes(tree: RawTree, subject: str, metadata: Metadata | None) -> list[Take]:
    if metadata is not None:
        return sorted(metadata.takes.get(subject, {}).values(), key=lambda take: (take.action_id, take.trial))
    bases = {key.base for keys in (tree.images, *tree.labels.values()) for key in keys if key.subject == subject}
    return [Take(base, base, 0, 0) for base in sorted(bases)]


def _has_any(tree: RawTree, key: Key) -> bool:
    return key in tree.images or any(key in tree.labels[kind] for kind in (D2, D3_MONO))


def _is_whole(tree: RawTree, key: Key) -> bool:
    return key in tree.images and all(key in tree.labels[kind] for kind in (D2, D3_MONO))


def _is_bad(key: Key) -> bool:
    return key in MISSING_IN_RELEASE or (key.subject, key.base) in DISPLACED


def _title(key: Key) -> str:
    return f"{key.subject} {key.base}.{key.camera}"


def _missing_folders(tree: RawTree, subject: str) -> Iterator[str]:
    kinds = [D2, D3_MONO] + ([VIDEO] if tree.layout == "videos" else [])
    for kind in kinds:
        if not tree.has_folder(subject, kind):
            yield f"missing folder: {subject}/{kind.folder} (archive {kind.archive}_{subject}.tgz)"


def _problems_of(tree: RawTree, key: Key) -> Iterator[str]:
    """What is wrong with one sequence in one camera; files of folders that are missing altogether are not repeated."""
    for kind in (D2, D3_MONO):
        file = tree.labels[kind].get(key)
        if file is None and tree.has_folder(key.subject, kind):
            yield f"missing: {_expected(key, kind)}"
        elif file is not None and file.stat().st_size == 0:
            yield f"empty: {file.relative_to(tree.raw).as_posix()}"
    source = tree.images.get(key)
    if source is None and tree.layout == "frames":
        yield f"missing: frames of {_title(key)}"
    elif source is None and tree.has_folder(key.subject, VIDEO):
        yield f"missing: {_expected(key, VIDEO)}"
    elif source is not None and not source.files and (tree.raw / source.path).stat().st_size == 0:
        yield f"empty: {source.path}"


def _expected(key: Key, kind: Kind) -> str:
    return f"{key.subject}/{kind.folder}/{key.base}.{key.camera}{kind.ending}"


def _stray_line(tree: RawTree, stray: Path, metadata: Metadata | None) -> str:
    path = stray.relative_to(tree.raw)
    known = [] if metadata is None else list(metadata.takes.get(path.parts[0], {}))
    expected = [f"{base}.{camera}" for base in known for camera in CAMERA_IDS]
    near = difflib.get_close_matches(stray.stem, expected, n=1)
    advice = f"; nearest known name: {near[0]}{stray.suffix}" if near else ""
    return f"misnamed: {path.as_posix()} (no sequence and camera of {path.parts[0]}{advice})"


def _recording(tree: RawTree, key: Key, take: Take, stride: int) -> Recording:
    return Recording(
        key,
        take,
        stride,
        tree.images[key],
        tree.labels[D2][key],
        tree.labels[D3_MONO][key],
        tree.labels[BOXES].get(key),
    )
