"""The strategy as a whole, as small as it can be: what it writes, what it refuses, and that it can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from posekit.artifacts.files import Artifact
from posekit.cli.options import resolve
from posekit.cli.workspace import Workspace
from posekit.config.base import RECIPES, build_config, find_recipe, load_recipe
from posekit.config.deform_and_learn import TrainDeformAndLearn
from posekit.config.labels import Register
from posekit.config.lifter import TrainLifter
from posekit.config.regressor import TrainRegressor
from posekit.errors import ConfigError, InputError, MissingFileError
from posekit.pipelines import deform_and_learn as pipeline
from posekit.pipelines.deform_and_learn import train_deform_and_learn
from posekit.records import Clip
from posekit.stages.report import StageReport
from posekit.training.regressor import load_regressor
from posekit.training.runs import load_run

PROGRAM = Path(__file__).with_name("killed.py")
CPU = torch.device("cpu")

LIFTER = {"width": 8, "epochs": 1, "batch": 4}
REGISTER = {"shape": "per-frame", "fit_betas": False, "iters": 12, "max_residual_px": 60}
REGRESSOR = {
    "backbone": "resnet10",
    "weights": "none",
    "input_size": 32,
    "batch": 4,
    "workers": 1,
    "adversary_width": 8,
}


def tiny(output: Path, *datasets: Path, **changes: Any) -> TrainDeformAndLearn:
    settings: dict[str, Any] = {
        "datasets": datasets,
        "output": output,
        "rounds": 2,
        "epochs": 1,
        "lifter_settings": LIFTER,
        "first_register": REGISTER,
        "register_settings": REGISTER | {"iters": 6},
        "regressor": REGRESSOR,
        "device": "cpu",
    }
    return build_config(TrainDeformAndLearn, settings | changes)


def run(output: Path, *datasets: Path, **changes: Any) -> StageReport:
    return train_deform_and_learn(tiny(output, *datasets, **changes))


def digests(output: Path) -> dict[str, str]:
    """Digests of everything that a later step builds on."""
    found = {}
    for path in sorted(output.rglob("*.h5")):
        with Artifact(path) as artifact:
            found[str(path.relative_to(output))] = artifact.digest
    for path in sorted(output.rglob("model.safetensors")):
        found[str(path.relative_to(output))] = load_run(path.parent).digest
    return found


def history(output: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((output / "history.json").read_text())
    return entries


def noting(stage: Callable[[Any], StageReport], called: list[tuple[str, bool]]) -> Callable[[Any], StageReport]:
    """The stage; its name and whether it was skipped are added to `called`."""

    def watching(config: Any) -> StageReport:
        report = stage(config)
        called.append((stage.__name__, report.skipped))
        return report

    return watching


@pytest.fixture(scope="module")
def finished(workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageReport]:
    """Two rounds on the data set `a`: the run folder and the report."""
    output = tmp_path_factory.mktemp("runs") / "tiny"
    return output, run(output, workspace.dataset("a"))


def test_two_rounds_write_what_is_documented(finished: tuple[Path, StageReport]) -> None:
    output, report = finished
    assert (output / "lifter" / "model.safetensors").is_file()
    for number in (1, 2):
        folder = output / f"round-{number}"
        assert {path.name for path in folder.iterdir()} == {
            "a.fits.h5", "a.h5", "a.json", "a.errors.h5", "a.fits.json", "a.fits.errors.h5", "model",
        }  # fmt: skip
        fits, predictions = (Artifact(folder / name) for name in ("a.fits.h5", "a.h5"))
        with fits, predictions:
            # Training subjects are registered, everybody is predicted.
            assert (fits.rows("fits"), predictions.rows("fits")) == (8, 12)
            assert fits.header.inputs["lifter"] == load_run(output / "lifter").digest
            model = load_run(folder / "model")
            assert predictions.header.inputs["model"] == model.digest
            assert model.inputs["fits0"] == fits.digest
            if number == 2:
                before = load_run(output / "round-1" / "model")
                assert model.inputs["init"] == before.digest
                with Artifact(output / "round-1" / "a.h5") as start:
                    assert fits.header.inputs["start"] == start.digest
    assert load_run(output).digest == load_run(output / "round-2" / "model").digest
    network, facts = load_regressor(output, CPU)
    assert (facts.input_size, network.head.out_features) == (32, 132)

    assert report.outputs == [output / "model.safetensors"]
    entries = history(output)
    assert [entry["round"] for entry in entries] == [1, 2]
    for entry in entries:
        errors = entry["datasets"]["a"]
        assert 0.5 < errors["ok_share"] <= 1.0 and entry["seconds"] > 0
        for part in ("test", "train_fits"):
            assert 0 < errors[f"{part}_pa_mpjpe_mm"] <= errors[f"{part}_mpjpe_mm"] < 2000
        assert (
            report.metrics.items()
            >= {
                f"round_{entry['round']}_a_{name}": errors[name]
                for name in ("test_bone_rescaled_mpjpe_mm", "train_fits_bone_rescaled_mpjpe_mm")
            }.items()
        )
    (table,) = report.tables
    assert [row[:2] for row in table.rows] == [["1", "a"], ["2", "a"]]
    assert all(row[2].endswith("%") and float(row[3]) > 0 and float(row[4]) > 0 for row in table.rows)


def test_a_rerun_does_nothing(finished: tuple[Path, StageReport], workspace: Any) -> None:
    output, report = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("round-*/**/*") if path.is_file()}
    noted = (output / "history.json").read_text()
    again = run(output, workspace.dataset("a"))
    assert {path: path.stat().st_mtime_ns for path in output.rglob("round-*/**/*") if path.is_file()} == before
    assert (output / "history.json").read_text() == noted, "the time that rounds took is not forgotten"
    assert again.metrics == report.metrics and again.tables == report.tables


def test_what_is_lost_or_changed_is_made_again(
    finished: tuple[Path, StageReport], workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, _ = finished
    whole = digests(output)
    called: list[tuple[str, bool]] = []
    for name in ("register", "train_regressor", "predict"):
        monkeypatch.setattr(pipeline, name, noting(getattr(pipeline, name), called))
    (output / "round-2" / "a.fits.h5").unlink()
    (output / "model.safetensors").unlink()
    run(output, workspace.dataset("a"))
    assert digests(output) == whole
    stages = ["register", "train_regressor", "predict"] * 2
    # The fits come out as they were, so what was learned from them still stands.
    assert called == [(name, number != 3) for number, name in enumerate(stages)]


@pytest.mark.parametrize(
    ("changes", "rounds"),
    [
        ({"strategy": "single-step"}, 1),
        ({"strategy": "single-step-noadv"}, 1),
        ({"rounds": 1}, 1),
        ({"continue_weights": False}, 2),
        ({"use_lifter": False}, 2),
    ],
    ids=str,
)
def test_strategies_and_ablations_run_and_differ(
    changes: dict[str, Any], rounds: int, finished: tuple[Path, StageReport], workspace: Any, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    lifter = {"lifter": finished[0] / "lifter"} if changes.get("use_lifter", True) else {}
    report = run(output, workspace.dataset("a"), **lifter, **changes)
    assert len(history(output)) == len(report.tables[0].rows) == rounds
    assert not (output / "lifter").exists()
    model = load_run(output)
    assert model.digest != load_run(finished[0]).digest
    assert model.digest == load_run(output / f"round-{rounds}" / "model").digest
    single_step = changes.get("strategy", "rounds") != "rounds"
    assert ("fits0" in model.inputs) is not single_step
    assert ("lifter" in model.inputs) is (not single_step and changes.get("use_lifter", True))
    assert ("init" in model.inputs) is (rounds == 2 and changes.get("continue_weights", True))
    assert model.settings["supervision"] == {"single-step": "labels", "single-step-noadv": "labels-no-adversary"}.get(
        changes.get("strategy", ""), "fits"
    )
    # A single step is trained as long as all rounds together.
    assert model.settings["epochs"] == (2 if single_step else 1)
    errors = history(output)[0]["datasets"]["a"]
    assert ("train_fits_mpjpe_mm" in errors) is not single_step
    assert ("lifter" in load_run(output / "round-1" / "model").inputs) is ("lifter" in model.inputs)


def test_force_makes_everything_again_and_the_same(
    workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "run", workspace.dataset("a"), rounds=1, evaluate=False)
    before = digests(tmp_path / "run")
    skipped = []
    for name in ("train_lifter", "register", "train_regressor", "predict"):
        monkeypatch.setattr(pipeline, name, noting(getattr(pipeline, name), skipped))
    run(tmp_path / "run", workspace.dataset("a"), rounds=1, evaluate=False, force=True)
    assert skipped == [(name, False) for name in ("train_lifter", "register", "train_regressor", "predict")]
    assert digests(tmp_path / "run") == before


def test_all_stages_take_the_same_body(workspace: Any, tmp_path: Path) -> None:
    config = tiny(tmp_path, workspace.dataset("a"), body=Path("body.npz"))
    data = pipeline._data(config)
    assert {
        pipeline._lifter_config(config).body,
        pipeline._register_config(config, 1, tmp_path, data[0], None).body,
        pipeline._regressor_config(config, 1, data, None).body,
        pipeline._predict_config(config, tmp_path, data[0], "32-true").body,
    } == {Path("body.npz")}


def test_labels_alone_train_no_lifter(workspace: Any, tmp_path: Path) -> None:
    run(tmp_path / "run", workspace.dataset("a"), strategy="single-step-noadv", rounds=1, evaluate=False)
    assert not (tmp_path / "run" / "lifter").exists()
    assert set(history(tmp_path / "run")[0]["datasets"]["a"]) == set()


def test_the_last_round_may_take_fewer_data_sets(
    finished: tuple[Path, StageReport], workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    both = (workspace.dataset("a"), workspace.dataset("b"))
    dense = (workspace.dense("a"), workspace.dense("b"))
    lifter = finished[0] / "lifter"
    # A relative path means the same file.
    report = run(tmp_path / "run", *both, dense=dense, last_datasets=(Path("data/a.h5"),), lifter=lifter)
    assert [row[:2] for row in report.tables[0].rows] == [["1", "a"], ["1", "b"], ["2", "a"]]
    assert report.tables[0].rows[1][3:] == ["", ""], "b has no ground truth"
    first, second = (load_run(tmp_path / "run" / f"round-{number}" / "model") for number in (1, 2))
    assert {"dataset0", "dataset1"} <= set(first.inputs) and "dataset1" not in second.inputs
    assert not (tmp_path / "run" / "round-2" / "b.h5").exists()
    one_round = tiny(tmp_path / "one", *both, last_datasets=(both[0],), rounds=1, dry_run=True)
    assert train_deform_and_learn(one_round).notes == ["would run strategy rounds: round 1 on a, b"]


def test_data_sets_that_the_protocol_does_not_know_are_learned_from(
    finished: tuple[Path, StageReport], tmp_path: Path, workspace: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = type(workspace)(tmp_path)
    other.add("c", (Clip("one", 50.0), Clip("two", 50.0)), 3)
    report = run(tmp_path / "run", other.dataset("c"), rounds=1, lifter=finished[0] / "lifter")
    assert report.tables[0].rows[0][3:] == ["", ""]
    assert "not measured" in caplog.text
    load_regressor(tmp_path / "run", CPU)


def test_a_lifter_beside_the_run_is_taken_once_it_is_trained(
    finished: tuple[Path, StageReport], workspace: Any, tmp_path: Path
) -> None:
    (tmp_path / "lifter").mkdir()
    (tmp_path / "lifter" / "checkpoint.safetensors").write_bytes(b"under way")
    run(tmp_path / "first", workspace.dataset("a"), rounds=1, evaluate=False)
    assert (tmp_path / "first" / "lifter" / "model.safetensors").is_file()
    (tmp_path / "first" / "lifter").rename(tmp_path / "moved")
    (tmp_path / "lifter" / "checkpoint.safetensors").unlink()
    (tmp_path / "lifter").rmdir()
    (tmp_path / "moved").rename(tmp_path / "lifter")
    run(tmp_path / "second", workspace.dataset("a"), rounds=1, evaluate=False)
    assert not (tmp_path / "second" / "lifter").exists()
    assert load_run(tmp_path / "second").inputs["lifter"] == load_run(tmp_path / "lifter").digest


def test_weights_of_a_trunk_are_what_the_first_round_begins_with(
    finished: tuple[Path, StageReport], workspace: Any, tmp_path: Path
) -> None:
    from posekit.models.backbone import Backbone

    torch.save(Backbone("resnet10", 7).state_dict(), tmp_path / "trunk.pth")
    regressor = REGRESSOR | {"weights_file": str(tmp_path / "trunk.pth")}
    settings = {"regressor": regressor, "lifter": finished[0] / "lifter", "evaluate": False}
    run(tmp_path / "run", workspace.dataset("a"), **settings)
    first, second = (load_run(tmp_path / "run" / f"round-{number}" / "model") for number in (1, 2))
    assert "weights" in first.inputs and "weights" not in second.inputs
    run(tmp_path / "afresh", workspace.dataset("a"), continue_weights=False, **settings)
    assert "weights" in load_run(tmp_path / "afresh").inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regressor": {"epoch": 3}}, r"--regressor: .*epoch: Extra inputs"),
        ({"regressor": {"batch": "many"}}, r"--regressor: .*batch"),
        ({"regressor": {"init": "x"}}, r"init.*--regressor"),
        ({"regressor": {"epochs": 9}}, r"epochs.*--regressor"),
        ({"first_register": {"iters": 0}}, r"--first-register: .*iters"),
        ({"first_register": {"camera": "weak"}}, r"camera.*--first-register"),
        ({"first_register": {"joints3d": "x.h5"}}, r"joints3d.*--first-register"),
        ({"register_settings": {"itres": 5}}, r"--register-settings: .*itres"),
        ({"register_settings": {"start": "x.h5"}}, r"start.*--register-settings"),
        ({"register_settings": {"w_dense": -1}, "rounds": 1}, r"--register-settings: .*w-dense"),
        ({"register_settings": {"recipe": "none"}}, r"--register-settings: recipe not found.*none.*round"),
        ({"lifter_settings": {"wide": 5}}, r"--lifter-settings: .*wide"),
        ({"lifter_settings": {"seed": 5}}, r"seed.*--lifter-settings"),
        ({"lifter_settings": {"wide": 5}, "strategy": "single-step"}, r"--lifter-settings: .*wide"),
        ({"last_datasets": (Path("elsewhere.h5"),)}, r"--last-datasets.*elsewhere"),
        ({"dense": (Path("a"), Path("b"))}, "--dense needs one file for each"),
        ({"truth": (Path("a"), Path("b"))}, "--truth needs one file for each"),
        ({"datasets": ()}, "no data set"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_before_any_work(
    changes: dict[str, Any], message: str, workspace: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", workspace.dataset("a"), **changes)
    assert not (tmp_path / "run").exists()


def test_files_that_are_missing_or_alike_are_refused_before_any_work(workspace: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no data set"):
        run(tmp_path / "run", tmp_path / "none.h5")
    other = type(workspace)(tmp_path)
    twin = other.add("a", CLIPS[:1])
    with pytest.raises(ConfigError, match="different names"):
        run(tmp_path / "run", workspace.dataset("a"), twin)
    other.dense("a").unlink()
    with pytest.raises(MissingFileError, match=r"no dense correspondences for .*--dense"):
        run(tmp_path / "run", twin)
    with pytest.raises(MissingFileError):
        run(tmp_path / "run", workspace.dataset("a"), lifter=tmp_path / "no-lifter")
    assert not list((tmp_path / "run").rglob("*.h5"))
    with pytest.raises(InputError, match="was not made from"):
        run(tmp_path / "run", workspace.dataset("a"), dense=(workspace.dense("b"),), use_lifter=False)


def test_a_dry_run_says_what_would_be_done(workspace: Any, tmp_path: Path) -> None:
    report = run(tmp_path / "run", workspace.dataset("a"), dry_run=True)
    assert report.notes == ["would run strategy rounds: round 1 on a; round 2 on a"] and not report.outputs
    assert not (tmp_path / "run").exists()


CLIPS = (Clip("S1 Walking", 50.0, "S1", "Walking", 1, "train"),)


@pytest.mark.parametrize("path", sorted((RECIPES / "deform_and_learn").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_settings_of_every_stage(
    path: Path, workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[type] = []
    real = pipeline._built

    def watched(kind: Any, option: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
        made.append(kind)
        config = real(kind, option, given, fixed)
        named = load_recipe(find_recipe(kind, Path(given["recipe"]))) if "recipe" in given else {}
        named.update(given)
        for name in named.keys() - fixed.keys() - {"recipe"}:
            assert config.model_dump(mode="json")[name] == named[name]
        return config

    monkeypatch.setattr(pipeline, "_built", watched)
    values = load_recipe(path) | {"datasets": (workspace.dataset("a"),), "output": tmp_path / "run", "dry_run": True}
    train_deform_and_learn(build_config(TrainDeformAndLearn, values))
    assert made == [TrainLifter, Register, Register, TrainRegressor]


ARGUMENTS = [
    "--rounds", "3", "--epochs", "3", "--device", "cpu",
    "--lifter-settings", "width=8,epochs=2,batch=4,checkpoint-every=1,precision=64-true",
    "--first-register", "shape=per-frame,fit-betas=false,iters=12,max-residual-px=60",
    "--register-settings", "shape=per-frame,fit-betas=false,iters=6,max-residual-px=60",
    "--regressor", "backbone=resnet10,weights=none,input-size=32,batch=4,workers=1,checkpoint-every=1",
]  # fmt: skip


def command(*arguments: object) -> list[str]:
    return [sys.executable, *map(str, arguments)]


def ended(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=200
    )


def without_seconds(output: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history(output)]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(workspace: Any, tmp_path: Path) -> None:
    done = ended(command(PROGRAM, tmp_path, "--datasets", workspace.dataset("a"), *ARGUMENTS), tmp_path)
    assert done.returncode == 0, done.stderr
    whole, pieces = tmp_path / "whole" / "run", tmp_path / "pieces" / "run"
    assert digests(whole) == digests(pieces)
    for name in ("model.safetensors", "lifter/model.safetensors", "round-1/model/model.safetensors"):
        assert (whole / name).read_bytes() == (pieces / name).read_bytes()
    assert without_seconds(whole) == without_seconds(pieces)
    assert not [path for path in pieces.rglob("*") if "tmp" in path.name or "parts" in path.name]
    assert not list(pieces.rglob("checkpoint*"))


def test_settings_may_name_a_recipe_and_change_it(
    finished: tuple[Path, StageReport], workspace: Any, tmp_path: Path
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("".join(f"{name}: {value}\n" for name, value in (REGRESSOR | {"precision": "64-true"}).items()))
    regressor = {"recipe": str(recipe), "batch": 2}
    run(
        tmp_path / "run", workspace.dataset("a"), rounds=1, regressor=regressor, lifter=finished[0] / "lifter",
        first_register=REGISTER | {"recipe": "round1"}, evaluate=False,
    )  # fmt: skip
    assert load_run(tmp_path / "run").settings.items() >= {"batch": 2, "input_size": 32, "precision": "64-true"}.items()
    folder = tmp_path / "run" / "round-1"
    with Artifact(folder / "a.h5") as predictions, Artifact(folder / "a.fits.h5") as fits:
        assert predictions.header.settings["precision"] == "64-true", "what is trained so is used so"
        round1 = load_recipe(find_recipe(Register, Path("round1")))
        assert fits.header.settings["iters"] == 12 != round1["iters"]
        assert fits.header.settings["w_depth"] == round1["w_depth"] != Register().w_depth


@pytest.mark.slow
def test_the_command_line(workspace: Any, tmp_path: Path) -> None:
    """Settings of stages are typed as NAME=VALUE,... and checked by their kinds; recipes are found by name."""
    typed = ["-m", "posekit", "train", "deform-and-learn", "--datasets", workspace.dataset("a"), "--dry-run"]
    recipe = min(path.stem for path in (RECIPES / TrainDeformAndLearn.recipes).glob("*.yaml"))
    done = ended(command(*typed, "--recipe", recipe, "--json"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["notes"][0].startswith("would run strategy rounds: round 1 on a")
    done = ended(command(*typed, "--regressor", "batch=many"), tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--regressor: wrong settings: batch: Input should be a valid integer" in " ".join(done.stderr.split())


def test_settings_given_as_text_mean_their_values(workspace: Any, tmp_path: Path) -> None:
    texts = dict(zip([name[2:].replace("-", "_") for name in ARGUMENTS[::2]], ARGUMENTS[1::2], strict=True))
    typed = resolve(TrainDeformAndLearn, texts | {"output": tmp_path}, workspace=Workspace.find(tmp_path))
    assert isinstance(typed, TrainDeformAndLearn)
    data = pipeline._data(typed.model_copy(update={"datasets": (workspace.dataset("a"),)}))
    register = pipeline._register_config(typed, 1, tmp_path, data[0], None)
    assert (register.fit_betas, register.iters, register.max_residual_px) == (False, 12, 60.0)
    regressor = pipeline._regressor_config(typed, 1, data, None)
    assert (regressor.input_size, regressor.batch, regressor.backbone) == (32, 4, "resnet10")
    assert pipeline._lifter_config(typed).width == 8
    with pytest.raises(ConfigError, match=r"--regressor takes settings of a stage.*NAME=VALUE"):
        resolve(TrainDeformAndLearn, {"regressor": "batch"}, workspace=Workspace.find(tmp_path))


@pytest.mark.slow
def test_two_processes_end_where_one_does(workspace: Any, tmp_path: Path) -> None:
    settings = [*ARGUMENTS[:-1], f"{ARGUMENTS[-1]},precision=64-true", "--rounds", "2", "--epochs", "2"]
    typed = ["-m", "posekit", "train", "deform-and-learn", "--datasets", workspace.dataset("a"), *settings]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    # Only one of the two speaks, and torchrun passes the exit codes of both on.
    for processes, name in ((torchrun, "two"), ([], "one")):
        done = ended(command(*processes, *typed, "--output", tmp_path / name / "run"), tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("train deform-and-learn took") == 1
    for number in (1, 2):
        one, two = (tmp_path / name / "run" / f"round-{number}" for name in ("one", "two"))
        weights, others = load_run(one / "model").weights, load_run(two / "model").weights
        for name, tensor in weights.items():
            torch.testing.assert_close(others[name], tensor, rtol=1e-7, atol=1e-9, msg=f"round {number}: {name}")
        for file in ("a.fits.h5", "a.h5"):
            with Artifact(one / file) as ours, Artifact(two / file) as theirs:
                assert_array_equal(theirs.read("fits", "ok"), ours.read("fits", "ok"))
                for name in ("pose", "segment_scales", "orientation", "translation", "scale"):
                    assert_allclose(theirs.read("fits", name), ours.read("fits", name), rtol=0, atol=1e-6, err_msg=name)
