"""What all configs share: the makers of fields, recipes, and the messages about wrong values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from posekit.errors import ConfigError, MissingFileError

Device = str


def setting(default: Any, about: str, **limits: Any) -> Any:
    """A field that can change the result."""
    return Field(default, description=about, json_schema_extra={"role": "setting"}, **limits)


def runtime(default: Any, about: str, **limits: Any) -> Any:
    """A field that says how the work is done."""
    return Field(default, description=about, json_schema_extra={"role": "runtime"}, **limits)


def read_path(default: str | None, about: str, *, workspace: str = "", positional: bool = False) -> Any:
    """An input path; `workspace` names the key of `posekit.toml` that overrides the default (as `raw.h36m`).

    A `positional` one is typed without the name of an option.
    """
    path = None if default is None else Path(default)
    extra: dict[str, Any] = {"role": "read_path", "workspace": workspace, "positional": positional}
    return Field(path, description=about, json_schema_extra=extra)


def read_paths(default: tuple[str, ...], about: str) -> Any:
    """Input paths."""
    return Field(tuple(Path(path) for path in default), description=about, json_schema_extra={"role": "read_path"})


def write_path(default: str | None, about: str) -> Any:
    """An output path."""
    path = None if default is None else Path(default)
    return Field(path, description=about, json_schema_extra={"role": "write_path"})


class StageConfig(BaseModel):
    """What all stages share."""

    # Checks are built when a config is first made: help needs none of them, and must be instant.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    force: bool = runtime(False, "Do the work again even if an up-to-date result is there.")
    dry_run: bool = runtime(False, "Say what would be done, and do nothing.")

    recipes: ClassVar[str] = ""
    """Folder of the recipes that posekit ships for this stage, below `RECIPES`."""

    def settings(self) -> dict[str, Any]:
        """The settings that can change the result, as plain values; what goes into fingerprints."""
        dumped = self.model_dump(mode="json")
        return {
            name: dumped[name] for name in type(self).model_fields if self.role(name) == "setting" and name != "seed"
        }

    @classmethod
    def role(cls, name: str) -> str:
        """What kind of field a name is: setting, runtime, read_path or write_path."""
        return str(cls.extra(name).get("role", "setting"))

    @classmethod
    def extra(cls, name: str) -> dict[str, Any]:
        """What the makers of fields noted about one."""
        extra = cls.model_fields[name].json_schema_extra
        return extra if isinstance(extra, dict) else {}


class SeededConfig(StageConfig):
    """What stages share that draw random numbers."""

    seed: int = setting(0, "Seed of everything random.", ge=0)


RECIPES = Path(__file__).parents[1] / "recipes"


def find_recipe(kind: type[StageConfig], recipe: Path) -> Path:
    """The file of a recipe: a path, or the name of one that posekit ships for this stage."""
    shipped = {path.stem: path for path in sorted((RECIPES / (kind.recipes or kind.__name__.lower())).glob("*.yaml"))}
    if not recipe.is_file() and str(recipe) in shipped:
        return shipped[str(recipe)]
    if not recipe.is_file():
        raise MissingFileError("recipe not found", got=recipe, accepted=["a YAML file", *shipped])
    return recipe


def load_recipe(path: Path) -> dict[str, Any]:
    """The settings of a recipe file (YAML, one mapping)."""
    import yaml  # only here: most commands read no recipe, and help must be instant

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {path}", got=error) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the recipe {path} is not YAML", got=str(error).replace("\n", " ")) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"the recipe {path} must be a mapping of settings", got=type(content).__name__)
    return {str(key).replace("-", "_"): value for key, value in content.items()}


Config = TypeVar("Config", bound="StageConfig")


def build_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A checked config from plain values; ConfigError says which values are wrong and what is accepted."""
    try:
        return kind(**values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']).replace('_', '-')}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors(include_url=False)
        ]
        names = sorted(name.replace("_", "-") for name in kind.model_fields)
        unknown = any(problem["type"] == "extra_forbidden" for problem in error.errors())
        raise ConfigError("wrong settings: " + "; ".join(problems), accepted=names if unknown else None) from error


def beside(dataset: Path, folder: str, ending: str) -> Path:
    """The default place of something made from a data set: `<workspace>/<folder>/<name of the data set><ending>`."""
    return dataset.parent.parent / folder / f"{dataset.stem}{ending}"
