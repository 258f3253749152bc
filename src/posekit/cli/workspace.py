"""The workspace: a folder with `posekit.toml`, in which every command has defaults for its paths."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.errors import ConfigError

FILE_NAME = "posekit.toml"

KEYS: dict[str, dict[str, str]] = {
    "raw": {
        "h36m": "Folder of the raw Human3.6M release.",
        "voc": "Folder of the raw PASCAL VOC 2012 release (VOCdevkit/VOC2012).",
        "mpii": "Folder of the raw MPII Human Pose release (mpii_human_pose_v1_u12_1.mat, images/).",
        "lsp": "Folder of the raw LSP releases (lsp_dataset/, lspet_dataset/, upi-s1h/).",
        "3dpw": "Folder of the raw 3DPW release (sequenceFiles/, imageFiles/).",
        "multiview": "Folder of own recordings: videos/, openpose/ and a calibration.",
    },
    "body": {
        "path": "SMPL-family model file; without it, the body that posekit ships.",
        "male": "Body of men, where a data set tells genders apart (3DPW); without it, body.path.",
        "female": "Body of women; without it, body.path.",
        "regressor": "J_regressor_h36m.npy that belongs to the body; without it, that of the body's own file.",
    },
    "run": {"device": "auto, cpu or cuda.", "seed": "Seed of everything random."},
}
"""Every key that `posekit.toml` may hold, with what it means."""

TEMPLATE = """\
# The workspace of posekit. Paths are relative to this file unless absolute. Every key is optional.

[raw]
h36m = "raw/h36m"            # raw release of Human3.6M (or `posekit synthesize h36m`)
multiview = "raw/multiview"  # own recording: videos/, openpose/, a calibration file

[body]
# path = "models/SMPL_NEUTRAL.pkl"  # without this, the body that posekit ships
# male = "models/SMPL_MALE.pkl"      # 3DPW tells men and women apart
# female = "models/SMPL_FEMALE.pkl"
# regressor = "models/J_regressor_h36m.npy"

[run]
device = "auto"              # auto, cpu or cuda
seed = 0
"""


@dataclass(frozen=True)
class Workspace:
    """Where defaults are taken from: the folder of `posekit.toml`, or the working folder when there is none."""

    root: Path
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    file: Path | None = None

    @staticmethod
    def find(start: Path) -> Workspace:
        """The workspace that `start` lies in; ConfigError when its file is malformed."""
        for folder in (start, *start.parents):
            if (folder / FILE_NAME).is_file():
                return Workspace(folder, _read(folder / FILE_NAME), folder / FILE_NAME)
        return Workspace(start)

    def value(self, key: str) -> Any:
        """The value of a dotted key, or None."""
        section, _, name = key.partition(".")
        return self.values.get(section, {}).get(name)

    def path(self, default: Path, key: str = "") -> Path:
        """A default path inside the workspace, or what the key says instead."""
        configured = self.value(key) if key else None
        return self.root / (Path(configured).expanduser() if configured else default)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML", got=error) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}", got=error) from error
    for section, values in content.items():
        if section not in KEYS or not isinstance(values, dict):
            raise ConfigError(f"unknown section in {path}", got=section, accepted=sorted(KEYS))
        for name, value in values.items():
            if name not in KEYS[section]:
                raise ConfigError(f"unknown key in {path}", got=f"{section}.{name}", accepted=sorted(KEYS[section]))
            if section != "run" and not isinstance(value, str):
                raise ConfigError(f"{section}.{name} in {path} must be a path in quotes", got=value)
    return content
