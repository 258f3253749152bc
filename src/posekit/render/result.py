"""What every renderer is asked for and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor

from posekit.render.soft import SoftSettings


class RenderResult(NamedTuple):
    """Images of B meshes. Background: alpha 0, depth infinite, face -1."""

    rgb: Float[Tensor, "B H W 3"]
    alpha: Float[Tensor, "B H W"]
    depth: Float[Tensor, "B H W"]
    face: Int64[Tensor, "B H W"]


@dataclass(frozen=True)
class RenderSettings:
    """What a `Renderer` was asked for."""

    mode: str
    antialias: str
    perspective: bool
    soft: SoftSettings
