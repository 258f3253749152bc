"""Artifacts on disk, read back with checks.

Any artifact can be read with plain h5py::

    import h5py
    with h5py.File("data/h36m.h5") as file:
        names = list(file.attrs["joint_names"])
        keypoints = file["samples/keypoints2d"][:100]
        begin, end = file["samples/image/offsets"][0:2]
        jpeg = file["samples/image/values"][begin:end].tobytes()
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import Column, Kind, kind_by_name
from posekit.artifacts.writing import update_digest, whole_digest
from posekit.errors import ArtifactError, MissingFileError
from posekit.skeleton.catalog import CATALOG
from posekit.skeleton.skeleton import Skeleton

Rows = slice | np.ndarray | Sequence[int] | None

_BLOCK_BYTES = 4 << 20


class Artifact:
    """An artifact opened for reading.

    Raises MissingFileError when there is none, ArtifactError when it is damaged, incomplete, of another kind than asked
    for, or written under a newer schema.
    """

    def __init__(self, path: Path, kind: Kind | None = None) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            self.kind = self._check_kind(kind)
            self.header = _read_header(self._file)
            self.digest = str(self._file.attrs["digest"])
        except KeyError as error:
            self._file.close()
            raise ArtifactError("the artifact lacks part of its header", got=self.path, hint="Make it again") from error
        except BaseException:
            self._file.close()
            raise

    def _check_kind(self, kind: Kind | None) -> Kind:
        attributes = self._file.attrs
        if "kind" not in attributes or "schema_version" not in attributes:
            raise ArtifactError("not an artifact of posekit", got=self.path, hint="See `posekit info`")
        found = kind_by_name(str(attributes["kind"]))
        if kind is not None and found.name != kind.name:
            raise ArtifactError(f"wrong kind of artifact: {self.path}", got=found.name, accepted=kind.name)
        version = int(attributes["schema_version"])
        if version > found.version:
            raise ArtifactError(
                f"{self.path} was written by a newer posekit",
                got=f"schema version {version} of {found.name}",
                accepted=f"up to {found.version}",
                hint="Update posekit",
            )
        if not attributes.get("complete", False):
            raise ArtifactError("the artifact was never finished", got=self.path, hint="Run the stage again")
        return found

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    @property
    def skeleton(self) -> Skeleton:
        """The joint order of the file's joints; ArtifactError where the kind has none."""
        if self.header.skeleton is None:
            raise ArtifactError("the artifact names no skeleton", got=self.path)
        return self.header.skeleton

    def rows(self, table: str) -> int:
        """Number of rows of a table."""
        first = next(column for column in self.kind.tables[table] if not column.optional)
        return (
            len(self._node(table, f"{first.name}/offsets")) - 1 if first.ragged else len(self._node(table, first.name))
        )

    def has(self, table: str, column: str) -> bool:
        """Whether an optional column is there."""
        return f"{table}/{column}" in self._file

    def read(self, table: str, column: str, rows: Rows = None) -> np.ndarray:
        """Rows of a plain column: all, a slice, or any indices in any order. Text comes as an array of `str`."""
        found = self.kind.column(table, column)
        if found.ragged:
            raise ValueError(f"{table}/{column} is ragged: use read_ragged")
        data = _select(self._node(table, column), rows)
        if found.is_text:
            return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in data], dtype=str)
        return data

    def read_ragged(self, table: str, column: str, rows: Rows = None) -> list[np.ndarray]:
        """Rows of a ragged column, each an array of its own length."""
        if not self.kind.column(table, column).ragged:
            raise ValueError(f"{table}/{column} is not ragged: use read")
        offsets, values = self._node(table, f"{column}/offsets"), self._node(table, f"{column}/values")
        if rows is None or isinstance(rows, slice):
            begin, end, step = (rows or slice(None)).indices(len(offsets) - 1)
            if step != 1:
                raise ValueError("ragged columns are read in steps of one")
            bounds = offsets[begin : max(begin, end) + 1]
            block = values[bounds[0] : bounds[-1]]
            return np.split(block, bounds[1:-1] - bounds[0]) if len(bounds) > 1 else []
        return [values[slice(*offsets[int(row) : int(row) + 2])] for row in rows]

    def table(self, table: str, rows: Rows = None) -> dict[str, np.ndarray]:
        """All plain columns of a table."""
        return {
            column.name: self.read(table, column.name, rows)
            for column in self.kind.tables[table]
            if not column.ragged and self.has(table, column.name)
        }

    def columns(self, table: str) -> list[Column]:
        """The columns of a table that this file holds."""
        return [column for column in self.kind.tables[table] if self.has(table, column.name)]

    def blocks(self, table: str, size: int) -> Iterator[slice]:
        """Slices that walk a table in blocks of `size` rows."""
        total = self.rows(table)
        for begin in range(0, total, size):
            yield slice(begin, min(begin + size, total))

    def verify(self) -> None:
        """Reads everything and compares with the digests written at the time; ArtifactError names what is damaged."""
        digests: dict[str, str] = {}
        for table in self.kind.tables:
            for column in self.columns(table):
                name = f"{table}/{column.name}"
                digests[name] = self._column_digest(table, column)
                stored = self._node(table, f"{column.name}/values" if column.ragged else column.name).attrs.get(
                    "sha256"
                )
                if digests[name] != stored:
                    raise ArtifactError(f"{self.path} is damaged", got=f"column {name}", hint="Make it again")
        if whole_digest(str(self._file.attrs["fingerprint"]), digests) != self.digest:
            raise ArtifactError(f"{self.path} is damaged", got="its header or the list of its columns")

    def _column_digest(self, table: str, column: Column) -> str:
        sha = hashlib.sha256()
        data = self._node(table, f"{column.name}/values" if column.ragged else column.name)
        step = max(1, _BLOCK_BYTES // max(1, int(np.prod(data.shape[1:])) * data.dtype.itemsize))
        for begin in range(0, len(data), step):
            try:
                update_digest(sha, data[begin : begin + step])
            except OSError as error:
                raise ArtifactError(f"{self.path} cannot be read", got=f"{table}/{column.name}: {error}") from error
        if column.ragged:
            update_digest(sha, self._node(table, f"{column.name}/offsets")[:])
        return sha.hexdigest()

    def _node(self, table: str, name: str) -> h5py.Dataset:
        try:
            return self._file[f"{table}/{name}"]
        except KeyError:
            raise ArtifactError(f"{self.path} lacks a column", got=f"{table}/{name}", hint="Make it again") from None


def is_current(path: Path, header: Header) -> bool:
    """Whether a whole artifact is there that was made with the same settings from the same inputs."""
    if not Path(path).exists():
        return False
    try:
        with Artifact(path) as artifact:
            return artifact.header.fingerprint() == header.fingerprint()
    except ArtifactError:
        return False


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise MissingFileError("artifact not found", got=path, hint="Run the stage that makes it, or name another file")
    if path.is_dir():
        raise ArtifactError("a folder where an artifact was expected", got=path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "empty" if path.stat().st_size == 0 else "cut short or not HDF5"
        raise ArtifactError(f"cannot open the artifact ({reason})", got=path, hint="Make it again") from error


def _read_header(file: h5py.File) -> Header:
    attributes = file.attrs
    seed = str(attributes["seed"])
    skeleton = None
    if "skeleton" in attributes:
        name = str(attributes["skeleton"])
        joints = tuple(str(joint) for joint in attributes["joint_names"])
        known = CATALOG.get(name)
        parents = tuple(int(parent) for parent in attributes["joint_parents"])
        skeleton = known if known is not None and known.joints == joints else Skeleton(name, joints, parents)
    return Header(
        kind=str(attributes["kind"]),
        stage=str(attributes["stage"]),
        settings=json.loads(attributes["settings"]),
        inputs=json.loads(attributes["inputs"]),
        skeleton=skeleton,
        seed=None if seed == "none" else int(seed),
        facts=json.loads(attributes["facts"]),
        version=str(attributes["posekit_version"]),
    )


def _select(dataset: h5py.Dataset, rows: Rows) -> np.ndarray:
    if rows is None:
        return dataset[:]
    if isinstance(rows, slice):
        return dataset[rows]
    wanted = np.asarray(rows, dtype=np.int64)
    if wanted.size == 0:
        return dataset[0:0]
    unique, inverse = np.unique(wanted, return_inverse=True)
    if unique[0] < 0 or unique[-1] >= len(dataset):
        raise IndexError(f"row {unique[0] if unique[0] < 0 else unique[-1]} of {len(dataset)}")
    if unique[-1] - unique[0] < 4 * len(unique):
        # One read of the whole span is far faster than HDF5's own point selection.
        return dataset[unique[0] : unique[-1] + 1][wanted - unique[0]]
    return dataset[unique][inverse]
