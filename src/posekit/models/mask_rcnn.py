"""Mask R-CNN (He et al. 2017) by torchvision, for people alone: boxes, scores and masks of everybody in a picture."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from posekit.errors import DependencyError, FormatError
from posekit.models.backbone import read_weights

MaskNetwork = Literal["v1", "v2"]

_WEIGHTS = {
    "v1": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
_CLASSES = 91
_PERSON = 1
_COUNTER = "num_batches_tracked"
_HALF_PIXEL = 0.5
_INSIDE = 0.5
"""Pixels that are likelier than this to be of the person belong to the mask."""

_LONGER = 1333 / 800
"""The longer side of what the network sees is at most this times the shorter one's size (torchvision's defaults)."""


@dataclass(frozen=True, eq=False)
class DetectedPeople:
    """The people of one picture, best first; boxes are x0, y0, x1, y1 in the package's pixels."""

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, "N"]
    masks: Bool[np.ndarray, "N H W"]


class MaskDetector:
    """A Mask R-CNN that answers with people whose score is at least `min_score`.

    Pictures are seen with their shorter side at `image_side` px. Weights are those of a file with torchvision's names and
    shapes, else torchvision's own for COCO. Raises DependencyError where they cannot be downloaded, MissingFileError or
    FormatError for a file that is not there or holds something else.
    """

    def __init__(
        self,
        network: MaskNetwork,
        weights: Path | None = None,
        *,
        min_score: float = 0.5,
        image_side: int = 800,
        device: torch.device | str = "cpu",
    ) -> None:
        model = build_mask_rcnn(network, image_side, min_score)
        if weights is not None:
            _load(model, read_weights(weights), weights, network)
        else:
            _load(model, _released_weights(network), "torchvision's weights", network)
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()

    @torch.no_grad()
    def __call__(self, images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[DetectedPeople]:
        """The people of each RGB picture; pictures of different size may go together, at the cost of a frame of black."""
        tensors = [
            torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float() / 255.0
            for image in images
        ]
        sizes = [image.shape[:2] for image in images]
        # What `self.model(tensors)` does, except that only people's masks are drawn at full size.
        seen, _ = self.model.transform(tensors)
        features = self.model.backbone(seen.tensors)
        features = OrderedDict([("0", features)]) if isinstance(features, Tensor) else features
        proposals, _ = self.model.rpn(seen, features)
        found, _ = self.model.roi_heads(features, proposals, seen.image_sizes)
        people = [{name: value[one["labels"] == _PERSON] for name, value in one.items()} for one in found]
        placed = self.model.transform.postprocess(people, seen.image_sizes, [(h, w) for h, w in sizes])
        return [_people(one, height, width) for one, (height, width) in zip(placed, sizes, strict=True)]


def _people(found: Mapping[str, Tensor], height: int, width: int) -> DetectedPeople:
    masks = found["masks"].reshape(-1, height, width) > _INSIDE
    # torchvision counts from the corner of the top-left pixel.
    boxes = found["boxes"].double().cpu().numpy() - _HALF_PIXEL
    return DetectedPeople(boxes, found["scores"].double().cpu().numpy(), masks.cpu().numpy())


def build_mask_rcnn(network: MaskNetwork, image_side: int = 800, min_score: float = 0.5) -> MaskRCNN:
    """torchvision's network without trained weights, as its released weights need it; the global random numbers stay."""
    # A score below the threshold suppresses nobody and is last in the list, so dropping it early changes no other.
    options = {"min_size": image_side, "max_size": round(_LONGER * image_side), "box_score_thresh": min_score}
    with torch.random.fork_rng(devices=[]):
        if network == "v2":
            return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=_CLASSES, **options)
        trunk = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
        model = MaskRCNN(trunk, num_classes=_CLASSES, **options)
    for part in model.modules():
        if isinstance(part, FrozenBatchNorm2d):
            part.eps = 0.0  # the released weights were trained so
    return model


def released_name(network: MaskNetwork) -> str:
    """The file name of torchvision's weights, which holds part of their digest."""
    return Path(_WEIGHTS[network].url).name


def _released_weights(network: MaskNetwork) -> Mapping[str, Tensor]:
    weights = _WEIGHTS[network]
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / released_name(network)
        raise DependencyError(
            f"torchvision's weights of Mask R-CNN ({network}) cannot be had",
            got=error,
            hint=f"Download {weights.url} on a machine that is online and put it at {place}, or name it with "
            "--weights-file; masks from files need none: --source png, coco, h36m or truth",
        ) from error


def _load(model: nn.Module, given: Mapping[str, Tensor], source: object, network: MaskNetwork) -> None:
    accepted = f"the names and shapes of torchvision's {released_name(network)}"
    try:
        # Names are compared by torch itself: parts of the network know what they were called in older releases.
        found = model.load_state_dict(dict(given), strict=False)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise FormatError(
            f"the weights in {source} are not those of Mask R-CNN {network}",
            got=lines[1 if len(lines) > 1 else 0].strip(),
            accepted=accepted,
        ) from error
    # Networks of before 2018 did not count batches, and frozen ones do not.
    missing = [name for name in found.missing_keys if not name.endswith(_COUNTER)]
    unknown = [name for name in found.unexpected_keys if not name.endswith(_COUNTER)]
    if missing or unknown:
        raise FormatError(
            f"the weights in {source} are not those of Mask R-CNN {network}",
            got=f"{len(missing)} missing, {len(unknown)} unknown, such as " + ", ".join([*missing, *unknown][:3]),
            accepted=accepted,
        )
