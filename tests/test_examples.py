"""The examples: what their command lines say, and the report that one of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from posekit.cli.main import app
from posekit.cli.options import resolve
from posekit.cli.stages import COMMANDS, config_of
from posekit.cli.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
KINDS = {typed: config_of(kind) for typed, kind, _ in COMMANDS}
SHARED_NAMES = ("json", "recipe", "verbose")

# The report's modules stand beside each other, as a script finds them.
sys.path.insert(0, str(EXAMPLES))
from deform_and_learn_report import write_report  # noqa: E402 -- the path is set in the line before
from deform_and_learn_results import (  # noqa: E402 -- as above
    STRATEGIES,
    MissingResultError,
    Results,
)


def commands_of(script: str, folder: Path, *arguments: str) -> list[list[str]]:
    """The words of every `posekit` command that an example runs, seen by a stand-in that does nothing."""
    binaries = folder / "bin"
    binaries.mkdir()
    seen = folder / "seen.jsonl"
    stand_in = binaries / "posekit"
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, sys\nwith open({str(seen)!r}, 'a') as file:\n"
        "    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    stand_in.chmod(0o755)
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHON": "true"}
    done = subprocess.run(
        [str(EXAMPLES / script), *arguments], capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in seen.read_text().splitlines()]


def parsed(words: list[str]) -> Mapping[str, Any]:
    """What posekit reads from a command line; anything that it does not know raises."""
    command: Any = typer.main.get_command(app)
    typed = []
    while hasattr(command, "commands"):
        typed.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context(" ".join(typed), words)
    return {"typed": " ".join(typed), **context.params}


def check(words: list[str], folder: Path) -> None:
    values = dict(parsed(words))
    typed, recipe = values.pop("typed"), values.get("recipe")
    if typed in KINDS:
        given = {name: value for name, value in values.items() if name not in SHARED_NAMES}
        resolve(KINDS[typed], given, recipe=recipe, workspace=Workspace.find(folder))


@pytest.fixture
def raw(tmp_path: Path) -> list[str]:
    paths = [tmp_path / name for name in ("h36m", "coco", "UV_Processed.mat", "body.npz")]
    for path in paths:
        path.touch()
    return [str(path) for path in paths]


def test_the_pipeline_for_real_data_names_options_that_exist(tmp_path: Path, raw: list[str]) -> None:
    commands = commands_of("deform_and_learn.sh", tmp_path, *raw, "out")
    assert [words[:2] for words in commands if words[0] == "train"] == [
        ["train", "lifter"],
        ["train", "deform-and-learn"],
    ]
    for words in commands:
        check(words, tmp_path)


def test_the_pipeline_for_real_data_hands_files_on(tmp_path: Path, raw: list[str]) -> None:
    """What a command reads inside the workspace was written by one before it."""
    folders = ("data/", "labels/", "fits/", "runs/", "predictions/")
    made = {"labels/coco.dense.h5", "labels/h36m.joints3d.h5"}
    for words in commands_of("deform_and_learn.sh", tmp_path, *raw, "out"):
        places = [place for word in words for place in word.split(",") if place.startswith(folders)]
        written = {words[words.index("--output") + 1]} if "--output" in words else set()
        assert set(places) - written <= made, words
        made |= written


def test_the_pipeline_for_real_data_says_what_is_missing(tmp_path: Path, raw: list[str]) -> None:
    Path(raw[2]).unlink()
    done = subprocess.run(
        [str(EXAMPLES / "deform_and_learn.sh"), *raw, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "UV_Processed.mat" in done.stderr


def test_the_pipeline_of_pose_resnet_names_options_that_exist_and_hands_files_on(tmp_path: Path) -> None:
    raw = [tmp_path / name for name in ("h36m", "mpii", "voc")]
    for path in raw:
        path.mkdir()
    folders = ("data/", "labels/", "runs/", "predictions/")
    made: set[str] = set()
    for words in commands_of("pose_resnet.sh", tmp_path, *map(str, raw), "out"):
        check(words, tmp_path)
        places = [place for word in words for place in word.split(",") if place.startswith(folders)]
        written = {words[words.index("--output") + 1]} if "--output" in words else set()
        assert set(places) - written <= made, words
        made |= written


@pytest.mark.parametrize("size", ["cpu", "gpu"])
def test_the_reproduction_names_options_that_exist(tmp_path: Path, size: str) -> None:
    commands = commands_of("reproduce_deform_and_learn.sh", tmp_path, "out", size)
    assert len(commands) > 40
    for words in commands:
        check(words, tmp_path)


def test_the_pipeline_of_image_ssl_names_options_that_exist_and_hands_files_on(tmp_path: Path) -> None:
    folders = ("h36m", "mpii", "coco", "lsp", "3dpw", "images", "backgrounds", "spin.pt", "body.npz")
    for name in folders:
        (tmp_path / name).touch()
    read = ("data/", "labels/", "predictions/", "runs/mesh-estimator")
    made: set[str] = {"runs/heads"}
    for words in commands_of("image_ssl.sh", tmp_path, *(str(tmp_path / name) for name in folders), "out"):
        check(words, tmp_path)
        places = [place for word in words for place in word.split(",") if place.startswith(read)]
        written = {words[words.index("--output") + 1]} if "--output" in words else set()
        assert set(places) - written <= made, words
        made |= written


@pytest.mark.parametrize("size", ["cpu", "gpu"])
@pytest.mark.parametrize("script", ["reproduce_pose_resnet.sh", "reproduce_image_ssl.sh"])
def test_the_other_reproductions_name_options_that_exist(tmp_path: Path, script: str, size: str) -> None:
    commands = commands_of(script, tmp_path, "out", size)
    assert len(commands) > 25
    for words in commands:
        check(words, tmp_path)


def test_the_recording_names_options_that_exist(tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    for words in commands_of("real_recording.sh", tmp_path, "recording", "out"):
        check(words, tmp_path)


def test_unknown_options_would_be_found(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="picturez"):
        check(["synthesize", "coco", "--picturez", "3"], tmp_path)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def measured(**means: float) -> dict[str, Any]:
    metrics = {name: {"mean": mean, "interval_95": [mean - 1, mean + 1]} for name, mean in means.items()}
    return {"evaluated": 90, "skipped": {"no prediction": 5, "rejected": 5}, "metrics": metrics}


def joints(mean: float) -> dict[str, Any]:
    return measured(bone_rescaled_mpjpe=mean, mpjpe=mean + 2, pa_mpjpe=mean / 2)


def paired(first: float, second: float) -> dict[str, Any]:
    return {
        "first": first,
        "second": second,
        "difference": second - first,
        "difference_interval_95": [second - first - 1, second - first + 1],
        "ratio": second / first,
        "ratio_interval_95": None,
        "improved": 0.75,
    }


def comparison(first: float, second: float) -> dict[str, Any]:
    pair = paired(first, second)
    return {"comparisons": {"joints": {"metrics": {"bone_rescaled_mpjpe": pair, "mpjpe": pair}}}}


def model(folder: Path) -> None:
    lines = [{"step": step, "losses": {"dense": 1 / step, "keypoints": 2 / step}} for step in (1, 2)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"backbone": "resnet10", "input_size": 64, "weights": "none", "batch": 32, "lr": 0.001}
    write(folder / "config.json", {"settings": settings})


TEST_ERRORS = {"single-step": 220.0, "single-step-noadv": 150.0, "one-round": 140.0}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Made-up results in which the paper's orders hold, but for the refinement of the Human3.6M layout in pixels."""
    out, found = tmp_path / "out", tmp_path / "out" / "results"
    write(
        found / "size.json",
        {
            "size": "cpu",
            "frames": 8,
            "fps": 2,
            "recipe": "studio",
            "rounds": 2,
            "epochs": 3,
            "lifter_epochs": 65,
            "stride": 4,
        },
    )
    (out / "seconds.tsv").write_text("Rounds\t60\nRounds\t30\nLifters\t30\nReport\t600\n")
    write(found / "h36m.preprocess.json", {"counts": {"samples": 200}})
    write(found / "coco.preprocess.json", {"counts": {"samples": 50}})
    for name, after in (("coco", 6.0), ("h36m", 9.0)):
        metrics = {"dense_px_before_refinement": 10.0, "dense_px_after_refinement": after}
        write(found / f"{name}.refined.predict.json", {"metrics": metrics, "counts": {"bodies": 20, "refined": 18}})
    for row, name in enumerate(("lifter", "lifter-kudo", "lifter-paper", "lifter-paper-kudo")):
        errors = measured(flipped=row, turned_about=0.0, depth=40.0 + row, n_mpjpe=45.0)
        write(found / f"{name}.json", {"results": {"lifter": errors}})
    for number, (fit, test) in enumerate(((100.0, 140.0), (60.0, 106.0)), start=1):
        folder = out / "runs" / "rounds" / f"round-{number}"
        write(folder / "h36m.fits.json", {"results": {"fits": joints(fit)}})
        write(folder / "h36m.json", {"results": {"predictions": joints(test), "mean-pose": joints(300.0)}})
        model(folder / "model")
    for name, mean in {**TEST_ERRORS, "h36m": 150.0, "coco": 180.0}.items():
        folder = out / "runs" / name / "round-1"
        write(folder / "h36m.json", {"results": {"predictions": joints(mean)}})
        model(folder / "model")
    for name, first in {**TEST_ERRORS, "mean-pose": 300.0, "first-round": 140.0}.items():
        write(found / f"compare-{name}.json", comparison(first, 106.0))
    for name, first in (("data-h36m", 150.0), ("data-coco", 180.0)):
        write(found / f"compare-{name}.json", comparison(first, 140.0))
    refined = comparison(106.0, 100.0)
    refined["comparisons"]["vertices"] = {
        "metrics": {"per_pixel_vertices": paired(10.0, 7.0), "per_vertex_reconstruction": paired(60.0, 57.0)}
    }
    write(found / "compare-refined.json", refined)
    ablations = {
        "all": 100.0,
        "no-dense": 120.0,
        "no-scale": 130.0,
        "no-pose": 99.0,
        "no-depth": 160.0,
        "anneal": 60.0,
        "600": 90.0,
    }
    for name, mean in ablations.items():
        write(found / f"ablation-{name}.register.json", {"counts": {"bodies": 95, "ok": 90}})
        write(found / f"ablation-{name}.json", {"results": {"fits": joints(mean)}})
        write(found / f"compare-ablation-{name}.json", comparison(100.0, mean))
    study = tmp_path / "lifter.json"
    seeds = [{"flipped_percent": 1.0, "depth_mm": 40.0, "n_mpjpe_mm": 44.0}]
    write(study, {"results": {"epochs": 30, "variants": {"all losses": {"seeds": seeds}}}})
    return Results(out, study)


def report_of(results: Results) -> str:
    path = results.folder / "report" / "told.md"
    write_report(results, path)
    for kind in ("errors", "losses"):
        assert path.with_name(f"told-{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert f"](told-{kind}.png)" in path.read_text()
    return path.read_text()


def test_the_report_stands_beside_the_papers_figures(results: Results) -> None:
    told = report_of(results)
    assert "| all | 2.0 |" in told
    assert "| 1 | 100.0 (99.0 to 101.0) | 102.0 (101.0 to 103.0) | 50.0 (49.0 to 51.0) | 90.0 | about 100 |" in told
    assert "Last / first: 0.60 (paper about 0.6; target at most 0.75: met)." in told
    assert "| 148.1 |" in told and "| 134.8 |" in told and "| 106.25 |" in told
    assert "(rounds < one long round < single step without adversary): holds here." in told
    assert "(both < Human3.6M alone < COCO alone): holds here." in told
    assert (
        "COCO layout met, Human3.6M layout missed, all vertices met. The per-vertex error does not rise: met." in told
    )
    assert "without smoothness of scales yes, without smoothness of joints no" in told
    assert (
        "| without smoothness of joints | 99.0 (98.0 to 100.0) | 49.5 (48.5 to 50.5) | 0.99 | 90 of 95 | distorted |"
        in told
    )
    assert "600 iterations better than 300 (paper 0.9; here 0.90): holds here." in told
    assert "| in the layout of COCO with DensePose | 50 | 30 | 20 |" in told


def test_the_report_says_what_does_not_hold(results: Results) -> None:
    write(results.folder / "runs/one-round/round-1/h36m.json", {"results": {"predictions": joints(100.0)}})
    write(results.folder / "results/compare-one-round.json", comparison(100.0, 106.0))
    write(results.folder / "runs/rounds/round-2/h36m.fits.json", {"results": {"fits": joints(101.0)}})
    write(
        results.folder / "results/lifter.json",
        {"results": {"lifter": measured(flipped=9, turned_about=0, depth=40, n_mpjpe=45)}},
    )
    told = report_of(results)
    assert "(rounds < one long round < single step without adversary): does not hold here." in told
    assert "| test error, rounds / one round trained as long | 1.06 | below 1 | missed |" in told
    assert (
        "target at most 0.75: missed). The paper's order (last round better than the first): does not hold here."
        in told
    )
    assert "At most 5 % of the poses flipped: does not hold here." in told


def test_a_registration_that_loses_fits_is_worse(results: Results) -> None:
    found = results.folder / "results"
    write(found / "ablation-no-pose.register.json", {"counts": {"bodies": 95, "ok": 50}})
    write(found / "ablation-no-scale.register.json", {"counts": {"bodies": 95, "ok": 0}})
    for name in ("ablation-no-scale.json", "compare-ablation-no-scale.json"):
        (found / name).unlink()
    told = report_of(results)
    assert "| 0.99 | 50 of 95 | distorted |" in told
    assert "| without smoothness of scales | none usable | none usable | none usable | 0 of 95 | distorted |" in told
    assert "without smoothness of scales yes" in told
    assert "without smoothness of joints yes" in told


def result_files() -> list[str]:
    runs = [f"runs/{name}/round-1/h36m.json" for name, _, _ in STRATEGIES]
    others = ["results/lifter-kudo.json", "results/ablation-no-dense.json", "results/compare-600.json", "seconds.tsv"]
    return [
        *runs,
        *(name.replace("compare-600", "compare-ablation-600") for name in others),
        "runs/rounds/round-2/h36m.json",
    ]


@pytest.mark.parametrize("missing", result_files())
def test_a_missing_result_is_an_error(results: Results, missing: str) -> None:
    (results.folder / missing).unlink()
    with pytest.raises(MissingResultError, match=Path(missing).name):
        write_report(results, results.folder / "told.md")
    assert not (results.folder / "told.md").exists()


def test_a_result_without_the_metric_is_an_error(results: Results) -> None:
    write(results.folder / "results/ablation-no-pose.json", {"results": {"fits": measured(mpjpe=1.0)}})
    with pytest.raises(MissingResultError, match="no bone_rescaled_mpjpe of fits"):
        write_report(results, results.folder / "told.md")


def test_without_a_log_there_are_no_curves(results: Results) -> None:
    (results.folder / "runs/single-step/round-1/model/log.jsonl").unlink()
    with pytest.raises(MissingResultError, match="log of losses"):
        write_report(results, results.folder / "told.md")
