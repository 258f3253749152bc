"""The loop: restarts, several processes, precision, and what goes wrong."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posekit.config.training import TrainingConfig
from posekit.errors import ArtifactError, ConfigError, InputError, OutputError, TrainingError
from posekit.training.checkpoints import load_tensors
from posekit.training.logs import read_log
from posekit.training.loop import LoopSettings, train
from posekit.training.runs import load_run

TOY = Path(__file__).with_name("toy.py")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", TOY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run_toy(work: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, TOY, work, folder], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def losses(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(line["step"], line["losses"]) for line in read_log(folder)]


def test_learns_stores_logs_and_is_not_done_twice(toy: ModuleType, tmp_path: Path) -> None:
    run = toy.folder(tmp_path / "run")
    method = toy.Regression(dropout=0.0, lr=3e-2)
    settings = replace(toy.SETTINGS, epochs=40, log_every=20)
    outcome = train(method, toy.Lines(), settings, run, CPU)
    assert (outcome.steps, outcome.first_step, outcome.skipped) == (200, 0, False)

    lines = read_log(run.path)
    assert [line["step"] for line in lines] == list(range(20, 201, 20))
    assert lines[-1]["losses"] == outcome.losses
    assert lines[-1]["losses"]["fit"] < 0.3 * lines[0]["losses"]["fit"]
    assert {"step", "epoch", "losses", "lr", "step_ms", "wait_ms", "samples_per_s"} == set(lines[0])
    assert list((run.path / "tensorboard").glob("events*"))
    assert not list(run.path.glob("checkpoint*"))

    again = toy.Regression(dropout=0.0)
    skipped = train(again, toy.Lines(), settings, run, CPU)
    assert skipped.skipped and (skipped.steps, skipped.losses) == (outcome.steps, outcome.losses)
    stored = load_run(run.path).module("net")
    for name, tensor in method.net.state_dict().items():
        assert torch.equal(tensor, stored[name]) and torch.equal(again.net.state_dict()[name], tensor)


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    run_toy("interrupted", tmp_path)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert (whole / "model.safetensors").read_bytes() == (pieces / "model.safetensors").read_bytes()
    assert losses(whole) == losses(pieces)
    assert not list(pieces.glob(".*")) and not (pieces / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    said = run_toy("together", tmp_path)
    assert said == "", "warnings or chatter"
    for one_name, name in (
        ("regression1", "regression2"),
        ("regression1", "regression21"),
        ("adversaries1", "adversaries2"),
        ("through1", "through2"),
    ):
        one, two = (load_tensors(tmp_path / folder / "model.safetensors")[0] for folder in (one_name, name))
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-9, atol=1e-11, msg=f"{name}: {key}")
        for (_, ours), (_, theirs) in zip(losses(tmp_path / one_name), losses(tmp_path / name), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-9)


def test_a_method_gets_no_gradients_of_an_earlier_step(toy: ModuleType, tmp_path: Path) -> None:
    """Against the same two steps written out with plain torch."""
    settings = replace(toy.SETTINGS, epochs=1, decay="none", precision="64-true", batch=4)
    ours, plain = toy.Adversaries(), toy.Adversaries()
    train(ours, toy.Lines(), settings, toy.folder(tmp_path / "run"), CPU)

    class Bare:
        """What `Worker` asks for, by hand."""

        device, progress = CPU, 0.0
        generator = torch.Generator()

        def module(self, name: str) -> nn.Module:
            return plain.modules()[name]

        def backward(self, loss: Tensor) -> None:
            for module in plain.modules().values():
                module.zero_grad()
            loss.backward()

        def step(self, name: str) -> None:
            plain.adams[name].step()

        def mine(self, whole: Tensor) -> Tensor:
            return whole

    from posekit.training.sampling import Schedule, step_seed

    schedule = Schedule(22, 4, 1, settings.seed)
    for module in plain.modules().values():
        module.double()
    for step in range(schedule.steps):
        batch = toy.Lines().batch(schedule.own_samples(step), 0)
        batch = toy.Pairs(batch.x.double(), batch.y.double())
        worker = Bare()
        worker.generator = torch.Generator().manual_seed(step_seed(settings.seed, step))
        plain.step(batch, worker)
    for name, module in plain.modules().items():
        for key, tensor in module.state_dict().items():
            torch.testing.assert_close(ours.modules()[name].state_dict()[key], tensor, rtol=1e-12, atol=1e-14)


def test_other_settings_do_not_go_on_from_an_old_checkpoint(
    toy: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(number: int) -> None:
        if number == 20:
            raise KeyboardInterrupt

    def interrupt(**settings: object) -> None:
        with pytest.raises(KeyboardInterrupt):
            train(toy.Regression(before=stop), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path, **settings), CPU)

    interrupt(width=8)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    outcome = train(toy.Regression(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path, width=9), CPU)
    assert outcome.first_step == 0
    assert "other settings" in outcome.notes[0] and "other settings" in caplog.text

    interrupt(width=8)
    outcome = train(toy.Regression(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path, width=8), CPU)
    assert outcome.first_step == 18
    assert [line["step"] for line in read_log(tmp_path)] == [7, 14, 21, 28, 35, 42, 49, 56, 60]

    run = toy.folder(tmp_path, width=8)
    run.start_over()
    forced = train(toy.Regression(), toy.Lines(), toy.SETTINGS, run, CPU)
    assert (forced.skipped, forced.first_step, forced.losses) == (False, 0, outcome.losses)

    interrupt(width=10)
    run = toy.folder(tmp_path, width=10)
    run.start_over()
    assert train(toy.Regression(), toy.Lines(), toy.SETTINGS, run, CPU).first_step == 0


def test_a_damaged_checkpoint_is_said_aloud(toy: ModuleType, tmp_path: Path) -> None:
    run = toy.folder(tmp_path)
    whole = train(toy.Regression(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path / "whole"), CPU)
    (tmp_path / "checkpoint.safetensors").write_bytes((tmp_path / "whole" / "model.safetensors").read_bytes()[:300])
    outcome = train(toy.Regression(), toy.Lines(), toy.SETTINGS, run, CPU)
    assert outcome.first_step == 0 and "starts over" in outcome.notes[0]
    assert outcome.losses == whole.losses


def test_weights_of_another_network_are_refused(toy: ModuleType, tmp_path: Path) -> None:
    train(toy.Regression(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path), CPU)

    class Wider(toy.Regression):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 9))

    with pytest.raises(ArtifactError, match="do not fit"):
        train(Wider(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path), CPU)


def test_losses_that_are_no_numbers_stop_the_training(toy: ModuleType, tmp_path: Path) -> None:
    method = toy.Regression(lr=1e30, dropout=0.0)
    with pytest.raises(TrainingError, match=r"fit = (nan|inf).*learning rate"):
        train(method, toy.Lines(), toy.SETTINGS, toy.folder(tmp_path), CPU)
    assert not toy.folder(tmp_path).is_finished()


def test_an_error_of_a_loader_thread_arrives_as_it_is(toy: ModuleType, tmp_path: Path) -> None:
    class Broken(toy.Lines):
        def batch(self, samples: np.ndarray, epoch: int) -> Any:
            if epoch == 2:
                raise InputError("picture 7 cannot be read")
            return super().batch(samples, epoch)

    method = toy.Regression()
    with pytest.raises(InputError, match="picture 7 cannot be read"):
        train(method, Broken(), toy.SETTINGS, toy.folder(tmp_path), CPU)
    assert method.steps == 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(toy: ModuleType, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        train(toy.Regression(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path / place), CPU)


def test_mixed_precision_runs_on_a_cpu(toy: ModuleType, tmp_path: Path) -> None:
    seen = []

    class Watching(toy.Regression):
        def step(self, batch: Any, worker: Any) -> dict[str, Tensor]:
            with torch.no_grad():
                handle = self.net[0].register_forward_hook(lambda module, given, made: seen.append(made.dtype))
                answer = worker.module("net")(batch.x)
                handle.remove()
            seen.append(answer.dtype)
            return super().step(batch, worker)

    settings = replace(toy.SETTINGS, precision="bf16-mixed", epochs=40)
    outcome = train(Watching(dropout=0.0), toy.Lines(), settings, toy.folder(tmp_path), CPU)
    assert seen[:2] == [torch.bfloat16, torch.float32]
    assert outcome.losses["fit"] < 0.3 * losses(tmp_path)[0][1]["fit"]
    assert load_run(tmp_path).module("net")["0.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [({"precision": "16-mixed"}, "CUDA"), ({"batch": 23}, "at most 22")],
)
def test_settings_that_do_not_go_together(
    toy: ModuleType, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(toy.Regression(), toy.Lines(), replace(toy.SETTINGS, **change), toy.folder(tmp_path), CPU)


def test_the_monitor_sees_networks_at_rest(toy: ModuleType, tmp_path: Path) -> None:
    method = toy.Regression()
    seen = []

    def monitor(epochs: int) -> dict[str, float]:
        seen.append((epochs, method.net.training, torch.is_grad_enabled()))
        torch.rand(3)
        return {"error": 1.0 / epochs}

    settings = replace(toy.SETTINGS, epochs=3)
    outcome = train(method, toy.Lines(), settings, toy.folder(tmp_path / "seen"), CPU, monitor=monitor)
    assert seen == [(1, False, False), (2, False, False), (3, False, False)]
    assert next(line["monitor"] for line in read_log(tmp_path / "seen") if "monitor" in line) == {"error": 1.0}
    assert outcome.monitored == {"error": 1.0 / 3}

    unseen = train(toy.Regression(), toy.Lines(), settings, toy.folder(tmp_path / "unseen"), CPU)
    assert unseen.losses == outcome.losses


def test_nobody_else_random_numbers_are_touched(toy: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(4)
    torch.manual_seed(11)
    train(toy.Regression(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path), CPU)
    assert torch.equal(torch.rand(4), expected)


def test_constants_are_placed_but_not_stored(toy: ModuleType, tmp_path: Path) -> None:
    class WithBody(toy.Regression):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(1, 1)

        def constants(self) -> dict[str, nn.Module]:
            return {"body": self.body}

    method = WithBody()
    train(method, toy.Lines(), replace(toy.SETTINGS, precision="64-true"), toy.folder(tmp_path), CPU)
    assert method.body.weight.dtype == torch.float64 and not method.body.training
    assert not [name for name in load_run(tmp_path).weights if not name.startswith("net.")]


def test_names_that_cannot_be_stored(toy: ModuleType, tmp_path: Path) -> None:
    class Dotted(toy.Regression):
        def modules(self) -> dict[str, nn.Module]:
            return {"a.b": self.net}

    with pytest.raises(ValueError, match="without dots"):
        train(Dotted(), toy.Lines(), toy.SETTINGS, toy.folder(tmp_path), CPU)


def test_the_learning_rate_ends_near_nothing(toy: ModuleType, tmp_path: Path) -> None:
    settings = replace(toy.SETTINGS, log_every=1, epochs=2)
    train(toy.Regression(), toy.Lines(), settings, toy.folder(tmp_path), CPU)
    rates = [line["lr"] for line in read_log(tmp_path)]
    assert rates[0] == pytest.approx(1e-2) and rates[5] == pytest.approx(0.5e-2)
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 3e-4


def test_settings_come_from_the_config() -> None:
    config = TrainingConfig(epochs=3, batch=8, lr=0.5, decay="cosine", precision="bf16-mixed", seed=4, workers=5)
    assert LoopSettings.from_config(config) == LoopSettings(3, 8, 0.5, "cosine", "bf16-mixed", 4, 5, 50, 500)


def test_the_learning_rate_falls_to_a_tenth_after_given_epochs() -> None:
    settings = LoopSettings(epochs=10, batch=1, lr=1.0, decay="steps", decay_epochs=(6, 9))
    shares = [settings.lr_share(epoch / 10) for epoch in (0.0, 5.9, 6.0, 8.9, 9.0)]
    assert shares == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01])
    for wrong in ({"decay": "steps"}, {"decay_epochs": (3,)}):
        with pytest.raises(ConfigError, match="--decay-epochs together"):
            LoopSettings(epochs=10, batch=1, lr=1.0, **wrong)  # type: ignore[arg-type]


def test_the_learning_rate_falls_by_a_hundredth_each_epoch() -> None:
    settings = LoopSettings(epochs=10, batch=1, lr=1.0, decay="exponential")
    shares = [settings.lr_share(epoch / 10) for epoch in (0.0, 0.9, 1.0, 1.9, 9.0, 9.9)]
    assert shares == pytest.approx([1.0, 1.0, 0.99, 0.99, 0.99**9, 0.99**9])


def test_gradients_go_through_a_module_and_leave_none_in_it(toy: ModuleType, tmp_path: Path) -> None:
    seen: list[bool] = []

    class Watched(toy.Adversaries):
        def step(self, batch: Any, worker: Any) -> dict[str, Tensor]:
            with worker.through("critic") as critic:
                verdict = critic(torch.cat([batch.x, self.generator(batch.x)], 1))
            worker.backward(verdict.mean())
            seen.append(all(parameter.grad is None for parameter in self.critic.parameters()))
            seen.append(all(parameter.grad is not None for parameter in self.generator.parameters()))
            seen.append(all(parameter.requires_grad for parameter in self.critic.parameters()))
            worker.step("generator")
            return {"verdict": verdict.mean().detach()}

    before = toy.Adversaries().critic.state_dict()
    method = Watched()
    train(method, toy.Lines(), replace(toy.SETTINGS, epochs=1), toy.folder(tmp_path), CPU)
    assert seen and all(seen)
    assert all(torch.equal(value, before[name]) for name, value in method.critic.state_dict().items())


def test_steady_rates_stay_and_gradients_are_cut(toy: ModuleType, tmp_path: Path) -> None:
    rates: dict[str, list[float]] = {"generator": [], "critic": []}
    norms: list[float] = []

    class Cut(toy.Adversaries):
        def steady(self) -> frozenset[str]:
            return frozenset({"critic"})

        def step(self, batch: Any, worker: Any) -> dict[str, Tensor]:
            for name, adam in self.adams.items():
                rates[name].append(adam.param_groups[0]["lr"])
            adam = self.adams["generator"]
            take = adam.step

            def noted(*args: Any, **kwargs: Any) -> Any:
                grads = [parameter.grad for parameter in self.generator.parameters()]
                norms.append(float(torch.cat([grad.flatten() for grad in grads]).norm()))
                return take(*args, **kwargs)

            adam.step = noted
            worker.backward(100 * worker.module("generator")(batch.x).mean())
            worker.step("generator", 0.25)
            adam.step = take
            return {"fit": torch.zeros(())}

    train(Cut(), toy.Lines(), replace(toy.SETTINGS, epochs=3), toy.folder(tmp_path), CPU)
    assert set(rates["critic"]) == {1e-2}
    assert rates["generator"][0] == 1e-2 and rates["generator"][-1] < 0.5e-2
    assert norms == pytest.approx([0.25] * len(norms), rel=1e-4)
