"""Shares and waiting among processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from posekit import parallel
from posekit.errors import ConfigError

PLACES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)


def place(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))


def test_a_single_process_has_everything_and_waits_for_nobody() -> None:
    assert (parallel.rank(), parallel.world_size(), parallel.local_rank(), parallel.local_world_size()) == (0, 1, 0, 1)
    assert parallel.is_main()
    assert parallel.my_share("abc") == ["a", "b", "c"]
    parallel.wait_for_all()


def test_shares_are_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(range(11))
    shares = []
    for rank in range(3):
        place(monkeypatch, rank, 3)
        assert parallel.is_main() == (rank == 0)
        assert parallel.local_rank() == rank and parallel.local_world_size() == 3
        shares.append(parallel.my_share(items))
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_places_on_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, 3, 4)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert (parallel.local_rank(), parallel.local_world_size()) == (1, 2)


def test_a_world_without_a_rank_is_no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert parallel.world_size() == 1 and parallel.rank() == 0


def test_an_environment_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(ConfigError, match="WORLD_SIZE"):
        parallel.world_size()


def test_others_that_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, 0, 2)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        parallel.wait_for_all()


WAITING = """
import sys, time
from posekit import parallel
assert not any(name == "torch" for name in sys.modules), "parallel must be cheap to import"
if parallel.is_main():
    time.sleep(0.3)
    open(sys.argv[1], "w").close()
parallel.wait_for_all()
import pathlib
assert pathlib.Path(sys.argv[1]).exists()
"""


@pytest.mark.slow
def test_nobody_goes_on_before_the_last_has_come(tmp_path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WAITING, str(tmp_path / "came")],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said


def test_posekit_is_a_module_that_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "posekit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("posekit ")


@pytest.mark.slow
def test_torchrun_starts_posekit() -> None:
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "posekit", "--version"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.count("posekit ") == 2
