"""A program that runs `posekit train deform-and-learn` in processes that are killed, and without any such disturbance.

It is started once and forks, because starting Python and torch takes longer than the work. Its arguments are the folder to
work in and those of the command, without --output.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import posekit.cli.main
from posekit.pipelines import deform_and_learn
from posekit.registration.fitting import BodyFitter
from posekit.stages import predict, register
from posekit.training.regressor import RegressorMethod


def start(arguments: list[str], prepare: Callable[[], object] = lambda: None) -> int:
    """The command in a fork of this process; returns the fork's number."""
    child = os.fork()
    if child:
        return child
    sys.argv = ["posekit", "train", "deform-and-learn", *arguments]
    code = 1
    try:
        prepare()
        posekit.cli.main.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:  # a fork must never come back into the caller's program
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def outcome(child: int) -> int:
    """What became of a fork; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_in(owner: Any, name: str, call: int) -> Callable[[], None]:
    """Makes a process kill itself in its `call`-th call of a method."""

    def prepare() -> None:
        real = getattr(owner, name)
        calls = []

        def dying(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        setattr(owner, name, dying)

    return prepare


# Where to die, and what must lie there then for the next run to go on with. Registration has three shards in each round;
# training takes as many steps as epochs allow, with a checkpoint after each.
SHARDS, CHECKPOINTS = "round-*/*.parts/*.h5", "round-*/model/checkpoint.safetensors"
PLACES = [
    (die_in(BodyFitter, "columns", 2), SHARDS),
    (die_in(RegressorMethod, "step", 3), CHECKPOINTS),
    (die_in(deform_and_learn, "predict", 2), "round-*/model/model.safetensors"),
    (die_in(BodyFitter, "columns", 2), SHARDS),
    (die_in(RegressorMethod, "step", 3), CHECKPOINTS),
]


def main(folder: Path, arguments: list[str]) -> None:
    # Several shards even of a tiny data set; how the work is cut decides nothing about its result.
    register._SHARD_ROWS = 3
    predict._SHARD_ROWS = 5
    began = time.monotonic()
    assert outcome(start([*arguments, "--output", str(folder / "whole" / "run")])) == 0
    seconds = time.monotonic() - began
    pieces = [*arguments, "--output", str(folder / "pieces" / "run")]

    moments = random.Random(4)
    for number, (place, left) in enumerate(PLACES):
        assert outcome(start(pieces, place)) == -signal.SIGKILL, f"never came to place {number}"
        assert list((folder / "pieces" / "run").glob(left)), f"nothing to go on with at place {number}"
        child = start(pieces)
        time.sleep(moments.uniform(0.03, 0.13) * seconds)
        os.kill(child, signal.SIGKILL)
        assert outcome(child) == -signal.SIGKILL, f"was done before moment {number}"
        said = [str(path.relative_to(folder)) for path in (folder / "pieces").rglob("*") if path.is_file()]
        sys.stderr.write(f"killed at {number}: {len(said)} files\n")
    assert outcome(start(pieces)) == 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])
