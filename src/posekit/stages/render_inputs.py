"""What `posekit render` draws: a data set, and what was made from it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET, FITS, JOINTS3D, POSES
from posekit.config.base import beside
from posekit.config.results import Render
from posekit.errors import ConfigError, DataError, InputError
from posekit.records import Clip
from posekit.stages.report import input_digests, open_one_of, open_optional, optional_input, require_same_source


@dataclass(frozen=True)
class RenderInputs:
    """The opened artifacts; what is predicted is either fits or poses."""

    dataset: Artifact
    labels: Artifact | None
    fits: Artifact | None
    poses: Artifact | None

    def digests(self) -> dict[str, str]:
        """The content digests of those that are there."""
        return input_digests(dataset=self.dataset, joints3d=self.labels, fits=self.fits, poses=self.poses)

    def sequence(self, wanted: str | None, clips: Sequence[Clip]) -> int:
        """A sequence by its name, or the first that has something to draw.

        Raises InputError for a name that is not there, DataError for a data set without people.
        """
        names = [clip.name for clip in clips]
        if wanted is not None:
            if wanted not in names:
                raise InputError("no sequence of this name", got=wanted, accepted=names)
            return names.index(wanted)
        for artifact, table in ((self.fits, "fits"), (self.poses, "samples"), (self.labels, "poses")):
            if artifact is not None and bool((usable := artifact.read(table, "ok")).any()):
                return int(artifact.read(table, "sequence")[usable].min())
        if not self.dataset.rows("samples"):
            raise DataError("the data set holds nobody to draw", got=self.dataset.path)
        return int(self.dataset.read("samples", "sequence").min())


def open_inputs(settings: Render, stack: ExitStack) -> RenderInputs:
    """Opens the artifacts; ConfigError for settings that exclude each other, InputError for files of another data set."""
    by_model = settings.kind in ("heatmaps", "columns")
    if (settings.model is not None) != by_model:
        raise ConfigError(
            "heat maps and columns, and they alone, are drawn by a model",
            got=f"--kind {settings.kind} {'without' if settings.model is None else 'and'} --model",
            accepted="--kind heatmaps --model RUN, --kind columns --model RUN",
        )
    if settings.heads is not None and settings.kind != "columns":
        raise ConfigError("heads colour the bodies of --kind columns alone", got=f"--kind {settings.kind} and --heads")
    dataset = stack.enter_context(Artifact(settings.dataset, DATASET))
    if by_model:
        return RenderInputs(dataset, None, None, None)
    labels_path = optional_input(settings.joints3d, beside(settings.dataset, "labels", ".joints3d.h5"))
    made_path = optional_input(
        settings.fits, *(beside(settings.dataset, folder, ".h5") for folder in ("fits", "predictions"))
    )
    labels = open_optional(labels_path, JOINTS3D)
    made = None if made_path is None else open_one_of(made_path, FITS, POSES)
    for made_from in (labels, made):
        if made_from is not None:
            stack.enter_context(made_from)
            require_same_source(made_from, "dataset", dataset)
    poses = made if made is not None and made.kind is POSES else None
    return RenderInputs(dataset, labels, None if poses is not None else made, poses)
