"""Bodies from files: the shipped free body, and the user's own files of the SMPL family."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from posekit.body.unpickling import ChumpyArray, load_pickle
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.skeleton.catalog import SMPL24

FREE_BODY = Path(__file__).parent / "assets" / "free_body.npz"
"""The body that comes with posekit, derived from CC0 data; see `posekit.body.free_body`."""

SHAPE_COMPONENTS = 10
"""Shape components kept of files that carry more of them."""

PAINT_LABELS = ("skin", "shirt", "trousers", "shoes", "hair", "lips", "eyes")
"""What the numbers of `BodyData.vertex_label` stand for."""

_REQUIRED = ("v_template", "f", "weights", "J_regressor", "kintree_table", "shapedirs", "posedirs")
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_ROOT_PARENTS = (-1, 2**32 - 1)
_WEIGHT_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class BodyData:
    """The arrays of a skinned body: metres, y up, facing +z, the person's left at +x.

    The part atlas, mirror and named vertices are there for the free body only; a file of the SMPL family leaves them
    empty, except for what its vertex count tells.
    """

    v_template: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    weights: Float[np.ndarray, "V K"]
    joint_regressor: Float[np.ndarray, "K V"]
    parents: tuple[int, ...]
    shapedirs: Float[np.ndarray, "V 3 S"]
    posedirs: Float[np.ndarray, "V 3 P"]
    mirror: Int[np.ndarray, " V"] | None = None
    h36m_regressor: Float[np.ndarray, "17 V"] | None = None
    face_part: Int[np.ndarray, " F"] | None = None
    face_part_uv: Float[np.ndarray, "F 3 2"] | None = None
    face_uv: Float[np.ndarray, "F 3 2"] | None = None
    vertex_label: Int[np.ndarray, " V"] | None = None
    vertex_ids: Mapping[str, int] = field(default_factory=dict)
    version: str = ""
    licence: str = ""
    source: Path = FREE_BODY

    @property
    def vertex_count(self) -> int:
        """Number of vertices."""
        return len(self.v_template)

    @property
    def joint_count(self) -> int:
        """Number of joints of the rig, the root included."""
        return len(self.parents)

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the rig's joints, those of SMPL as far as the body has them.

        SMPL-H and SMPL-X share the joints up to the wrists; what follows there is left without a name of its own.
        """
        shared = len(SMPL24) if self.joint_count == len(SMPL24) else SMPL24.index("left_hand")
        named = SMPL24.joints[:shared] if self.joint_count >= shared else ()
        return (*named, *(f"joint_{i}" for i in range(len(named), self.joint_count)))

    def joint_index(self, name: str) -> int:
        """The position of a joint of the rig; InputError where this body has none of that name."""
        if name not in self.joint_names:
            raise InputError(f"body {self.source} has no joint", got=name, accepted=self.joint_names)
        return self.joint_names.index(name)

    @cached_property
    def rest_joints(self) -> Float[np.ndarray, "K 3"]:
        """Rest joints of the mean shape."""
        return self.joint_regressor.astype(np.float64) @ self.v_template.astype(np.float64)

    @cached_property
    def joint_shapedirs(self) -> Float[np.ndarray, "K 3 S"]:
        """What each shape component adds to the rest joints."""
        flat = self.shapedirs.reshape(self.vertex_count, -1).astype(np.float64)
        return (self.joint_regressor.astype(np.float64) @ flat).reshape(self.joint_count, 3, -1)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all arrays in a fixed order: the identity of the body for provenance."""
        sha = hashlib.sha256()
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                kind = "<f4" if value.dtype.kind == "f" else "<i4"
                sha.update(f"{item.name}{value.shape}".encode())
                sha.update(np.ascontiguousarray(value, dtype=kind).tobytes())
            elif item.name == "parents":
                sha.update(str(self.parents).encode())
        return sha.hexdigest()


def load_body(path: Path | None = None) -> BodyData:
    """The body of a file, or the free body when there is no path.

    Reads SMPL `.pkl` files (also those of Python 2 with chumpy arrays) and `.npz` files of SMPL, SMPL-H and SMPL-X,
    without running code from them. Raises MissingFileError, UnsafeFileError or FormatError.
    """
    return _load_free_body() if path is None else _load(Path(path))


@lru_cache(maxsize=1)
def _load_free_body() -> BodyData:
    return _load(FREE_BODY)


def _load(path: Path) -> BodyData:
    if not path.is_file():
        raise MissingFileError(
            "body model file not found",
            got=path,
            hint="set body.path to an SMPL .pkl or .npz file, or leave it empty for the body that comes with posekit",
        )
    arrays = _read_npz(path) if path.suffix == ".npz" else _read_pickle(path)
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise FormatError(f"body model {path} lacks {', '.join(missing)}", got=sorted(arrays), accepted=_REQUIRED)
    return _checked_body(arrays, path)


def _read_npz(path: Path) -> dict[str, object]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            # SMPL-X archives also hold pickled dictionaries that no body needs; only what is asked for is opened.
            return {key: archive[key] for key in archive.files if key in _REQUIRED or key in _EXTRAS}
    except _UNREADABLE as error:
        raise FormatError(f"body model {path} is not a readable .npz archive ({error})") from error


def _read_pickle(path: Path) -> dict[str, object]:
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise FormatError(f"body model {path} is a pickle of another kind", got=type(content).__name__, accepted="dict")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


_EXTRAS = {
    "mirror": "mirror",
    "J_regressor_h36m": "h36m_regressor",
    "face_part": "face_part",
    "face_part_uv": "face_part_uv",
    "face_uv": "face_uv",
    "vertex_label": "vertex_label",
    "vert_sym_idxs": "mirror",
    "vertex_ids": "vertex_ids",
    "version": "version",
    "licence": "licence",
}
"""File key -> field of what a file may carry besides."""


def _checked_body(arrays: Mapping[str, object], path: Path) -> BodyData:
    read = _ArrayReader(arrays, path)
    template = read.floats("v_template", (None, 3))
    count = len(template)
    parents = _parents(read.integers("kintree_table", (2, None))[0], path)
    weights = read.floats("weights", (count, len(parents)))
    posedirs = read.floats("posedirs", (count, 3, 9 * (len(parents) - 1)))
    faces = read.integers("f", (None, 3))
    if faces.size == 0 or faces.min() < 0 or faces.max() >= count:
        raise FormatError(f"body model {path}: a face names a vertex outside 0..{count - 1}", got=_bounds(faces))
    off = float(np.abs(weights.sum(axis=1) - 1.0).max())
    if off > _WEIGHT_SUM_TOLERANCE or weights.min() < -_WEIGHT_SUM_TOLERANCE:
        raise FormatError(
            f"body model {path}: skinning weights of a vertex must be non-negative and sum to 1",
            got=f"off by {off:.3g}",
        )
    return BodyData(
        v_template=template,
        faces=faces,
        weights=weights,
        joint_regressor=read.floats("J_regressor", (len(parents), count)),
        parents=parents,
        shapedirs=np.ascontiguousarray(read.floats("shapedirs", (count, 3, None))[..., :SHAPE_COMPONENTS]),
        posedirs=posedirs,
        source=path,
        **_extras(read, count, len(faces)),
    )


def _bounds(values: np.ndarray) -> str:
    return f"{values.min()}..{values.max()}" if values.size else "no faces"


def _parents(row: Int[np.ndarray, " K"], path: Path) -> tuple[int, ...]:
    if row.size == 0 or int(row[0]) not in _ROOT_PARENTS:
        raise FormatError(f"body model {path}: joint 0 must be the root of kintree_table", got=row[:1].tolist())
    parents = (-1, *(int(parent) for parent in row[1:]))
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents[1:], start=1)):
        raise FormatError(f"body model {path}: in kintree_table every parent must precede its child", got=list(parents))
    return parents


def _extras(read: _ArrayReader, vertices: int, faces: int) -> dict[str, Any]:
    shapes: dict[str, tuple[int | None, ...]] = {
        "mirror": (vertices,),
        "vert_sym_idxs": (vertices,),
        "J_regressor_h36m": (17, vertices),
        "face_part": (faces,),
        "face_part_uv": (faces, 3, 2),
        "face_uv": (faces, 3, 2),
        "vertex_label": (vertices,),
    }
    floats = {"J_regressor_h36m", "face_part_uv", "face_uv"}
    extras: dict[str, Any] = {
        _EXTRAS[key]: read.floats(key, shape) if key in floats else read.integers(key, shape)
        for key, shape in shapes.items()
        if key in read.arrays
    }
    for key in ("version", "licence"):
        if key in read.arrays:
            extras[key] = str(read.arrays[key])
    ids = read.arrays.get("vertex_ids")
    if isinstance(ids, np.ndarray) and ids.dtype.names == ("name", "index"):
        extras["vertex_ids"] = {str(row["name"]): int(row["index"]) for row in ids}
    return extras


@dataclass(frozen=True)
class _ArrayReader:
    """Arrays of one file, checked for kind and shape as they are taken."""

    arrays: Mapping[str, object]
    path: Path

    def floats(self, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
        values = self._numbers(key, "fiu", shape).astype(np.float32)
        if not np.isfinite(values).all():
            raise FormatError(f"body model {self.path}: {key} holds values that are not finite")
        return np.ascontiguousarray(values)

    def integers(self, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
        return np.ascontiguousarray(self._numbers(key, "iu", shape).astype(np.int64))

    def _numbers(self, key: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray:
        value = self.arrays[key]
        if isinstance(value, ChumpyArray):
            value = value.x
        if isinstance(value, sp.spmatrix):
            value = value.toarray()
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise FormatError(f"body model {self.path}: {key} is no array of numbers", got=kind)
        if len(shape) != value.ndim or any(
            want not in (None, have) for want, have in zip(shape, value.shape, strict=True)
        ):
            wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
            raise FormatError(
                f"body model {self.path}: {key} has the wrong shape", got=str(value.shape), accepted=wanted
            )
        return value
