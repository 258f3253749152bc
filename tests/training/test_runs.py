"""Run folders: what counts as finished, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from posekit.artifacts.provenance import Header, file_digest
from posekit.errors import ArtifactError, FormatError, MissingFileError, OutputError
from posekit.training.checkpoints import Checkpoint, save_tensors
from posekit.training.runs import RunFolder, load_run

HEADER = Header("model", "train x", {"width": 8, "path": Path("a")}, {"dataset": "d1"}, seed=3, facts={"size": 224})
WEIGHTS = {"net.a": torch.arange(3.0), "net.b.c": torch.ones(1), "other.a": torch.zeros(2)}


def finished(path: Path, header: Header = HEADER) -> RunFolder:
    run = RunFolder(path, header)
    run.begin()
    run.finish(WEIGHTS)
    return run


def test_a_finished_run_tells_everything(tmp_path: Path) -> None:
    run = finished(tmp_path / "deep" / "run")
    assert run.is_finished()
    loaded = load_run(run.path)
    assert (loaded.stage, loaded.seed, loaded.inputs, loaded.facts) == ("train x", 3, {"dataset": "d1"}, {"size": 224})
    assert loaded.settings == {"width": 8, "path": "a"}
    assert loaded.digest == file_digest(run.path / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in loaded.module("net").items()} == {"a": [0, 1, 2], "b.c": [1]}
    assert run.load_weights().keys() == WEIGHTS.keys()
    with pytest.raises(ArtifactError, match="net, other"):
        loaded.module("nets")
    assert json.loads((run.path / "config.json").read_text())["fingerprint"] == HEADER.fingerprint()


def test_other_settings_inputs_or_seeds_are_other_runs(tmp_path: Path) -> None:
    finished(tmp_path)
    for other in (
        Header("model", "train x", {"width": 9, "path": Path("a")}, {"dataset": "d1"}, seed=3),
        Header("model", "train x", HEADER.settings, {"dataset": "d2"}, seed=3),
        Header("model", "train x", HEADER.settings, {"dataset": "d1"}, seed=4),
    ):
        assert not RunFolder(tmp_path, other).is_finished()


def test_the_old_model_stays_until_the_new_one_is_there(tmp_path: Path) -> None:
    finished(tmp_path)
    other = RunFolder(tmp_path, Header("model", "train x", {"width": 9}))
    other.begin()
    other.save_checkpoint(Checkpoint(3))
    assert load_run(tmp_path).settings["width"] == 8
    other.finish({"net.a": torch.zeros(1)})
    assert load_run(tmp_path).settings["width"] == 9 and not (tmp_path / "checkpoint.safetensors").exists()


def test_starting_over_keeps_the_old_model_until_then(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.start_over()
    assert not run.is_finished()
    assert load_run(tmp_path).weights.keys() == WEIGHTS.keys()
    run.finish({"net.a": torch.zeros(1)})
    assert run.is_finished() and load_run(tmp_path).weights.keys() == {"net.a"}


def test_weights_without_their_description_are_not_finished(tmp_path: Path) -> None:
    """What a kill between the two files leaves."""
    run = finished(tmp_path)
    save_tensors(tmp_path / "model.safetensors", {"net.a": torch.zeros(1)})
    assert not run.is_finished()
    with pytest.raises(ArtifactError, match="not those"):
        load_run(tmp_path)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no run folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="not a run folder"):
        load_run(tmp_path)
    run = RunFolder(tmp_path, HEADER)
    assert not run.is_finished()
    run.save_checkpoint(Checkpoint(3))
    with pytest.raises(MissingFileError, match="has not finished"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: "not json"[: len(config)], "cannot read"),
        (lambda config: "[]", "does not describe"),
        (lambda config: config.replace('"model"', '"dataset"'), "does not describe"),
        (lambda config: config.replace('"facts"', '"fact"'), "facts"),
        (lambda config: config.replace('"seed": 3', '"seed": "3"'), "seed"),
    ],
)
def test_descriptions_that_describe_nothing(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    run = finished(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(change(config.read_text()))
    assert not run.is_finished()
    with pytest.raises(FormatError, match=message):
        load_run(tmp_path)


def test_checkpoints_that_fit_and_do_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, HEADER)
    assert run.last_checkpoint() == (None, "")
    run.save_checkpoint(Checkpoint(3, {"a": torch.ones(1)}))
    checkpoint, note = run.last_checkpoint()
    assert checkpoint is not None and checkpoint.step == 3 and "step 3" in note
    none, note = RunFolder(tmp_path, Header("model", "train y")).last_checkpoint()
    assert none is None and "other settings" in note
    (tmp_path / "checkpoint.safetensors").write_bytes(b"short")
    none, note = run.last_checkpoint()
    assert none is None and "damaged" in note
    run.start_over()
    run.start_over()
    assert run.last_checkpoint() == (None, "")


def test_leavings_of_a_killed_process_are_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.123.tmp.safetensors").write_bytes(b"half")
    (tmp_path / "notes.tmp.txt").write_text("somebody's")
    RunFolder(tmp_path, HEADER).begin()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.tmp.txt"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OutputError, match="cannot write"):
        RunFolder(tmp_path / "run", HEADER).begin()
