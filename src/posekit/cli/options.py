"""Options made from the fields of a stage's config, so that no default is written twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from posekit.cli.workspace import Workspace
from posekit.config.base import SeededConfig, StageConfig, build_config, find_recipe, load_recipe
from posekit.errors import ConfigError, MissingFileError

Runner = Callable[[StageConfig, bool], None]


def stage_command(config: type[StageConfig], run: Runner) -> Callable[..., None]:
    """A Typer command whose options are the fields of `config`; it builds the config and hands it to `run`."""

    def command(**values: Any) -> None:
        as_json = values.pop("json", False)
        recipe = values.pop("recipe", None)
        set_up = values.pop("verbose", False)
        from posekit.cli.console import set_up_logging

        set_up_logging(set_up)
        run(resolve(config, values, recipe=recipe, workspace=Workspace.find(Path.cwd())), as_json)

    # What is particular to the stage comes first.
    ordered = sorted(config.model_fields, key=lambda name: name in SeededConfig.model_fields)
    parameters = [_parameter(config, name) for name in ordered]
    parameters.append(
        _extra(
            "recipe",
            Path | None,
            None,
            "YAML file of settings, or the name of a shipped recipe; options given here win.",
        )
    )
    parameters.append(_extra("json", bool, False, "Print the result as JSON on stdout."))
    parameters.append(_extra("verbose", bool, False, "Log what is done, on stderr."))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    about = (config.__doc__ or "").partition(": ")[2]
    command.__doc__ = about[:1].upper() + about[1:]
    return command


def resolve(
    config: type[StageConfig], given: Mapping[str, Any], *, recipe: Path | None = None, workspace: Workspace
) -> StageConfig:
    """The config from what was given, over the recipe, over the workspace, over the defaults."""
    values: dict[str, Any] = dict(load_recipe(find_recipe(config, recipe))) if recipe is not None else {}
    for name in config.model_fields:
        if given.get(name) is not None:
            values[name] = _over(values.get(name), _parsed(config, name, given[name]))
        elif name not in values:
            fallback = _from_workspace(config, name, workspace)
            if fallback is not None:
                values[name] = fallback
    return build_config(config, values)


def _over(recipe: Any, given: Any) -> Any:
    """What was given, over what a recipe says; settings of a stage one by one."""
    both = isinstance(recipe, Mapping) and isinstance(given, Mapping)
    return {**recipe, **given} if both else given


def _from_workspace(config: type[StageConfig], name: str, workspace: Workspace) -> Any:
    role, default = config.role(name), config.model_fields[name].default
    if role in ("read_path", "write_path"):
        key = str(config.extra(name).get("workspace", ""))
        if isinstance(default, tuple):
            return tuple(workspace.path(path, "") for path in default)
        if not isinstance(default, Path):
            return workspace.path(Path(), key) if key and workspace.value(key) else None
        path = workspace.path(default, key)
        return _only_dataset(path) if name == "dataset" else path
    return workspace.value(f"run.{name}") if name in ("device", "seed") else None


def _only_dataset(path: Path) -> Path:
    """The default data set; where it is absent and the folder holds just one other, that one."""
    if path.exists():
        return path
    others = sorted(path.parent.glob("*.h5"))
    if len(others) > 1:
        raise MissingFileError(
            "several data sets, none of them the default", got=others, hint="Name one with --dataset"
        )
    return others[0] if others else path


def _parsed(config: type[StageConfig], name: str, value: Any) -> Any:
    kind = get_origin(_bare(config.model_fields[name].annotation))
    if kind is tuple and isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if kind is Mapping and isinstance(value, str):
        return _settings_of_a_stage(name, value)
    return value


def _settings_of_a_stage(name: str, text: str) -> dict[str, str]:
    """`iters=50,w-dense=0` as a mapping; the config of the stage that it is for checks the values."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals and key.strip() for key, equals, _ in pairs):
        raise ConfigError(f"--{name.replace('_', '-')} takes settings of a stage", got=text, accepted="NAME=VALUE,...")
    return {key.strip().replace("-", "_"): value.strip() for key, _, value in pairs}


def _parameter(config: type[StageConfig], name: str) -> inspect.Parameter:
    field = config.model_fields[name]
    bare = _bare(field.annotation)
    option = "--" + name.replace("_", "-")
    about = " ".join(filter(None, (field.description, _shown(field.default))))
    kind = bare
    if bare is bool and field.default:
        option = f"{option}/--no-{option[2:]}"
    elif get_origin(bare) is tuple:
        about = f"{about} Separate by commas."
        kind = str
    elif get_origin(bare) is Mapping:
        about = f"{about} As NAME=VALUE,..."
        kind = str
    if config.extra(name).get("positional"):
        argument: Any = Annotated[bare, typer.Argument(help=about, show_default=False)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=argument)
    return _extra(name, kind | None, None, about, option)


def _extra(name: str, kind: Any, default: Any, about: str, option: str = "") -> inspect.Parameter:
    annotation = Annotated[kind, typer.Option(option or f"--{name}", help=about, show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _bare(annotation: Any) -> Any:
    """A type without its `| None`."""
    if get_origin(annotation) in (Union, UnionType):
        rest = [part for part in get_args(annotation) if part is not NoneType]
        if len(rest) == 1:
            return rest[0]
    return annotation


def _shown(default: Any) -> str:
    """The default as a sentence for the help text; empty where the description says all there is."""
    if default is None or default is False or default == () or default == {}:
        return ""
    if isinstance(default, tuple):
        default = ",".join(str(part) for part in default)
    return f"Default: {'yes' if default is True else default}."
