"""Pictures of the pretext tasks and of what the networks make of them, as in Figure 1 of Cha et al. 2021."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posekit.models.backbone import plain_colours
from posekit.render.video import write_image
from posekit.training.image_ssl import ImageSslMethod, Pretext, draw_tasks, features_of
from posekit.training.loop import Monitor
from posekit.training.mesh_samples import MeshBatch, MeshSource
from posekit.training.pretext_inputs import cut_tiles, joined_tiles, over_background, shuffled

COLUMNS = ("image", "jigsaw", "turned", "hole", "in-painted", "mask", "rendered", "over a background")
_SEED = 12


class PicturedMonitor:
    """Measures, and after every epoch writes ``epoch-NN.png``: a row for each person, a column for each of `COLUMNS`.

    The same people, tasks and backgrounds each time. Nothing is written where `people` is 0.
    """

    def __init__(
        self, method: ImageSslMethod, source: MeshSource, folder: Path, people: int, measure: Monitor | None
    ) -> None:
        self._method, self._source, self._folder, self._measure = method, source, folder, measure
        self._people = min(people, len(source))

    def __call__(self, epochs: int) -> dict[str, float]:
        """What is measured; raises OutputError where a picture cannot be written."""
        if self._people:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_image(self._folder / f"epoch-{epochs:02d}.png", self.sheet())
        return {} if self._measure is None else self._measure(epochs)

    @torch.no_grad()
    def sheet(self) -> UInt8[np.ndarray, "H W 3"]:
        """The pictures of the networks as they are."""
        method = self._method
        like = next(method.backbone.parameters())
        rows = np.linspace(0, len(self._source) - 1, self._people).round().astype(np.int64)
        batch = self._source.batch(rows, 0).to(like.device)
        generator = torch.Generator().manual_seed(_SEED)
        settings = method.settings.pretext
        task = Pretext.set(batch, settings, draw_tasks(len(batch), settings, generator), like.dtype)
        behind = method.backgrounds.crops(len(batch), generator)
        return _sheet(self._columns(task, batch, behind.to(task.plain)))

    def _columns(
        self, task: Pretext, batch: MeshBatch, behind: Float[Tensor, "B 3 S S"]
    ) -> list[Float[Tensor, "B 3 S S"]]:
        method = self._method
        whole, _, _, holed = features_of(method.backbone, task)
        estimate = method.estimator(whole)
        drawn = method.studio.draw(estimate, method.heads.texture(task.whole, whole))
        masks = batch.masks.to(task.plain)[:, None].expand_as(task.plain)
        tiles = shuffled(cut_tiles(task.plain, task.settings.grid), task.orders)
        return [
            task.plain,
            joined_tiles(tiles),
            plain_colours(task.rotated),
            plain_colours(task.holed),
            plain_colours(task.filled(method.heads.inpainter(holed))),
            torch.where(batch.masked[:, None, None, None], masks, 0.5),
            drawn.rgb,
            over_background(drawn.rgb, drawn.alpha, behind, method.settings.composite),
        ]


def _sheet(columns: list[Float[Tensor, "B 3 S S"]]) -> UInt8[np.ndarray, "H W 3"]:
    people = torch.stack([column.float().cpu().clamp(0, 1) for column in columns], dim=1)
    count, across, _, side, _ = people.shape
    grid = people.permute(0, 3, 1, 4, 2).reshape(count * side, across * side, 3)
    return np.asarray((255 * grid).round().byte().numpy())
