from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import av
import cdflib
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, TRUTH
from posekit.body.smpl_file import load_body
from posekit.camera_stack import stack_cameras
from posekit.config.data import PreprocessH36M, SynthesizeH36M
from posekit.datasets.h36m import Selection, check, open_release
from posekit.errors import ConfigError, InputError, MissingFileError, OutputError
from posekit.records import cameras_from_columns
from posekit.skeleton.catalog import H36M17, H36M32
from posekit.stages.preprocess_h36m import preprocess_h36m
from posekit.stages.studio_folder import NOTICE_FILE
from posekit.stages.synthesize import synthesize_h36m
from posekit.synthetic.bodies import Take, posed
from posekit.synthetic.h36m_joints import Human36MJoints

FRAMES = 3


def small(output: Path, **changes: object) -> SynthesizeH36M:
    settings: dict[str, object] = {
        "output": output,
        "subjects": ("S1", "S9"),
        "actions": ("Walking", "Photo"),
        "frames": FRAMES,
        "fps": 10.0,
        "resolution": 128,
        "correspondences": 15,
        "device": "cpu",
    }
    return SynthesizeH36M(**{**settings, **changes})


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "h36m"
    report = synthesize_h36m(small(folder))
    assert report.counts == {"subjects": 2, "sequences": 4, "frames": 12, "views": 48}
    assert report.outputs == [folder / "truth.h5", folder / "dense.h5"]
    return folder


@pytest.fixture
def truth(raw: Path) -> Iterator[Artifact]:
    with Artifact(raw / "truth.h5", TRUTH) as artifact:
        yield artifact


def test_the_raw_layout_is_whole_for_its_reader(raw: Path, truth: Artifact) -> None:
    assert check(raw, Selection()) == []
    release = open_release(raw, Selection())
    assert len(release.recordings) == 2 * 2 * 4
    assert {recording.sequence for recording in release.recordings} == set(truth.read("sequences", "name"))
    assert (raw / "S1/Videos/TakingPhoto 1.54138969.mp4").is_file()
    assert (raw / "S9/Videos/Photo 1.54138969.mp4").is_file()
    assert len(list(raw.glob("S9/Videos/_ALL.*.mp4"))) == 4


def test_poses_are_those_of_the_bodies_in_the_truth(raw: Path, truth: Artifact) -> None:
    body = load_body()
    stored = truth.table("bodies")
    cameras = cameras_from_columns(truth.table("cameras"))
    names = truth.read("sequences", "name")
    for row, name in enumerate(names):
        of = stored["sequence"] == row
        betas, pose, translation = (stored[key][of].astype(np.float64) for key in ("betas", "pose", "translation"))
        result = posed(body, Take(10.0, betas[0], pose, translation))
        joints = Human36MJoints(body)(result.vertices, result.joints)
        subject, base = name.split(" ", 1)
        features = raw / subject / "MyPoseFeatures"
        world = read_pose(features / "D3_Positions" / f"{base}.cdf") / 1000
        assert np.abs(world - joints).max() < 1e-5
        for camera in cameras:
            if camera.session == subject:
                pixels = read_pose(features / "D2_Positions" / f"{base}.{camera.name}.cdf")
                exact = stack_cameras([camera]).project(torch.from_numpy(joints)[:, None])[:, 0].numpy()
                assert np.abs(pixels - exact).max() < 0.001


def read_pose(path: Path) -> np.ndarray:
    values = cdflib.CDF(path).varget("Pose")[0]
    return values.reshape(len(values), 32, -1).astype(np.float64)


def test_dense_correspondences_are_projections_of_the_bodies(raw: Path, truth: Artifact) -> None:
    body = load_body()
    stored = truth.table("bodies")
    cameras = cameras_from_columns(truth.table("cameras"))
    with Artifact(raw / "dense.h5", CORRESPONDENCES) as dense:
        keys = {name: dense.read("samples", name) for name in ("sequence", "frame", "camera")}
        pixels, vertices = (dense.read_ragged("samples", name) for name in ("pixels", "vertices"))
        assert dense.header.facts["sequence_names"] == list(truth.read("sequences", "name"))
        assert dense.header.facts["camera_names"] == [camera.name for camera in cameras]
        assert dense.header.facts["camera_sessions"] == [camera.session for camera in cameras]
    for row in range(0, len(pixels), 5):
        of = (stored["sequence"] == keys["sequence"][row]) & (stored["frame"] == keys["frame"][row])
        betas, pose, translation = (stored[name][of].astype(np.float64) for name in ("betas", "pose", "translation"))
        result = posed(body, Take(10.0, betas[0], pose, translation))
        camera = cameras[keys["camera"][row]]
        subject = truth.read("sequences", "subject", [int(keys["sequence"][row])])[0]
        assert camera.session == subject
        exact = stack_cameras([camera]).project(torch.from_numpy(result.vertices[0, vertices[row]]))[0].numpy()
        assert len(vertices[row]) == 15
        assert np.abs(pixels[row] - exact).max() < 1e-3


@pytest.mark.slow
def test_labels_come_back_through_the_raw_layout(raw: Path, truth: Artifact, tmp_path: Path) -> None:
    """3D joints within 0.01 mm, image points within 0.05 px of the truth."""
    preprocess_h36m(PreprocessH36M(raw=raw, output=tmp_path / "h36m.h5", train_stride=1, test_stride=1, crops=False))
    body, stored, names = load_body(), truth.table("bodies"), list(truth.read("sequences", "name"))
    rigged = {(camera.session, camera.name): camera for camera in cameras_from_columns(truth.table("cameras"))}
    with Artifact(tmp_path / "h36m.h5", DATASET) as dataset:
        samples, clips = dataset.table("samples"), dataset.read("sequences", "name")
        cameras = cameras_from_columns(dataset.table("cameras"))
    assert len(samples["frame"]) == 4 * 4 * FRAMES
    chosen = list(H36M32.indices(*H36M17.joints))
    for row in range(len(samples["frame"])):
        of = stored["sequence"] == names.index(clips[samples["sequence"][row]])
        of &= stored["frame"] == samples["frame"][row]
        betas, pose, translation = (stored[name][of].astype(np.float64) for name in ("betas", "pose", "translation"))
        result = posed(body, Take(10.0, betas[0], pose, translation))
        joints = torch.from_numpy(Human36MJoints(body)(result.vertices, result.joints)[0, chosen])
        camera = cameras[samples["camera"][row]]
        exact = stack_cameras([rigged[camera.session, camera.name]])[0]
        assert np.abs(exact.camera_from_world(joints).numpy() - samples["joints3d"][row]).max() < 1e-5
        assert np.abs(exact.project(joints).numpy() - samples["keypoints2d"][row, :, :2]).max() < 0.05


def test_videos_may_be_longer_than_poses(raw: Path) -> None:
    counts = {}
    for path in raw.glob("S1/Videos/Walking 1.*.mp4"):
        with av.open(str(path)) as container:
            counts[path.stem.rpartition(".")[2]] = sum(1 for _ in container.decode(video=0))
    assert counts == {"54138969": 3, "55011271": 4, "58860488": 4, "60457274": 3}


@pytest.mark.slow
def test_same_seed_same_bytes(raw: Path, tmp_path: Path) -> None:
    synthesize_h36m(small(tmp_path / "again"))
    assert digests(tmp_path / "again") == digests(raw)


def test_another_seed_is_another_recording(raw: Path, tmp_path: Path) -> None:
    synthesize_h36m(small(tmp_path / "other", seed=1, subjects=("S1",), actions=("Walking",)))
    first, other = digests(raw), digests(tmp_path / "other")
    same = {name for name in other if first.get(name) == other[name]}
    assert same == {NOTICE_FILE}


def test_current_work_is_skipped_and_changed_work_is_not(raw: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    assert synthesize_h36m(small(raw)).skipped
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before
    report = synthesize_h36m(small(raw, dry_run=True, frames=5))
    assert not report.skipped and "S1 Walking 1" in report.notes[0]
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


@pytest.mark.slow
def test_incomplete_work_is_done_again(tmp_path: Path) -> None:
    config = small(tmp_path / "h36m", subjects=("S9",), actions=("Walking",))
    synthesize_h36m(config)
    whole = digests(tmp_path / "h36m")
    (tmp_path / "h36m/S9/Videos/Walking 1.54138969.mp4").unlink()
    assert not synthesize_h36m(config).skipped
    assert digests(tmp_path / "h36m") == whole


def test_what_a_killed_run_left_does_no_harm(tmp_path: Path) -> None:
    config = small(tmp_path / "h36m", subjects=("S9",), actions=("Walking",))
    leftover = tmp_path / ".h36m.unfinished" / "S9"
    leftover.mkdir(parents=True)
    (leftover / "junk").write_text("half a video")
    assert not synthesize_h36m(config).skipped
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h36m"]
    assert not list((tmp_path / "h36m").rglob("junk"))


def test_the_missing_video_of_the_release_is_missing_here(tmp_path: Path) -> None:
    config = small(tmp_path / "h36m", subjects=("S11",), actions=("Directions",), trials=2, frames=2)
    report = synthesize_h36m(config)
    assert report.counts["views"] == 2 * (4 + 3)
    videos = {path.name for path in (tmp_path / "h36m/S11/Videos").glob("Directions.*")}
    assert videos == {f"Directions.{camera}.mp4" for camera in ("55011271", "58860488", "60457274")}
    assert check(tmp_path / "h36m", Selection()) == []
    assert synthesize_h36m(config).skipped


def test_recorded_motion_is_used(tmp_path: Path, shared_dir: Path) -> None:
    config = small(tmp_path / "h36m", subjects=("S9",), actions=("Walking",), motion=shared_dir / "mocap" / "walk.npz")
    synthesize_h36m(config)
    with Artifact(tmp_path / "h36m" / "truth.h5") as artifact:
        assert set(artifact.header.inputs) == {"body", "motion"}
        recorded = artifact.read("bodies", "pose")
    assert np.abs(recorded[:, 22:]).max() == 0.0


def test_foreign_data_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "S1").mkdir()
    with pytest.raises(InputError, match="did not make"):
        synthesize_h36m(small(tmp_path, force=True))
    assert (tmp_path / "S1").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a file where a folder"):
        synthesize_h36m(small(tmp_path / "file"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"subjects": ("S2",)}, InputError, r"without public ground truth.*S2.*S1"),
        ({"subjects": ("S1", "S1")}, InputError, "each once"),
        ({"subjects": ()}, InputError, "must be given"),
        ({"actions": ("Juggling",)}, InputError, r"no such action.*Juggling.*Directions"),
        ({"actions": ("Photo", "TakingPhoto")}, InputError, "each once"),
        ({"motion": Path("nowhere.npz")}, MissingFileError, "not found"),
        ({"body": Path("nowhere.pkl")}, MissingFileError, "body model file not found"),
        ({"device": "warp"}, ConfigError, "unknown device"),
    ],
)
def test_bad_settings(tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        synthesize_h36m(small(tmp_path / "h36m", **changes))
    assert list(tmp_path.iterdir()) == []


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        synthesize_h36m(small(tmp_path / "file" / "h36m"))
