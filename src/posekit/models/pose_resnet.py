"""Pose ResNet (Sensors 2023): a ResNet with attention and atrous convolutions that gives volumetric heat maps of joints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from posekit.errors import ConfigError, FormatError
from posekit.models.atrous import AtrousPooling
from posekit.models.attention import Cbam
from posekit.models.backbone import Backbone, BackboneName
from posekit.models.soft_argmax import confidences, expected_cells, marginals

_STEM_CHANNELS = 64
_STRIDE = 32
_HEAD_DEVIATION = 1e-3


@dataclass(frozen=True)
class PoseResNetForm:
    """The layers of a Pose ResNet; the defaults are the paper's where it gives them (see `TrainPoseNetwork`).

    Raises ConfigError for sizes that no layer can have, and for UniPose's convolutions without the waterfall.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    backbone: BackboneName = "resnet50"
    joints: int = 16
    depth_bins: int = 64
    cbam: bool = True
    cbam_reduction: int = 16
    cbam_bn: bool = True
    pool: Literal["wasp", "aspp", "none"] = "wasp"
    rates: tuple[int, int, int] = (2, 3, 4)
    unipose_extra: bool = False
    output_stride: Literal[32, 16] = 32
    deconv_width: int = 256
    half_cell: bool = True

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("joints", "depth_bins", "cbam_reduction", "deconv_width")}
        wrong = {name: size for name, size in sizes.items() if size < 1}
        if min(self.rates) < 1:
            wrong["rates"] = self.rates
        if wrong:
            raise ConfigError("a Pose ResNet cannot have such layers", got=wrong, accepted="numbers from 1")
        if self.unipose_extra and self.pool != "wasp":
            raise ConfigError(
                "UniPose's extra convolutions belong to its waterfall", got=f"pool {self.pool}", accepted="pool wasp"
            )

    def plain(self) -> dict[str, Any]:
        """For the description of a run."""
        return asdict(self) | {"rates": list(self.rates)}

    @staticmethod
    def of(plain: object) -> PoseResNetForm:
        """From the description of a run; FormatError where something is missing, unknown or of another kind."""
        names = [field.name for field in fields(PoseResNetForm)]
        given: dict[object, object] = dict(plain) if isinstance(plain, Mapping) else {}
        if set(given) != set(names):
            got = sorted(map(str, given)) if given else type(plain).__name__
            raise FormatError("this does not describe a Pose ResNet", got=got, accepted=names)
        try:
            # As JSON, where a list is a tuple and nothing else is taken for something that it is not.
            return TypeAdapter(PoseResNetForm).validate_json(json.dumps(given))
        except ValidationError as error:
            first = error.errors()[0]
            raise FormatError(
                "this does not describe a Pose ResNet",
                got=f"{'.'.join(map(str, first['loc']))} {first['input']!r}",
                accepted=first["msg"],
            ) from error
        except (TypeError, ValueError, ConfigError) as error:
            raise FormatError("this does not describe a Pose ResNet", got=error) from error


class PoseEstimate(NamedTuple):
    """x, y and z of each joint, from -1/2 to 1/2 over the crop, and the probabilities that they are the means of."""

    joints: Float[Tensor, "B J 3"]
    plane: Float[Tensor, "B J h w"]
    depth: Float[Tensor, "B J D"]

    def confidences(self) -> Float[Tensor, "B J"]:
        """How sure the network is of each joint's place in the image (0 to 1)."""
        return confidences(self.plane)


class PoseResNet(nn.Module):
    """Trunk, CBAM before its first and after its last stage, WASP, deconvolutions, and one map per joint and depth.

    The heat map has a fourth of the image's sides, which are multiples of 32. All weights but the trunk's are drawn from
    `seed` alone. With an output stride of 16 the given trunk's last stage is dilated. Raises ConfigError for a trunk that
    is not the form's.
    """

    def __init__(self, backbone: Backbone, form: PoseResNetForm, seed: int = 0) -> None:
        super().__init__()
        if backbone.name != form.backbone:
            raise ConfigError("this trunk is not the form's", got=backbone.name, accepted=form.backbone)
        self.form = form
        if form.output_stride == 16:
            backbone.dilate_last_stage()
        self.backbone = backbone
        channels, width = backbone.feature_count, form.deconv_width
        with torch.device("meta"):
            # Nothing is drawn here, so the global random numbers stay as they are.
            self.early = Cbam(_STEM_CHANNELS, form.cbam_reduction, form.cbam_bn) if form.cbam else nn.Identity()
            self.late = Cbam(channels, form.cbam_reduction, form.cbam_bn) if form.cbam else nn.Identity()
            pooled = width if form.pool != "none" else channels
            self.pool = (
                nn.Identity()
                if form.pool == "none"
                else AtrousPooling(channels, width, form.rates, form.pool, form.unipose_extra)
            )
            self.deconvolutions = nn.Sequential()
            for number in range(3 if form.output_stride == 32 else 2):
                into = nn.ConvTranspose2d(pooled if number == 0 else width, width, 4, stride=2, padding=1, bias=False)
                self.deconvolutions.extend([into, nn.BatchNorm2d(width), nn.ReLU()])
            self.head = nn.Conv2d(width, form.joints * form.depth_bins, 1)
        for part in (self.early, self.late, self.pool, self.deconvolutions, self.head):
            part.to_empty(device="cpu")
        self._draw(torch.Generator().manual_seed(seed))
        self.to(memory_format=torch.channels_last)

    def _draw(self, generator: torch.Generator) -> None:
        for part in (self.early, self.late, self.pool):
            if isinstance(part, Cbam | AtrousPooling):
                part.draw(generator)
        # As Xiao et al. 2018 start them.
        for part in (*self.deconvolutions, self.head):
            if isinstance(part, nn.ConvTranspose2d | nn.Conv2d):
                nn.init.normal_(part.weight, std=_HEAD_DEVIATION, generator=generator)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()

    def logits(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B J D h w"]:
        """The heat maps before softmax, by joint, depth, row and column; ConfigError for sides that do not suit."""
        if images.shape[2] % _STRIDE or images.shape[3] % _STRIDE:
            raise ConfigError(
                "the sides of the images must suit the network",
                got=f"{images.shape[3]} x {images.shape[2]}",
                accepted=f"multiples of {_STRIDE}",
            )
        features = self.early(self.backbone.stem(images))
        features = self.late(self.backbone.stages(features))
        maps = self.head(self.deconvolutions(self.pool(features)))
        return maps.reshape(len(maps), self.form.joints, self.form.depth_bins, *maps.shape[2:])

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> PoseEstimate:
        """Where the joints are, and how likely each is anywhere."""
        plane, depth = marginals(self.logits(images))
        return PoseEstimate(expected_cells(plane, depth, self.form.half_cell), plane, depth)
