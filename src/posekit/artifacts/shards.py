"""Long stages in shards: a killed run loses at most the shard in work.

The shards lie in `<artifact>.parts/` until all are there; then they are joined into the artifact and removed. A shard is an
artifact itself, so it counts only when it is whole and carries the fingerprint of this very work.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.atomic import writing

_ROWS_AT_ONCE = 2048


class ShardedArtifact:
    """One artifact written as `count` shards, in any order and in several runs.

    ::

        shards = ShardedArtifact(path, header, count)
        for index in shards.pending():
            with shards.writer(index) as writer:
                writer.append("samples", ...)
        shards.join({"cameras": ..., "sequences": ...})
    """

    def __init__(self, path: Path, header: Header, count: int) -> None:
        self.path = Path(path)
        self.header = header
        self.count = count
        self.folder = self.path.with_name(self.path.name + ".parts")

    def pending(self) -> list[int]:
        """The shards that are still to be made."""
        return [index for index in range(self.count) if not is_current(self.part(index), self.header)]

    def part(self, index: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{index:06d}.h5"

    def writer(self, index: int) -> ArtifactWriter:
        """A writer for one shard; the shard exists once the writer's block has been left without error."""
        return ArtifactWriter(self.part(index), self.header)

    def join(self, whole_tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Joins the shards, in order, with tables that belong to the file as a whole; then removes them."""
        with ArtifactWriter(self.path, self.header) as writer:
            for table, columns in whole_tables.items():
                writer.append(table, columns)
            for index in range(self.count):
                with Artifact(self.part(index)) as shard:
                    for table in shard.kind.tables:
                        if table not in whole_tables and shard.rows(table):
                            _copy_table(shard, table, writer)
        with writing(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)


def _copy_table(shard: Artifact, table: str, writer: ArtifactWriter) -> None:
    columns = shard.columns(table)
    for rows in shard.blocks(table, _ROWS_AT_ONCE):
        writer.append(
            table,
            {
                column.name: shard.read_ragged(table, column.name, rows)
                if column.ragged
                else shard.read(table, column.name, rows)
                for column in columns
            },
        )
