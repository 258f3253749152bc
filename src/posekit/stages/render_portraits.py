"""Pictures of single people, one file for each, and a contact sheet of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from posekit.config.results import Render
from posekit.errors import InputError
from posekit.evaluation.keys import Keys
from posekit.progress import track
from posekit.records import cameras_from_columns, clips_from_columns
from posekit.stages.render_inputs import RenderInputs
from posekit.stages.render_pictures import Gallery, contact_sheet, file_stem

Image = UInt8[np.ndarray, "_ _ 3"]
Draw = Callable[[Int[np.ndarray, " N"]], Iterator[tuple[int, Image]]]
"""For each row of the samples that has a picture its place among the rows, and what is drawn of it."""


@dataclass
class Portraits:
    """Draws everybody in a sequence, or in all of a data set of single pictures."""

    settings: Render
    output: Path
    inputs: RenderInputs
    draw: Draw
    files: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Draws one picture for every person in every view of every frame, and a contact sheet of them.

        Raises InputError for a sequence or camera that is not there, DataError where nobody has a picture.
        """
        dataset = self.inputs.dataset
        clips = clips_from_columns(dataset.table("sequences"))
        stills = bool(dataset.header.facts.get("stills")) and self.settings.sequence is None
        sequence = None if stills else self.inputs.sequence(self.settings.sequence, clips)
        rows = self._rows(sequence)
        title = "pictures" if sequence is None else file_stem(clips[sequence].name, f"sequence_{sequence}")
        gallery = Gallery(self.output / f"{title}_{self.settings.kind}", len(rows))
        keys = Keys.read(dataset, "samples").at(rows)
        cameras = cameras_from_columns(dataset.table("cameras"))
        for place, picture in track(self.draw(rows), "draw people", total=len(rows), unit="person"):
            number, camera = int(keys.sequence[place]), cameras[int(keys.camera[place])].name
            where = f"{number:06d}_{file_stem(clips[number].name, 'picture')}" if stills else camera
            gallery.take(f"{where}_{int(keys.frame[place]):06d}_P{int(keys.person[place])}", picture)
        self.files += gallery.files
        self.counts["people drawn"] = len(gallery.files)
        if len(gallery.files) < len(rows):
            self.counts["no picture"] = len(rows) - len(gallery.files)
        self.files.append(contact_sheet(self.output / f"{title}_{self.settings.kind}_sheet.png", gallery.rows))

    def _rows(self, sequence: int | None) -> Int[np.ndarray, " N"]:
        """Samples in the order of sequences, cameras and frames."""
        dataset, settings = self.inputs.dataset, self.settings
        keys = Keys.read(dataset, "samples")
        wanted = np.ones(len(keys), dtype=bool) if sequence is None else keys.sequence == sequence
        names = np.array([camera.name for camera in cameras_from_columns(dataset.table("cameras"))], dtype=str)
        there = sorted(set(names[keys.camera[wanted]].tolist()))
        for name in settings.camera:
            if name not in there:
                raise InputError("no camera of this name in the sequence", got=name, accepted=there)
        if settings.camera:
            wanted &= np.isin(names[keys.camera], settings.camera)
        rows = np.flatnonzero(wanted)
        rows = rows[np.lexsort([part[rows] for part in (keys.person, keys.frame, keys.camera, keys.sequence)])]
        if settings.frames:
            frames = np.unique(keys.frame[rows] if sequence is not None else keys.sequence[rows])[: settings.frames]
            rows = rows[np.isin(keys.frame[rows] if sequence is not None else keys.sequence[rows], frames)]
        return rows
