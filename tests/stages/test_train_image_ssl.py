"""`train mesh-estimator`, `train image-ssl` and `predict` with what they trained, on a data set of noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import posekit.body
from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import FITS
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.config.base import build_config, find_recipe, load_recipe
from posekit.config.image_ssl import TrainImageSsl
from posekit.config.mesh_estimator import TrainMeshEstimator
from posekit.config.prediction import Predict
from posekit.config.results import Evaluate, Render
from posekit.errors import ConfigError, DataError, FormatError, InputError
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.labeling.masks import encode_counts
from posekit.models.backbone import Backbone, normalised
from posekit.models.mesh_estimator import MeshEstimator, MeshEstimatorForm
from posekit.stages.evaluate import evaluate
from posekit.stages.predict import predict
from posekit.stages.render import render
from posekit.stages.render_meshes import SIDE
from posekit.stages.report import StageReport
from posekit.stages.train_image_ssl import train_image_ssl
from posekit.stages.train_mesh_estimator import train_mesh_estimator
from posekit.training.image_ssl import ImageSslMethod
from posekit.training.mesh_estimator import JointsLoss, MeshFacts, NamedJoints, load_mesh_estimator
from posekit.training.mesh_samples import MeshPart, MeshSource
from posekit.training.runs import load_run

SMALL: dict[str, Any] = {"batch": 4, "epochs": 1, "device": "cpu", "log_every": 1, "workers": 1}
MESH: dict[str, Any] = SMALL | {"backbone": "resnet10", "weights": "none", "input_size": 32}
SSL: dict[str, Any] = SMALL | {"epochs_heads": 1, "patch": 8, "texture_backbone": "shared", "pictures": 2, "lr": 1e-4}


@pytest.fixture(scope="module")
def files(pose_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A data set, and masks of everybody but the second row."""
    made = pose_data.write_files(tmp_path_factory.mktemp("workspace"))
    with Artifact(made.dataset) as dataset:
        samples, digest = dataset.table("samples"), dataset.digest
    counts = []
    for x0, y0, x1, y1 in samples["bbox"].astype(int):
        mask = np.zeros((300, 400), dtype=bool)
        mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
        counts.append(encode_counts(mask))
    key = {name: samples[name] for name in ("sequence", "frame", "person", "camera")}
    found = np.arange(len(counts)) != 1
    header = Header("masks", "test", inputs={"dataset": digest})
    with ArtifactWriter(made.dataset.parents[1] / "labels" / "a.masks.h5", header) as writer:
        columns = {"size": np.tile([300, 400], (len(counts), 1)), "counts": counts, "bbox": samples["bbox"]}
        writer.append("samples", key | columns | {"found": found, "score": found.astype(float)})
    return made


def train_mesh(files: Any, output: Path, **changes: Any) -> StageReport:
    return train_mesh_estimator(
        TrainMeshEstimator(**(MESH | {"datasets": (files.dataset,), "output": output} | changes))
    )


def train_ssl(files: Any, init: Path, output: Path, **changes: Any) -> StageReport:
    masks = (files.dataset.parents[1] / "labels" / "a.masks.h5",)
    settings = SSL | {"datasets": (files.dataset,), "masks": masks, "init": init, "output": output}
    return train_image_ssl(TrainImageSsl(**(settings | changes)))


@pytest.fixture(scope="module")
def mesh(files: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mesh"
    train_mesh(files, folder)
    return folder


@pytest.fixture(scope="module")
def ssl(files: Any, mesh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ssl"
    train_ssl(files, mesh, folder)
    return folder


def test_an_estimator_learns_from_labels_and_is_measured(files: Any, tmp_path: Path) -> None:
    report = train_mesh(files, tmp_path, monitor_samples=4)
    assert (report.counts["samples"], report.counts["no picture"]) == (2 * 4 * 2 - 1, 1)
    assert 0 < report.metrics["pa_mpjpe_mm"] <= report.metrics["mpjpe_mm"]
    assert "iou_percent" in report.metrics and "camera_scale" in report.metrics
    assert report.notes[0] == "init=none, sup=full"
    assert train_mesh(files, tmp_path, workers=2).skipped


def test_weak_supervision_does_not_read_joints_in_space(files: Any, tmp_path: Path) -> None:
    weak = train_mesh(files, tmp_path / "weak", supervision="weak")
    full = train_mesh(files, tmp_path / "full")
    assert weak.metrics["loss_total"] < full.metrics["loss_total"]
    assert MeshFacts.of(load_run(tmp_path / "weak")).supervision == "weak"


def test_public_weights_become_a_run_as_they_are(files: Any, tmp_path: Path) -> None:
    """A file of SPIN's layout, with a ResNet-10 in place of its ResNet-50."""
    backbone = Backbone("resnet10", 3)
    estimator = MeshEstimator(MeshEstimatorForm(features=512, joints=load_body().joint_count), seed=3)
    torch.save({"model": backbone.state_dict() | estimator.state_dict()}, tmp_path / "spin.pt")
    report = train_mesh(files, tmp_path / "run", checkpoint=tmp_path / "spin.pt", epochs=0)
    assert report.counts["steps"] == 0 and report.notes[0] == "init=spin, sup=full"
    loaded, regressor, facts = load_mesh_estimator(tmp_path / "run", torch.device("cpu"))
    assert facts.init == "spin"
    images = normalised(torch.randint(256, (2, 32, 32, 3)).to(torch.uint8))
    with torch.no_grad():
        expected = estimator.eval()(backbone.eval()(images)).vector()
        torch.testing.assert_close(regressor(loaded(images)).vector(), expected)
    with pytest.raises(FormatError, match="not those of this mesh estimator"):
        train_mesh(files, tmp_path / "other", checkpoint=tmp_path / "spin.pt", pose_form="aa")
    with pytest.raises(ConfigError, match="one of --init, --checkpoint"):
        train_mesh(files, tmp_path / "both", checkpoint=tmp_path / "spin.pt", init=tmp_path / "run")


def test_both_stages_leave_runs_pictures_and_figures(files: Any, mesh: Path, ssl: Path, tmp_path: Path) -> None:
    heads, run = load_run(ssl / "heads"), load_run(ssl)
    assert {name.split(".")[0] for name in heads.weights} == {
        *("jigsaw", "rotation", "inpainter", "discriminator", "texture")
    }
    assert {name.split(".")[0] for name in run.weights} == {"backbone", "estimator", "discriminator"}
    before = load_run(mesh)
    assert not torch.equal(run.module("backbone")["conv1.weight"], before.module("backbone")["conv1.weight"])
    assert run.facts["init"] == "none, full" and run.facts["supervision"] == "self"
    sheet = cv2.imread(str(ssl / "pictures" / "epoch-01.png"))
    assert sheet.shape == (2 * 32, 8 * 32, 3)
    assert sheet.std() > 10


def test_finished_heads_are_used_again(files: Any, mesh: Path, ssl: Path, tmp_path: Path) -> None:
    stamp = (ssl / "heads" / "model.safetensors").stat().st_mtime_ns
    report = train_ssl(files, mesh, tmp_path / "no-real", heads=ssl / "heads", real=False)
    assert "steps of the heads" not in report.counts
    assert (ssl / "heads" / "model.safetensors").stat().st_mtime_ns == stamp
    assert "loss_real" not in report.metrics and "loss_verdict_rendered" not in report.metrics
    assert train_ssl(files, mesh, tmp_path / "no-real", heads=ssl / "heads", real=False).skipped


def test_labels_are_learned_from_where_they_are_asked_for(files: Any, mesh: Path, ssl: Path, tmp_path: Path) -> None:
    shared = {"heads": ssl / "heads", "pictures": 0}
    assert "loss_joints" not in train_ssl(files, mesh, tmp_path / "self", **shared).metrics
    weak = train_ssl(files, mesh, tmp_path / "weak", supervision="weak", keypoints_of=("a",), **shared)
    semi = train_ssl(
        files, mesh, tmp_path / "semi", supervision="semi", keypoints_of=("a",), joints_of=("a",), **shared
    )
    assert 0 < weak.metrics["loss_joints"] < semi.metrics["loss_joints"]
    assert not (tmp_path / "weak" / "pictures").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supervision": "semi", "joints_of": ("b",)}, "none of the data sets"),
        ({"supervision": "weak", "keypoints_of": ("b",)}, "data sets that are not given"),
        ({"patch": 64}, "hole is larger"),
        ({"gan_heads": "bce", "disc_output": "linear"}, "scores from 0 to 1"),
        (dict.fromkeys(("jigsaw", "rotation", "inpainting", "rgb", "mask", "real"), False), "every loss is off"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str, files: Any, mesh: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train_ssl(files, mesh, Path("nowhere"), dry_run=True, **changes)


def test_inputs_that_do_not_fit(files: Any, mesh: Path, tmp_path: Path) -> None:
    alone = tmp_path / "data" / "a.h5"
    alone.parent.mkdir()
    alone.write_bytes(files.dataset.read_bytes())
    with pytest.raises(DataError, match="pseudo-label masks"):
        train_ssl(files, mesh, tmp_path / "x", masks=(), datasets=(alone,))
    with pytest.raises(ConfigError, match="one file for each data set"):
        train_ssl(files, mesh, tmp_path / "x", masks=(files.dataset, files.dataset))
    with pytest.raises(FormatError, match="holds no mesh estimator"):
        train_ssl(files, _heads_as_init(files, mesh, tmp_path), tmp_path / "y")


def _heads_as_init(files: Any, mesh: Path, tmp_path: Path) -> Path:
    train_ssl(files, mesh, tmp_path / "run", pictures=0)
    return tmp_path / "run" / "heads"


def test_predictions_can_be_evaluated(files: Any, ssl: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.h5"
    predict(Predict(dataset=files.dataset, model=ssl, output=output, split="test", device="cpu"))
    with Artifact(output, FITS) as fits, Artifact(files.dataset) as dataset:
        assert fits.rows("fits") == 8 and fits.read("fits", "ok").all()
        assert np.abs(fits.read("fits", "betas")).max() > 0
        assert dataset.rows("samples") == 24
    report = evaluate(
        Evaluate(
            dataset=files.dataset,
            predictions=output,
            headings=("predictions",),
            output=tmp_path / "r.json",
            device="cpu",
        )
    )
    assert report.metrics["predictions_pa_mpjpe_mm"] > 0


def test_predicted_bodies_lie_where_the_network_draws_them(files: Any, ssl: Path, tmp_path: Path) -> None:
    """Joints of the stored bodies in the crop against those that the network's own camera projects."""
    predict(Predict(dataset=files.dataset, model=ssl, output=tmp_path / "p.h5", device="cpu"))
    backbone, estimator, facts = load_mesh_estimator(ssl, torch.device("cpu"))
    body = load_body()
    with Artifact(files.dataset) as dataset, Artifact(tmp_path / "p.h5", FITS) as fits:
        joints = NamedJoints(body, [dataset.skeleton])
        rows = np.arange(3, 9)
        source = MeshSource([MeshPart(dataset, rows)], facts.input_size, joints.names, None, 0)
        with torch.no_grad():
            estimate = estimator(backbone(normalised(source.batch(np.arange(6), 0).images)))
            drawn = JointsLoss(BodyModel(body), joints).projected(estimate, estimate.posed(BodyModel(body)).joints)
            pose = torch.from_numpy(fits.read("fits", "pose", rows))
            turn = torch.from_numpy(fits.read("fits", "orientation", rows)).reshape(-1, 3, 3)
            betas = torch.from_numpy(fits.read("fits", "betas", rows))
            local = matrix_from_axis_angle(pose)
            local[:, 0] = turn
            posed = BodyModel(body)(betas, local).joints
        scale = torch.from_numpy(fits.read("fits", "scale", rows))[:, None, None]
        shift = torch.from_numpy(fits.read("fits", "translation", rows))[:, None, :2]
        stored = scale * (posed - posed[:, :1])[..., :2] + shift
    assert (stored - drawn).abs().max() < 0.02


def test_columns_show_what_the_network_makes_of_people(files: Any, mesh: Path, ssl: Path, tmp_path: Path) -> None:
    settings = Render(dataset=files.dataset, kind="columns", model=ssl, output=tmp_path / "ssl", device="cpu")
    report = render(settings)
    assert (report.counts["people drawn"], report.counts["no picture"]) == (7, 1)
    image = cv2.imread(str(report.outputs[0]))
    assert image.shape == (SIDE, 4 * SIDE, 3)
    crop, body, parts, textured = np.split(image.astype(int), 4, axis=1)
    assert np.abs(body - crop).max() > 50 and np.abs(parts - crop).max() > 50
    assert (textured == 0).all(axis=2).mean() > 0.2, "over black"
    assert render(settings).skipped
    bare = render(settings.model_copy(update={"model": mesh, "output": tmp_path / "mesh", "frames": 1}))
    assert cv2.imread(str(bare.outputs[0])).shape == (SIDE, 3 * SIDE, 3)
    coloured = settings.model_copy(update={"model": mesh, "heads": ssl / "heads", "output": tmp_path / "both"})
    assert cv2.imread(str(render(coloured).outputs[0])).shape == (SIDE, 4 * SIDE, 3)
    with pytest.raises(FormatError, match="holds no heads"):
        render(settings.model_copy(update={"heads": mesh, "output": tmp_path / "x"}))
    with pytest.raises(ConfigError, match="--kind columns alone"):
        render(Render(dataset=files.dataset, heads=ssl / "heads"))


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    files: Any, mesh: Path, ssl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"heads": ssl / "heads", "epochs": 2, "checkpoint_every": 2, "pictures": 0}
    train_ssl(files, mesh, tmp_path / "whole", **settings)
    whole, steps = ImageSslMethod.step, []

    def interrupted(self: ImageSslMethod, batch: Any, worker: Any) -> Any:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return whole(self, batch, worker)

    with monkeypatch.context() as patched:
        patched.setattr(ImageSslMethod, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_ssl(files, mesh, tmp_path / "halves", **settings)
    report = train_ssl(files, mesh, tmp_path / "halves", **settings)
    assert "went on after step 2" in " ".join(report.notes)
    one, other = (load_run(tmp_path / name).weights for name in ("whole", "halves"))
    assert all(torch.equal(one[name], other[name]) for name in one)


TOGETHER = """
import sys
import torch
from posekit.config.image_ssl import TrainImageSsl
from posekit.stages.train_image_ssl import train_image_ssl

torch.set_num_threads(1)
train_image_ssl(TrainImageSsl.model_validate_json(open(sys.argv[1]).read()))
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(files: Any, mesh: Path, tmp_path: Path) -> None:
    """The network's stage; heads are trained by one process, for dropout differs from process to process."""
    train_ssl(files, mesh, tmp_path / "first", pictures=0, precision="64-true")
    for name in ("one", "two"):
        config = TrainImageSsl(
            **SSL
            | {"datasets": (files.dataset,), "masks": (files.dataset.parents[1] / "labels" / "a.masks.h5",)}
            | {"init": mesh, "heads": tmp_path / "first" / "heads", "output": tmp_path / name}
            | {"pictures": 0, "precision": "64-true", "lr": 1e-5}
        )
        if name == "one":
            train_image_ssl(config)
            continue
        (tmp_path / "config.json").write_text(config.model_dump_json())
        (tmp_path / "together.py").write_text(TOGETHER)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        done = subprocess.run(
            [*torchrun, "together.py", "config.json"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_run(tmp_path / name).weights for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        # Adam blows rounding up where a gradient is next to nothing.
        torch.testing.assert_close(two[name], one[name], rtol=0.0, atol=1e-6, msg=name)


@pytest.mark.parametrize(("kind", "recipe"), [(TrainMeshEstimator, "paper"), (TrainImageSsl, "paper")])
def test_recipes_of_the_paper_are_the_defaults(kind: Any, recipe: str) -> None:
    made, plain = build_config(kind, load_recipe(find_recipe(kind, Path(recipe)))), kind()
    assert {name for name in kind.model_fields if getattr(made, name) != getattr(plain, name)} <= set()


def test_a_body_of_another_file_is_refused(files: Any, mesh: Path, tmp_path: Path) -> None:
    with np.load(Path(posekit.body.__file__).parent / "assets" / "free_body.npz") as shipped:
        content = dict(shipped)
    content["v_template"] = content["v_template"] * 1.01
    np.savez(tmp_path / "other.npz", **content)
    with pytest.raises(InputError, match="of another body"):
        train_ssl(files, mesh, tmp_path / "x", body=tmp_path / "other.npz")
