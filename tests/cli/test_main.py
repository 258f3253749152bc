"""The command line as a user meets it, in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter

COMMAND = [sys.executable, "-c", "from posekit.cli.main import main; main()"]


def posekit(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def correspondences(path: Path, **changes: object) -> Path:
    header = Header(**{"kind": "correspondences", "stage": "made by hand", "settings": {"n": 3}, "seed": 1} | changes)  # type: ignore[arg-type]
    with ArtifactWriter(path, header) as writer:
        writer.append(
            "samples",
            {name: [0, 0] for name in ("sequence", "frame", "person", "camera")}
            | {"pixels": [np.zeros((2, 2))] * 2, "vertices": [np.zeros(2)] * 2, "weights": [np.ones(2)] * 2},
        )
    return path


def test_help_answers_in_half_a_second(tmp_path: Path) -> None:
    seconds = []
    for _ in range(6):
        # Processor time, because other tests share the machine.
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = posekit("--help", folder=tmp_path)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
        assert done.returncode == 0
    for command in (
        "init",
        "doctor",
        "synthesize",
        "preprocess",
        "triangulate",
        "register",
        "eval",
        "render",
        "export",
    ):
        assert command in done.stdout
    # On a machine so slow that the libraries alone take a fifth of a second, 2.4 times what they take.
    assert min(seconds) < max(0.5, 2.4 * _seconds_of_the_libraries())


def _seconds_of_the_libraries() -> float:
    code = "import typer.main, pydantic, rich.console; pydantic.BaseModel"
    seconds = []
    for _ in range(3):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
    return min(seconds)


def test_version(tmp_path: Path) -> None:
    done = posekit("--version", folder=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("posekit ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-command"], "No such command"),
        (["register", "--no-such-option"], "No such option"),
        (["register", "--iters", "many"], "--iters"),
        (["register", "--iters", "0"], "greater than or equal to 1"),
        (["render", "--draw", "mush"], "mush"),
        (["register", "--dataset", "none.h5"], "not found"),
        (["register", "--recipe", "none.yaml"], "recipe not found"),
        (["info", "none.h5"], "not found"),
        (["verify", "none.h5"], "not found"),
        (["log", "none.h5"], "not found"),
    ],
)
def test_bad_usage_is_one_clear_message_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = posekit(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_recipe_is_checked_like_options(tmp_path: Path) -> None:
    for text, said in [
        ("iters: [", "not YAML"),
        ("- 1", "mapping"),
        ("iterations: 3", "Extra inputs"),
        ("iters: 0", "greater than"),
    ]:
        (tmp_path / "r.yaml").write_text(text)
        done = posekit("register", "--recipe", "r.yaml", folder=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_init_makes_a_workspace_once(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    done = posekit("init", folder, folder=tmp_path)
    assert done.returncode == 0 and (folder / "posekit.toml").is_file()
    again = posekit("init", folder, folder=tmp_path)
    assert again.returncode == 2 and "--force" in again.stderr
    assert posekit("init", folder, "--force", folder=tmp_path).returncode == 0
    (tmp_path / "file").touch()
    assert posekit("init", tmp_path / "file" / "x", folder=tmp_path).returncode == 1


def test_doctor_names_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    posekit("init", folder=tmp_path)
    done = posekit("doctor", folder=tmp_path)
    assert done.returncode == 0
    for word in ("torch", "video encoder", "body (shipped)", "raw h36m", "posekit synthesize h36m"):
        assert word in done.stdout
    checks = json.loads(posekit("doctor", "--json", folder=tmp_path).stdout)
    assert {check["state"] for check in checks} <= {"ok", "missing"}
    (tmp_path / "posekit.toml").write_text('[body]\npath = "none.pkl"\n')
    broken = posekit("doctor", folder=tmp_path)
    assert broken.returncode == 1 and "none.pkl" in broken.stdout


def test_info_shows_what_a_file_holds(tmp_path: Path) -> None:
    path = correspondences(tmp_path / "a b.h5", facts={"body": "free"})
    done = posekit("info", path, folder=tmp_path)
    assert done.returncode == 0
    for word in ("correspondences", "made by hand", "samples: 2 rows", "vertices", "free"):
        assert word in done.stdout
    found = json.loads(posekit("info", path, "--json", folder=tmp_path).stdout)
    assert found["tables"]["samples"]["rows"] == 2


def test_verify_finds_damage(tmp_path: Path) -> None:
    path = correspondences(tmp_path / "a.h5")
    done = posekit("verify", path, folder=tmp_path)
    assert done.returncode == 0 and "whole" in done.stdout
    with h5py.File(path, "r+") as file:
        file["samples/frame"][0] = 9
    done = posekit("verify", path, correspondences(tmp_path / "b.h5"), folder=tmp_path)
    assert done.returncode == 2
    assert "samples/frame" in done.stderr and "b.h5: whole" in done.stdout


def test_log_follows_inputs_that_are_at_hand(tmp_path: Path) -> None:
    from posekit.artifacts.files import Artifact

    posekit("init", folder=tmp_path)
    first = correspondences(tmp_path / "data" / "first.h5")
    with Artifact(first) as artifact:
        digest = artifact.digest
    second = correspondences(tmp_path / "fits" / "second.h5", inputs={"dense": digest, "gone": "f" * 64})
    done = posekit("log", second, folder=tmp_path)
    assert done.returncode == 0
    for word in ("second.h5", "first.h5", "made by hand", "not at hand", "seed"):
        assert word in done.stdout
    entries = json.loads(posekit("log", second, "--json", folder=tmp_path).stdout)
    assert [Path(entry["file"]).name for entry in entries] == ["second.h5", "first.h5"]


def test_a_closed_pipe_is_no_crash(tmp_path: Path) -> None:
    path = correspondences(tmp_path / "a.h5")
    done = subprocess.run(
        f'{sys.executable} -c "from posekit.cli.main import main; main()" info {path} | head -n 1',
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
