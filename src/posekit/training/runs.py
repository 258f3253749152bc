"""Run folders: a trained model with how it was made, or a training under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from posekit import parallel
from posekit.artifacts.provenance import Header, file_digest
from posekit.atomic import replacing, writing
from posekit.errors import ArtifactError, FormatError, MissingFileError
from posekit.training.checkpoints import (
    Checkpoint,
    load_tensors,
    read_checkpoint,
    save_tensors,
    tensors_below,
    write_checkpoint,
)

KIND = "model"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A trained model as it lies on disk.

    `settings`, `inputs` and `facts` are those of its training, `weights` all tensors, named `<module>.<name>`, and
    `digest` is the SHA-256 of the file of weights.
    """

    path: Path
    stage: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    facts: Mapping[str, Any]
    seed: int | None
    digest: str
    weights: Mapping[str, Tensor] = field(repr=False)

    def module(self, name: str) -> dict[str, Tensor]:
        """The state of one module, for its `load_state_dict`; ArtifactError when the run has no such module."""
        state = tensors_below(self.weights, name)
        if not state:
            there = sorted({key.partition(".")[0] for key in self.weights})
            raise ArtifactError(f"the model in {self.path} has no part of this name", got=name, accepted=there)
        return state


def stage_of(path: Path) -> str:
    """What trained the model in a run folder, without reading the weights; raises as `load_run`."""
    return str(_finished(path)["stage"])


def load_run(path: Path) -> LoadedRun:
    """The trained model in a run folder.

    Raises MissingFileError where there is none (or its training has not finished), FormatError for a folder of another
    kind and ArtifactError for a damaged one.
    """
    config = _finished(path)
    digest = file_digest(path / WEIGHTS)
    if digest != config["weights_digest"]:
        raise ArtifactError(
            f"the weights in {path} are not those that {CONFIG} describes", hint="Run the training's command again"
        )
    weights, _ = load_tensors(path / WEIGHTS)
    return LoadedRun(
        path,
        config["stage"],
        config["settings"],
        config["inputs"],
        config["facts"],
        config["seed"],
        digest,
        weights,
    )


def _finished(path: Path) -> dict[str, Any]:
    """The description of the trained model in a run folder."""
    if not path.is_dir():
        raise MissingFileError("there is no run folder", got=path, hint="Train a model first")
    if not (path / CONFIG).is_file() or not (path / WEIGHTS).is_file():
        if (path / CHECKPOINT).is_file():
            raise MissingFileError(
                "the training has not finished", got=path, hint="Run its command again; it goes on where it stopped"
            )
        raise MissingFileError("this is not a run folder", got=path, accepted=f"a folder with {CONFIG} and {WEIGHTS}")
    return _read_config(path / CONFIG)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {path}", got=error) from error
    kinds = {"kind": str, "stage": str, "settings": dict, "inputs": dict, "facts": dict, "fingerprint": str}
    kinds["weights_digest"] = str
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise FormatError(f"{path} does not describe a trained model", accepted=f"a file of kind '{KIND}'")
    wrong = [name for name, kind in kinds.items() if not isinstance(config.get(name), kind)]
    if wrong or not isinstance(config.get("seed"), int | None):
        raise FormatError(f"{path} is incomplete", got=f"wrong or missing: {', '.join(wrong or ['seed'])}")
    return config


class RunFolder:
    """The folder that a training writes to. What `header` says decides whether something in it can be used."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self.fingerprint = header.fingerprint()
        self._again = False

    def is_finished(self) -> bool:
        """Whether the model that `header` describes is there, whole; False after `start_over`."""
        if self._again:
            return False
        try:
            config = _read_config(self.path / CONFIG)
            return (
                config["fingerprint"] == self.fingerprint
                and file_digest(self.path / WEIGHTS) == config["weights_digest"]
            )
        except (FormatError, MissingFileError):
            return False

    def load(self) -> LoadedRun:
        """The trained model; see `load_run`."""
        return load_run(self.path)

    def load_weights(self) -> Mapping[str, Tensor]:
        """The final weights, named `<module>.<name>`."""
        return self.load().weights

    def start_over(self) -> None:
        """Makes the next training begin at its first step, whatever is there (`--force`); every process must call it.

        A finished model stays until the new one takes its place.
        """
        self._again = True
        if parallel.is_main():
            with writing(self.path):
                (self.path / CHECKPOINT).unlink(missing_ok=True)
        parallel.wait_for_all()

    def last_checkpoint(self) -> tuple[Checkpoint | None, str]:
        """The checkpoint to go on from, if there is a fitting one, and what the user should know about it."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None, ""
        try:
            checkpoint = read_checkpoint(path, self.fingerprint)
        except FormatError as error:
            return None, f"the checkpoint cannot be used, so the training starts over: {error}"
        if checkpoint is None:
            return None, f"the unfinished training in {self.path} had other settings or inputs; this one starts over"
        return checkpoint, f"went on after step {checkpoint.step}"

    def begin(self) -> None:
        """Makes the folder, and clears away what a killed training was writing; OutputError where the file system refuses."""
        if parallel.is_main():
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                for half in self.path.glob(".*.tmp.*"):
                    half.unlink(missing_ok=True)
        parallel.wait_for_all()

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint (main process only)."""
        if parallel.is_main():
            write_checkpoint(self.path / CHECKPOINT, checkpoint, self.fingerprint)

    def finish(self, weights: Mapping[str, Tensor]) -> None:
        """Stores the final weights and what they are, and removes the checkpoint; every process must call it."""
        if parallel.is_main():
            save_tensors(self.path / WEIGHTS, weights)
            # The description comes second: weights that it does not fit are not taken for finished.
            with replacing(self.path / CONFIG) as temporary:
                temporary.write_text(json.dumps(self._description(), indent=2, default=str) + "\n", encoding="utf-8")
            with writing(self.path):
                (self.path / CHECKPOINT).unlink(missing_ok=True)
        self._again = False
        parallel.wait_for_all()

    def _description(self) -> dict[str, Any]:
        header = self.header
        return {
            "kind": KIND,
            "stage": header.stage,
            "settings": dict(header.settings),
            "inputs": dict(header.inputs),
            "seed": header.seed,
            "facts": dict(header.facts),
            "version": header.version,
            "fingerprint": self.fingerprint,
            "weights_digest": file_digest(self.path / WEIGHTS),
        }
