from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest

from posekit.cli.options import resolve, stage_command
from posekit.cli.stages import COMMANDS, config_of
from posekit.cli.workspace import KEYS, Workspace
from posekit.config.base import RECIPES, beside, build_config, load_recipe
from posekit.config.data import SynthesizeH36M
from posekit.config.deform_and_learn import TrainDeformAndLearn
from posekit.config.labels import Register
from posekit.config.results import EvaluationProtocol
from posekit.errors import ConfigError, MissingFileError

KINDS = [config_of(config) for _, config, _ in COMMANDS]


def workspace(root: Path, text: str = "") -> Workspace:
    (root / "posekit.toml").write_text(text)
    return Workspace.find(root)


@pytest.mark.parametrize(("typed", "config"), [row[:2] for row in COMMANDS], ids=[row[0] for row in COMMANDS])
def test_every_field_is_an_option_with_help(typed: str, config: str) -> None:
    kind = config_of(config)
    command = stage_command(kind, lambda config, as_json: None)
    options = set(inspect.signature(command).parameters)
    assert options == set(kind.model_fields) | {"recipe", "json", "verbose"}
    assert command.__doc__
    for name, field in kind.model_fields.items():
        assert field.description, f"{typed}: {name} has no help"
        assert kind.role(name) in ("setting", "runtime", "read_path", "write_path")


def test_paths_and_runtime_do_not_enter_the_fingerprint() -> None:
    one = Register(output=Path("a.h5"), batch=3, force=True)
    assert one.settings() == Register().settings()
    assert Register(iters=5).settings() != Register().settings()
    assert "seed" not in one.settings()


def test_options_win_over_recipe_over_workspace_over_defaults(tmp_path: Path) -> None:
    home = workspace(tmp_path, '[run]\nseed = 7\ndevice = "cpu"\n')
    recipe = tmp_path / "r.yaml"
    recipe.write_text("iters: 11\nlr: 0.5\n")
    config = resolve(Register, {"iters": 12}, recipe=recipe, workspace=home)
    assert isinstance(config, Register)
    assert (config.iters, config.lr, config.seed, config.device) == (12, 0.5, 7, "cpu")
    assert resolve(Register, {"seed": 3}, workspace=home).seed == 3


def test_default_paths_lie_in_the_workspace_even_from_below(tmp_path: Path) -> None:
    workspace(tmp_path, '[raw]\nh36m = "elsewhere"\n[body]\npath = "smpl.pkl"\n')
    (tmp_path / "deep" / "er").mkdir(parents=True)
    home = Workspace.find(tmp_path / "deep" / "er")
    assert home.root == tmp_path
    config = resolve(Register, {}, workspace=home)
    assert isinstance(config, Register)
    assert config.dataset == tmp_path / "data" / "h36m.h5"
    assert config.body == tmp_path / "smpl.pkl"
    assert config.output is None
    assert beside(config.dataset, "fits", ".h5") == tmp_path / "fits" / "h36m.h5"


def test_the_only_data_set_is_the_default(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.h5").touch()

    def chosen() -> Any:
        return resolve(Register, {}, workspace=home).dataset  # type: ignore[attr-defined]

    assert chosen().name == "mine.h5"
    (tmp_path / "data" / "other.h5").touch()
    with pytest.raises(MissingFileError, match="--dataset"):
        chosen()
    (tmp_path / "data" / "h36m.h5").touch()
    assert chosen().name == "h36m.h5"


def test_lists_are_written_with_commas(tmp_path: Path) -> None:
    config = resolve(SynthesizeH36M, {"subjects": "S1, S5,"}, workspace=workspace(tmp_path))
    assert isinstance(config, SynthesizeH36M)
    assert config.subjects == ("S1", "S5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[raw", "not TOML"),
        ("[rubbish]\nx = 1", "unknown section"),
        ('[raw]\nh37m = "x"', "unknown key"),
        ("[raw]\nh36m = 3", "path in quotes"),
    ],
)
def test_a_malformed_workspace_file_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        workspace(tmp_path, text)


def test_every_workspace_key_is_read_by_some_config() -> None:
    read = {str(kind.extra(name).get("workspace", "")) for kind in KINDS for name in kind.model_fields}
    read |= {"run.device", "run.seed"}
    assert {f"{section}.{name}" for section, names in KEYS.items() for name in names} <= read


def test_wrong_settings_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"noise-px.*-1"):
        resolve(Register, {"noise_px": -1}, workspace=workspace(tmp_path))


def test_every_protocol_of_the_catalogue_can_be_chosen() -> None:
    from posekit.evaluation.protocols import ALIASES, PROTOCOLS

    assert set(get_args(EvaluationProtocol)) == set(PROTOCOLS) | set(ALIASES)


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_settings_of_their_stage(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / path.stem).mkdir()  # a folder of the same name must not hide the recipe
    monkeypatch.chdir(tmp_path)
    kind = next(kind for kind in KINDS if (kind.recipes or kind.__name__.lower()) == path.parent.name)
    config = resolve(kind, {}, recipe=Path(path.stem), workspace=workspace(tmp_path))
    defaults = resolve(kind, {}, workspace=workspace(tmp_path)).model_dump()
    assert config == build_config(kind, defaults | load_recipe(path)) and load_recipe(path)


def test_settings_of_a_stage_go_one_by_one_over_those_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("regressor: {lr: 0.5, batch: 4}\n")
    given = {"regressor": "batch=8,weights=none"}
    config = resolve(TrainDeformAndLearn, given, recipe=recipe, workspace=workspace(tmp_path))
    assert isinstance(config, TrainDeformAndLearn)
    assert config.regressor == {"lr": 0.5, "batch": "8", "weights": "none"}
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        resolve(TrainDeformAndLearn, {"regressor": "batch"}, workspace=workspace(tmp_path))
