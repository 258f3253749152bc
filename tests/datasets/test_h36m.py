from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from posekit.datasets.h36m import Selection, check, open_release
from posekit.errors import ConfigError, FormatError, MissingFileError

CAMERA = "54138969"


@pytest.fixture
def raw(tmp_path: Path, h36m_raw: ModuleType):
    """S1 with a numbered and an unnumbered sequence, S9 with one of each trial; `_ALL` clips as in the release."""
    made = h36m_raw.RawH36M(tmp_path / "the raw files", frames=3, rows=3)
    for subject, base in (
        ("S1", "Directions 1"),
        ("S1", "TakingPhoto"),
        ("S1", "_ALL"),
        ("S9", "WalkDog 1"),
        ("S9", "Greeting"),
    ):
        made.add(subject, base)
    return made


def test_a_whole_release_has_no_problems(raw) -> None:
    release = open_release(raw.root, Selection())
    assert release.problems == ()
    assert release.layout == "videos"
    assert release.absent == 56
    names = [(r.sequence, r.key.camera) for r in release.recordings]
    assert len(names) == 16
    assert names[:5] == [
        *(("S1 Directions 1", camera) for camera in ("54138969", "55011271", "58860488", "60457274")),
        ("S1 TakingPhoto", "54138969"),
    ]
    clip = release.recordings[4].clip(50.0)
    assert (clip.action, clip.trial, clip.split) == ("Photo", 2, "train")
    assert check(raw.root, Selection()) == []


def test_every_missing_file_is_listed(raw) -> None:
    (raw.root / f"S1/Videos/Directions 1.{CAMERA}.mp4").unlink()
    (raw.root / f"S1/MyPoseFeatures/D2_Positions/TakingPhoto.{CAMERA}.cdf").unlink()
    (raw.root / f"S9/MyPoseFeatures/D3_Positions_mono/Greeting.{CAMERA}.cdf").write_bytes(b"")
    shutil.rmtree(raw.root / "S9/Videos")
    problems = check(raw.root, Selection())
    assert problems == [
        f"missing: S1/Videos/Directions 1.{CAMERA}.mp4",
        f"missing: S1/MyPoseFeatures/D2_Positions/TakingPhoto.{CAMERA}.cdf",
        "missing folder: S9/Videos (archive Videos_S9.tgz)",
        f"empty: S9/MyPoseFeatures/D3_Positions_mono/Greeting.{CAMERA}.cdf",
    ]
    assert len(open_release(raw.root, Selection()).recordings) == 6


def test_misnamed_files_are_listed_with_the_name_they_should_have(raw) -> None:
    folder = raw.root / "S1/Videos"
    (folder / f"Directions 1.{CAMERA}.mp4").rename(folder / f"Direction 1.{CAMERA}.mp4")
    (folder / "TakingPhoto.55011271.mp4").rename(folder / "TakingPhoto.5501127.mp4")
    problems = check(raw.root, Selection())
    assert any(
        line.startswith(f"misnamed: S1/Videos/Direction 1.{CAMERA}.mp4") and f"Directions 1.{CAMERA}.mp4" in line
        for line in problems
    )
    assert any("TakingPhoto.5501127.mp4" in line and "TakingPhoto.55011271.mp4" in line for line in problems)
    assert f"missing: S1/Videos/Directions 1.{CAMERA}.mp4" in problems


def test_missing_metadata_does_not_hide_missing_files(raw) -> None:
    (raw.root / "metadata.xml").unlink()
    (raw.root / f"S1/Videos/Directions 1.{CAMERA}.mp4").unlink()
    problems = check(raw.root, Selection())
    assert problems[0].startswith("missing: metadata.xml")
    assert f"missing: S1/Videos/Directions 1.{CAMERA}.mp4" in problems
    (raw.root / "metadata.xml").write_text("nonsense")
    assert check(raw.root, Selection())[0].startswith("unusable: metadata.xml is not XML")


def test_subjects(raw, tmp_path: Path) -> None:
    release = open_release(raw.root, Selection(subjects=("S9",)))
    assert {r.key.subject for r in release.recordings} == {"S9"}
    with pytest.raises(MissingFileError, match=r"S11.*accepted: S1, S9"):
        open_release(raw.root, Selection(subjects=("S11", "S1")))
    with pytest.raises(ConfigError, match=r"S2.*accepted: S1, S5"):
        open_release(raw.root, Selection(subjects=("S2",)))
    with pytest.raises(MissingFileError, match=r"raw folder of Human3\.6M not found"):
        open_release(tmp_path / "nothing", Selection())
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"no subject of Human3\.6M"):
        open_release(tmp_path / "empty", Selection())


def test_protocols_and_strides(raw) -> None:
    p2 = open_release(raw.root, Selection(protocol="p2", train_stride=2, test_stride=3))
    test = [(r.sequence, r.key.camera, r.stride) for r in p2.recordings if r.key.subject == "S9"]
    assert test == [("S9 WalkDog 1", "60457274", 3)]
    assert sum(r.key.subject == "S1" and r.stride == 2 for r in p2.recordings) == 8
    p1 = open_release(raw.root, Selection(protocol="p1"))
    assert len(p1.recordings) == 16


def test_known_bad_sequences(raw) -> None:
    raw.add("S11", "Directions", cameras=(1, 2, 3))
    dropped = open_release(raw.root, Selection())
    assert dropped.problems == ()
    assert dropped.dropped == (f"S11 Directions.{CAMERA}",)
    assert sum(r.sequence == "S9 Greeting" for r in dropped.recordings) == 4
    kept = open_release(raw.root, Selection(known_bad="keep"))
    assert f"missing: S11/Videos/Directions.{CAMERA}.mp4" in kept.problems
    displaced = open_release(raw.root, Selection(known_bad="drop-displaced"))
    assert not any(r.sequence == "S9 Greeting" for r in displaced.recordings)
    assert len(displaced.dropped) == 5


def grouped(root: Path, subject: str, base: str, camera: str) -> str:
    stem = f"{subject}_{base.replace(' ', '_')}.{camera}"
    return f"{root}/images/{stem}_{{:06d}}.jpg"


def by_subject(root: Path, subject: str, base: str, camera: str) -> str:
    stem = f"{subject}_{base.replace(' ', '_')}.{camera}"
    return f"{root}/images/{subject}/{stem}/{stem}_{{:06d}}.jpg"


def in_subject(root: Path, subject: str, base: str, camera: str) -> str:
    stem = f"{subject}_{base.replace(' ', '_')}.{camera}"
    return f"{root}/{subject}/images/{stem}/{stem}_{{:06d}}.jpg"


def beside_videos(root: Path, subject: str, base: str, camera: str) -> str:
    return f"{root}/{subject}/Videos/{base}.{camera}/{{:06d}}.png"


def by_action(root: Path, subject: str, base: str, camera: str) -> str:
    action = {"Directions 1": "Directions-1", "TakingPhoto": "TakingPhoto-2"}[base]
    return f"{root}/processed/{subject}/{action}/imageSequence/{camera}/img_{{:06d}}.jpg"


def by_numbers(root: Path, subject: str, base: str, camera: str) -> str:
    number = ("54138969", "55011271", "58860488", "60457274").index(camera) + 1
    act, subact = {"Directions 1": (2, 1), "TakingPhoto": (12, 2)}[base]
    stem = f"s_{int(subject[1:]):02d}_act_{act:02d}_subact_{subact:02d}_ca_{number:02d}"
    return f"{root}/{stem}/{stem}_{{:06d}}.jpg"


@pytest.mark.parametrize("pattern", [grouped, by_subject, in_subject, beside_videos, by_action, by_numbers])
def test_extracted_frames_in_common_layouts(
    tmp_path: Path, h36m_raw: ModuleType, pattern: Callable[[Path, str, str, str], str]
) -> None:
    made = h36m_raw.RawH36M(tmp_path, rows=12)
    for base in ("Directions 1", "TakingPhoto"):
        made.add("S1", base, video=False)
        for camera, size in zip(h36m_raw.CAMERAS, h36m_raw.SIZES, strict=True):
            h36m_raw.write_frames(pattern(tmp_path, "S1", base, camera), range(0, 12, 5), size)
    release = open_release(tmp_path, Selection(train_stride=5))
    assert (release.problems, release.layout, len(release.recordings)) == ((), "frames", 8)
    for recording in release.recordings:
        with recording.images.open(tmp_path) as source:
            levels = {index: round(float(image.mean())) for index, image in source.frames()}
        assert levels.keys() == {0, 5, 10}
        assert all(abs(shown - h36m_raw.level(index)) <= 2 for index, shown in levels.items())
        assert len(recording.files(tmp_path)) == 2 + 3


def test_frames_numbered_from_zero_are_refused(tmp_path: Path, h36m_raw: ModuleType) -> None:
    made = h36m_raw.RawH36M(tmp_path)
    made.add("S1", "Directions 1", video=False, cameras=(0,))
    h36m_raw.write_frames(by_subject(tmp_path, "S1", "Directions 1", CAMERA), range(-1, 4), (100, 102))
    recording = open_release(tmp_path, Selection()).recordings[0]
    with pytest.raises(FormatError, match="numbered from 0"):
        recording.images.open(tmp_path)


def test_frames_missing_for_a_camera(tmp_path: Path, h36m_raw: ModuleType) -> None:
    made = h36m_raw.RawH36M(tmp_path)
    made.add("S1", "Directions 1", video=False)
    for camera in h36m_raw.CAMERAS[1:]:
        h36m_raw.write_frames(by_subject(tmp_path, "S1", "Directions 1", camera), range(4), (100, 100))
    assert check(tmp_path, Selection()) == [f"missing: frames of S1 Directions 1.{CAMERA}"]
    assert "missing folder: S1/Videos (archive Videos_S1.tgz)" in check(tmp_path, Selection(layout="videos"))
