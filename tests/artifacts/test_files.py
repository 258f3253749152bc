from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, kind_by_name
from posekit.artifacts.shards import ShardedArtifact
from posekit.artifacts.writing import ArtifactWriter
from posekit.errors import ArtifactError, MissingFileError, OutputError
from posekit.records import Camera, Clip, camera_columns, cameras_from_columns, clip_columns, clips_from_columns
from posekit.skeleton.catalog import H36M17

HEADER = Header(kind="correspondences", stage="test", settings={"a": 1}, inputs={"x": "12"}, seed=3)


def rows(count: int, seed: int = 0) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, count)
    return {
        "sequence": np.zeros(count),
        "frame": np.arange(count),
        "person": np.zeros(count),
        "camera": np.zeros(count),
        "pixels": [rng.normal(size=(n, 2)) for n in lengths],
        "vertices": [rng.integers(0, 6890, n) for n in lengths],
        "weights": [np.ones(n) for n in lengths],
    }


def write(path: Path, *parts: dict[str, object], header: Header = HEADER) -> Path:
    with ArtifactWriter(path, header) as writer:
        for part in parts:
            writer.append("samples", part)
    return path


def sliced(part: dict[str, object], begin: int, end: int) -> dict[str, object]:
    return {name: values[begin:end] for name, values in part.items()}  # type: ignore[index]


def test_round_trip_of_every_access(tmp_path: Path) -> None:
    part = rows(50)
    path = write(tmp_path / "a.h5", part)
    with Artifact(path, CORRESPONDENCES) as artifact:
        assert artifact.rows("samples") == 50
        np.testing.assert_array_equal(artifact.read("samples", "frame"), np.arange(50))
        order = [7, 3, 3, 49, 0]
        np.testing.assert_array_equal(artifact.read("samples", "frame", order), order)
        for chosen in (None, slice(10, 20), [4, 49, 4]):
            read = artifact.read_ragged("samples", "pixels", chosen)
            index = np.arange(50)[chosen] if isinstance(chosen, slice) else (chosen or range(50))
            assert len(read) == len(list(index))
            for row, i in zip(read, index, strict=True):
                np.testing.assert_allclose(row, part["pixels"][i], rtol=1e-6)  # type: ignore[index]
        assert artifact.read_ragged("samples", "pixels", slice(5, 5)) == []
        assert artifact.header == HEADER
        assert [block.stop - block.start for block in artifact.blocks("samples", 20)] == [20, 20, 10]
        artifact.verify()


def test_bytes_do_not_depend_on_how_rows_arrive(tmp_path: Path) -> None:
    part = rows(300)
    one = write(tmp_path / "one.h5", part)
    many = write(tmp_path / "many.h5", *(sliced(part, i, i + 7) for i in range(0, 300, 7)))
    again = write(tmp_path / "again.h5", part)
    with Artifact(one) as a, Artifact(many) as b:
        assert a.digest == b.digest
    assert one.read_bytes() == again.read_bytes()


def test_digest_tells_content_and_settings_apart(tmp_path: Path) -> None:
    digests = set()
    changed = Header(kind="correspondences", stage="test", settings={"a": 2}, inputs={"x": "12"}, seed=3)
    for i, (seed, header) in enumerate([(0, HEADER), (1, HEADER), (0, changed)]):
        with Artifact(write(tmp_path / f"{i}.h5", rows(5, seed), header=header)) as artifact:
            digests.add(artifact.digest)
    assert len(digests) == 3


def test_skip_only_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert not is_current(path, HEADER)
    write(path, rows(3))
    assert is_current(path, HEADER)
    for changed in (
        Header("correspondences", "test", {"a": 2}, {"x": "12"}, seed=3),
        Header("correspondences", "test", {"a": 1}, {"x": "13"}, seed=3),
        Header("correspondences", "test", {"a": 1}, {"x": "12"}, seed=4),
    ):
        assert not is_current(path, changed)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not is_current(path, HEADER)


def test_five_lines_of_plain_h5py(tmp_path: Path) -> None:
    header = Header(kind="dataset", stage="test", skeleton=H36M17)
    with ArtifactWriter(tmp_path / "d.h5", header) as writer:
        writer.append(
            "samples",
            {
                "sequence": [0, 0],
                "frame": [0, 1],
                "person": [0, 0],
                "camera": [0, 0],
                "bbox": np.zeros((2, 4)),
                "keypoints2d": np.zeros((2, 17, 3)),
                "image": [np.frombuffer(b"one", np.uint8), np.frombuffer(b"three", np.uint8)],
                "crop_from_image": np.zeros((2, 2, 3)),
            },
        )
    with h5py.File(tmp_path / "d.h5") as file:
        assert list(file.attrs["joint_names"]) == list(H36M17.joints)
        assert file["samples/keypoints2d"][:100].shape == (2, 17, 3)
        begin, end = file["samples/image/offsets"][1:3]
        assert file["samples/image/values"][begin:end].tobytes() == b"three"


def test_empty_tables_are_still_there(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "d.h5", Header(kind="dataset", stage="test", skeleton=H36M17)):
        pass
    with Artifact(tmp_path / "d.h5", DATASET) as artifact:
        assert artifact.rows("samples") == 0 and artifact.rows("cameras") == 0
        assert not artifact.has("samples", "image")
        assert artifact.skeleton is H36M17
        artifact.verify()


def test_cameras_and_clips_round_trip(tmp_path: Path) -> None:
    camera = Camera("c", 10, 20, np.eye(3) * 5, "opencv", (0.1, 0.2, 0.0, 0.0, 0.0), session="S1", posed=False)
    clip = Clip("walk 1", 50.0, "S1", "Walking", 1, "train")
    with ArtifactWriter(tmp_path / "d.h5", Header(kind="dataset", stage="test", skeleton=H36M17)) as writer:
        writer.append("cameras", camera_columns([camera, camera]))
        writer.append("sequences", clip_columns([clip]))
    with Artifact(tmp_path / "d.h5") as artifact:
        read = cameras_from_columns(artifact.table("cameras"))
        assert len(read) == 2
        assert read[0].distortion == (0.1, 0.2, 0, 0, 0, 0, 0, 0)
        assert (read[0].name, read[0].session, read[0].posed) == ("c", "S1", False)
        np.testing.assert_array_equal(read[0].intrinsics, camera.intrinsics)
        assert clips_from_columns(artifact.table("sequences")) == [clip]


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(KeyError), ArtifactWriter(path, HEADER) as writer:
        writer.append("samples", rows(3))
        raise KeyError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_artifact_and_the_next_cleans_up(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from posekit.artifacts.provenance import Header
        from posekit.artifacts.writing import ArtifactWriter
        with ArtifactWriter(Path(sys.argv[1]), Header(kind="truth", stage="test")) as writer:
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    path = tmp_path / "a.h5"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    write(path, rows(2))
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_shards_resume_and_equal_one_piece(tmp_path: Path) -> None:
    part = rows(40)
    shards = ShardedArtifact(tmp_path / "s.h5", HEADER, 4)
    for index in (2, 0):
        with shards.writer(index) as writer:
            writer.append("samples", sliced(part, 10 * index, 10 * index + 10))
    assert shards.pending() == [1, 3]
    other = ShardedArtifact(tmp_path / "s.h5", Header("correspondences", "test", {"a": 9}), 4)
    assert other.pending() == [0, 1, 2, 3]
    for index in shards.pending():
        with shards.writer(index) as writer:
            writer.append("samples", sliced(part, 10 * index, 10 * index + 10))
    shards.join({})
    assert not shards.folder.exists()
    with Artifact(tmp_path / "s.h5") as joined, Artifact(write(tmp_path / "w.h5", part)) as whole:
        assert joined.digest == whole.digest


def test_defects_of_the_caller_are_value_errors(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "a.h5", HEADER) as writer:
        writer.append("samples", rows(2))
        with pytest.raises(ValueError, match="has columns"):
            writer.append("samples", {"frame": [1]})
    for columns, message in [
        ({**rows(2), "more": [1, 2]}, "unknown columns"),
        ({**rows(2), "frame": [1]}, "different lengths"),
        ({**rows(2), "pixels": [np.zeros((1, 3))] * 2}, "shape"),
    ]:
        with pytest.raises(ValueError, match=message), ArtifactWriter(tmp_path / "b.h5", HEADER) as writer:
            writer.append("samples", columns)
    with Artifact(tmp_path / "a.h5") as artifact:
        with pytest.raises(ValueError, match="ragged"):
            artifact.read("samples", "pixels")
        with pytest.raises(ValueError, match="not ragged"):
            artifact.read_ragged("samples", "frame")
        with pytest.raises(ValueError, match="no column"):
            artifact.read("samples", "nothing")
        with pytest.raises(ValueError, match="steps"):
            artifact.read_ragged("samples", "pixels", slice(0, 2, 2))
        with pytest.raises(IndexError):
            artifact.read("samples", "frame", [2])


def test_bad_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    good = write(tmp_path / "good.h5", rows(2000))
    with pytest.raises(MissingFileError, match="not found"):
        Artifact(tmp_path / "none.h5")
    with pytest.raises(ArtifactError, match="folder"):
        Artifact(tmp_path)
    with pytest.raises(ArtifactError, match="wrong kind"):
        Artifact(good, DATASET)
    with pytest.raises(ArtifactError, match="unknown kind"):
        kind_by_name("soup")

    half = tmp_path / "half.h5"
    half.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(ArtifactError, match="cut short"):
        Artifact(half)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(ArtifactError, match="empty"):
        Artifact(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ArtifactError, match="not an artifact"):
        Artifact(tmp_path / "foreign.h5")

    for name, change, message in [
        ("newer", lambda file: file.attrs.__setitem__("schema_version", 99), "newer posekit"),
        ("unfinished", lambda file: file.attrs.__delitem__("complete"), "never finished"),
        ("headless", lambda file: file.attrs.__delitem__("inputs"), "header"),
    ]:
        copy = Path(shutil.copy(good, tmp_path / f"{name}.h5"))
        with h5py.File(copy, "r+") as file:
            change(file)
        with pytest.raises(ArtifactError, match=message):
            Artifact(copy)


def test_verify_names_the_damaged_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", rows(20))
    with h5py.File(path, "r+") as file:
        file["samples/frame"][7] = 1234
    with Artifact(path) as artifact, pytest.raises(ArtifactError, match="samples/frame"):
        artifact.verify()
    path = write(tmp_path / "a.h5", rows(20))
    with h5py.File(path, "r+") as file:
        file.attrs["digest"] = "0" * 64
    with Artifact(path) as artifact, pytest.raises(ArtifactError, match="header"):
        artifact.verify()
    path = write(tmp_path / "a.h5", rows(20))
    with h5py.File(path, "r+") as file:
        del file["samples/weights"]
    with Artifact(path) as artifact, pytest.raises(ArtifactError, match="lacks a column"):
        artifact.read_ragged("samples", "weights")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot write"):
            write(tmp_path / "a.h5", rows(1))
    finally:
        tmp_path.chmod(0o700)


def test_a_path_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "file" / "a.h5", rows(1))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ArtifactWriter(tmp_path / "a.h5", HEADER)
    writer.__enter__()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Dataset, "resize", full)
    with pytest.raises(OutputError, match="No space left"):
        writer.append("samples", rows(200_000))
    writer.__exit__(OutputError, None, None)
    assert list(tmp_path.iterdir()) == []
