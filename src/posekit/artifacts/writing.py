"""Writes artifacts: streaming, and whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from posekit.artifacts.provenance import Header, canonical_json
from posekit.artifacts.schema import Column, Kind, kind_by_name
from posekit.atomic import writing

CAMERA_CONVENTION = "x right, y down, z forward; X_camera = R X_world + t; the centre of the top-left pixel is (0, 0)"
UNITS = "metres, radians, pixels"

_BLOCK_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 18


class _ColumnWriter:
    """Appends the rows of one column and keeps the digest of what was written."""

    def __init__(self, group: h5py.Group, column: Column) -> None:
        self._group = group
        self._column = column
        self._pending: list[np.ndarray] = []
        self._pending_bytes = 0
        self._dataset: h5py.Dataset | None = None
        self._offsets: h5py.Dataset | None = None
        self._sha = hashlib.sha256()
        self.rows = 0
        self._values = 0
        if column.ragged:
            offsets_type = np.dtype("int64")
            self._offsets = group.create_dataset(
                f"{column.name}/offsets", shape=(1,), maxshape=(None,), dtype=offsets_type, chunks=(4096,)
            )
            self._new_offsets: list[int] = []

    def append(self, values: Any) -> int:
        if self._column.ragged:
            for row in values:
                array = self._column.coerce(row)
                self._values += len(array)
                self._new_offsets.append(self._values)
                self._hold(array)
            count = len(values)
        else:
            array = self._column.coerce(values)
            self._hold(array)
            count = len(array)
        self.rows += count
        return count

    def _hold(self, array: np.ndarray) -> None:
        self._pending.append(array)
        self._pending_bytes += array.nbytes + 64
        if self._pending_bytes > _BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            block = np.concatenate(self._pending) if len(self._pending) > 1 else self._pending[0]
            self._pending, self._pending_bytes = [], 0
            self._write(block)
        if self._offsets is not None and self._new_offsets:
            begin = len(self._offsets)
            self._offsets.resize(begin + len(self._new_offsets), axis=0)
            self._offsets[begin:] = self._new_offsets
            self._new_offsets = []

    def _write(self, block: np.ndarray) -> None:
        if self._dataset is None:
            self._dataset = self._create(block.shape[1:])
        begin = len(self._dataset)
        self._dataset.resize(begin + len(block), axis=0)
        if len(block):
            self._dataset[begin:] = block
        update_digest(self._sha, block)

    def _create(self, row_shape: tuple[int, ...]) -> h5py.Dataset:
        column = self._column
        dtype: Any = h5py.string_dtype() if column.is_text else np.dtype(column.dtype)
        row_bytes = max(1, int(np.prod(row_shape)) * (16 if column.is_text else np.dtype(dtype).itemsize))
        name = f"{column.name}/values" if column.ragged else column.name
        dataset = self._group.create_dataset(
            name,
            shape=(0, *row_shape),
            maxshape=(None, *row_shape),
            dtype=dtype,
            chunks=(max(1, _CHUNK_BYTES // row_bytes), *row_shape),
        )
        dataset.attrs["about"] = column.about
        return dataset

    def finish(self) -> str:
        self.flush()
        if self._dataset is None:
            # A column that never got a row still has its place, so that readers need no special case. Sizes that no row
            # ever fixed count as one: HDF5 has no chunks of size zero.
            row_shape = tuple(size if isinstance(size, int) else 1 for size in self._column.shape)
            self._write(np.empty((0, *row_shape), dtype=object if self._column.is_text else self._column.dtype))
        if self._offsets is not None:
            update_digest(self._sha, self._offsets[:])
        digest = self._sha.hexdigest()
        assert self._dataset is not None
        self._dataset.attrs["sha256"] = digest
        return digest


def update_digest(sha: Any, block: np.ndarray) -> None:
    """Feeds a block of rows to a running SHA-256; the result does not depend on how rows were cut into blocks."""
    if block.dtype == object:
        for text in block:
            raw = text if isinstance(text, bytes) else str(text).encode()
            sha.update(len(raw).to_bytes(8, "little") + raw)
    else:
        sha.update(np.ascontiguousarray(block).tobytes())


class ArtifactWriter:
    """Writes one artifact: rows are appended to tables, and the file takes its name only when it is whole.

    Used as a context manager. An exception inside leaves no file behind; a killed process leaves a hidden temporary file,
    which the next writer of the same artifact removes.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = Path(path)
        self.header = header
        self.kind = kind_by_name(header.kind)
        self._writers: dict[str, dict[str, _ColumnWriter]] = {}

    def __enter__(self) -> ArtifactWriter:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.path)
            self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
            self._file = h5py.File(self._temporary, "w", libver="v110")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            with writing(self.path):
                self._finish()
                self._file.close()
                with self._temporary.open("rb+") as stream:
                    os.fsync(stream.fileno())
                self._temporary.replace(self.path)
        except BaseException:
            self._discard()
            raise

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Appends rows to a table; every column of the table must come, except optional ones left out from the start."""
        with writing(self.path):
            writers = self._writers.get(table) or self._start(table, columns)
            if set(columns) != set(writers):
                raise ValueError(f"table {table} has columns {sorted(writers)}, got {sorted(columns)}")
            counts = {name: writers[name].append(values) for name, values in columns.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"columns of table {table} have different lengths: {counts}")

    def rows(self, table: str) -> int:
        """How many rows a table has so far."""
        writers = self._writers.get(table)
        return next(iter(writers.values())).rows if writers else 0

    def _start(self, table: str, columns: Mapping[str, Any]) -> dict[str, _ColumnWriter]:
        known = {column.name: column for column in self.kind.tables.get(table, ())}
        unknown = set(columns) - set(known)
        missing = {name for name, column in known.items() if not column.optional} - set(columns)
        if unknown or missing or not known:
            raise ValueError(f"{self.kind.name}/{table}: unknown columns {sorted(unknown)}, missing {sorted(missing)}")
        group = self._file.create_group(table)
        self._writers[table] = {name: _ColumnWriter(group, known[name]) for name in known if name in columns}
        return self._writers[table]

    def _finish(self) -> None:
        for table, columns in self.kind.tables.items():
            if table not in self._writers:
                self._start(table, {column.name: () for column in columns if not column.optional})
        digests = {
            f"{table}/{name}": writer.finish()
            for table, writers in sorted(self._writers.items())
            for name, writer in sorted(writers.items())
        }
        _write_header(self._file, self.header, self.kind, digests)

    def _discard(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def _write_header(file: h5py.File, header: Header, kind: Kind, digests: Mapping[str, str]) -> None:
    attributes = file.attrs
    attributes["kind"] = kind.name
    attributes["schema_version"] = kind.version
    attributes["posekit_version"] = header.version
    attributes["stage"] = header.stage
    attributes["units"] = UNITS
    attributes["camera_convention"] = CAMERA_CONVENTION
    attributes["settings"] = canonical_json(header.settings)
    attributes["inputs"] = canonical_json(header.inputs)
    attributes["facts"] = canonical_json(header.facts)
    attributes["seed"] = "none" if header.seed is None else str(header.seed)
    if header.skeleton is not None:
        attributes["skeleton"] = header.skeleton.name
        attributes["joint_names"] = np.array(header.skeleton.joints, dtype=h5py.string_dtype())
        attributes["joint_parents"] = np.array(header.skeleton.parents, dtype="int32")
    attributes["fingerprint"] = header.fingerprint()
    attributes["digest"] = whole_digest(header.fingerprint(), digests)
    # The last thing to be written: without it the file counts as absent.
    attributes["complete"] = True


def whole_digest(fingerprint: str, digests: Mapping[str, str]) -> str:
    """The content digest of an artifact from those of its columns."""
    return hashlib.sha256(canonical_json({"fingerprint": fingerprint, "columns": dict(digests)}).encode()).hexdigest()


def _remove_leftovers(path: Path) -> None:
    """Removes the temporary files of writers that were killed."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        owner = leftover.name.removesuffix(".tmp").rpartition(".")[2]
        if not (owner.isdigit() and _is_running(int(owner))):
            leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
