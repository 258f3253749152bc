"""The network that paints the faces of a mesh from a picture (Cha et al. 2021)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posekit.models.backbone import Backbone
from posekit.models.drawing import materialize


class TextureNetwork(nn.Module):
    """One colour in [0, 1] for each face.

    With a trunk of its own the colours come from the picture; without (`backbone` None), from features of the mesh
    regressor's trunk, `feature_count` of them, to which no gradient flows back. The paper names features and gives the
    picture in its equations; a trunk of its own cannot drift when the regressor's is trained. The paper's Z x Z colours of
    each face are copies of one. Weights of the head are drawn from `seed` alone; those of the trunk stay.
    """

    def __init__(
        self, face_count: int, backbone: Backbone | None = None, feature_count: int = 2048, seed: int = 0
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.head = nn.Linear(feature_count if backbone is None else backbone.feature_count, 3 * face_count)
        materialize(self.head, seed)
        self.backbone = backbone

    def forward(self, images: Float[Tensor, "B 3 H W"], features: Float[Tensor, "B C"]) -> Float[Tensor, "B F 3"]:
        """Colours of the faces; `images` are normalised, `features` those of the regressor's trunk for them."""
        own = features.detach() if self.backbone is None else self.backbone(images)
        colours: Tensor = torch.sigmoid(self.head(own))
        return colours.view(len(colours), -1, 3)
