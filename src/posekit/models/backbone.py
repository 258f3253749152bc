"""ResNet trunks (He et al. 2016) and where their weights come from."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet

from posekit.errors import ConfigError, DependencyError, FormatError, MissingFileError

BackboneName = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
PretrainedWeights = Literal["imagenet", "none"]

_LAYOUTS: dict[str, tuple[type[resnet.BasicBlock] | type[resnet.Bottleneck], list[int]]] = {
    "resnet10": (resnet.BasicBlock, [1, 1, 1, 1]),
    "resnet18": (resnet.BasicBlock, [2, 2, 2, 2]),
    "resnet34": (resnet.BasicBlock, [3, 4, 6, 3]),
    "resnet50": (resnet.Bottleneck, [3, 4, 6, 3]),
    "resnet101": (resnet.Bottleneck, [3, 4, 23, 3]),
}
"""resnet10 has one block in each stage: the smallest of the family, for CPUs."""

_IMAGENET = {
    "resnet18": resnet.ResNet18_Weights.IMAGENET1K_V1,
    "resnet34": resnet.ResNet34_Weights.IMAGENET1K_V1,
    "resnet50": resnet.ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": resnet.ResNet101_Weights.IMAGENET1K_V1,
}

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

_CLASSIFIER = "fc."
_PARALLEL = "module."
"""The prefix that data-parallel training leaves on names."""
_WRAPPERS = ("state_dict", "model")
"""Where checkpoints of whole trainings keep the weights."""


def feature_count_of(name: BackboneName) -> int:
    """How many features a trunk gives."""
    return 512 * _LAYOUTS[name][0].expansion


class Backbone(nn.Module):
    """A ResNet without its classifier; its weights carry torchvision's names.

    Weights are drawn as He et al. (2015) do, from `seed` alone, and kept in the layout that CPUs and GPUs convolve
    fastest (channels last).
    """

    def __init__(self, name: BackboneName, seed: int = 0) -> None:
        super().__init__()
        self.name = name
        block, depths = _LAYOUTS[name]
        with torch.device("meta"):
            # Nothing is drawn here, so the global random numbers stay as they are.
            whole = resnet.ResNet(block, depths)
        self.feature_count: int = whole.fc.in_features
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4
        self.to_empty(device="cpu")
        self._draw(torch.Generator().manual_seed(seed))
        self.to(memory_format=torch.channels_last)

    def _draw(self, generator: torch.Generator) -> None:
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()

    def feature_map(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The last stage's map; its sides are 1/32 of the image's, rounded up."""
        return self.stages(self.stem(images))

    def stem(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 64 h w"]:
        """The first convolution's map, pooled; its sides are 1/4 of the image's."""
        return self.maxpool(self.relu(self.bn1(self.conv1(images))))

    def stages(self, features: Float[Tensor, "B 64 h w"]) -> Float[Tensor, "B C h8 w8"]:
        """All four stages on the stem's map; the sides shrink to an eighth, or to a quarter where the last is dilated."""
        return self.layer4(self.layer3(self.layer2(self.layer1(features))))

    def dilate_last_stage(self) -> None:
        """Lets the last stage keep its map's size, with a rate of 2 instead of a stride; weights stay as they are.

        Every second cell of the new map is a cell of the old one. A stage that is dilated already stays as it is.
        """
        convolutions = [part for part in self.layer4.modules() if isinstance(part, nn.Conv2d)]
        if all(part.stride == (1, 1) for part in convolutions):
            return
        for part in convolutions:
            if part.stride != (1, 1):
                part.stride = (1, 1)
            elif part.kernel_size == (3, 3):
                part.dilation, part.padding = (2, 2), (2, 2)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """The mean of the last map."""
        return self.feature_map(images).mean(dim=(2, 3))

    def load(self, weights: Mapping[str, Tensor], source: object) -> None:
        """Takes over weights with torchvision's names; a classifier among them is left out.

        Raises FormatError where one is missing or has another shape; `source` names where they are from.
        """
        given = {
            name.removeprefix(_PARALLEL): value
            for name, value in weights.items()
            if not name.removeprefix(_PARALLEL).startswith(_CLASSIFIER)
        }
        wanted = self.state_dict()
        # Weights from before 2018 lack the counters of batches, which nothing here uses.
        missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
        unknown = [name for name in given if name not in wanted]
        shapes = [name for name, value in given.items() if name in wanted and value.shape != wanted[name].shape]
        if missing or unknown or shapes:
            raise FormatError(
                f"the weights in {source} are not those of a {self.name}",
                got=f"{len(missing)} missing, {len(unknown)} unknown, {len(shapes)} of another shape, such as "
                + ", ".join([*missing, *unknown, *shapes][:3]),
                accepted=f"the names and shapes of torchvision's {self.name}",
            )
        self.load_state_dict(given, strict=False)


def build_backbone(
    name: BackboneName, pretrained: PretrainedWeights = "none", file: Path | None = None, seed: int = 0
) -> Backbone:
    """A trunk with weights from a file, from torchvision's training on ImageNet, or drawn from the seed.

    Raises ConfigError for a trunk that has no published weights, DependencyError where they cannot be downloaded, and
    MissingFileError or FormatError for a file that is not there or holds something else.
    """
    backbone = Backbone(name, seed)
    if file is not None:
        backbone.load(read_weights(file), file)
    elif pretrained == "imagenet":
        backbone.load(_imagenet_weights(name), "torchvision's weights")
    return backbone


def _imagenet_weights(name: BackboneName) -> Mapping[str, Tensor]:
    if name not in _IMAGENET:
        raise ConfigError(
            f"there are no ImageNet weights for {name}",
            accepted=sorted(_IMAGENET),
            hint="Use --weights none, or give weights of your own with --weights-file",
        )
    weights = _IMAGENET[name]
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise DependencyError(
            f"torchvision's ImageNet weights of {name} cannot be had",
            got=error,
            hint=f"Download {weights.url} on a machine that is online and put it at {place}, or name it with "
            "--weights-file; --weights none starts from random numbers",
        ) from error


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a `.safetensors` file or of a `.pth` file of plain tensors, by name.

    Nothing that a file asks for is run: the unpickler builds tensors and plain containers only. Raises MissingFileError,
    and FormatError for anything else.
    """
    if not path.is_file():
        raise MissingFileError("weights not found", got=path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError) as error:
        raise FormatError(
            f"{path} holds no weights that can be read safely",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            accepted="a .safetensors file, or a .pth file of tensors alone",
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FormatError(
            f"{path} holds no weights", got=type(content).__name__, accepted="a mapping of names to tensors"
        )
    return {str(name): value for name, value in content.items()}


def normalised(images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """RGB images as the trunks take them: ImageNet's mean and deviation, channels last in memory."""
    mean, std = (torch.tensor(values, device=images.device) for values in (_MEAN, _STD))
    scaled = torch.addcmul(-mean / std, images.float(), 1.0 / (255.0 * std))
    return scaled.permute(0, 3, 1, 2)


def normalised_colours(images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
    """RGB images in [0, 1] as the trunks take them; differentiable."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (images - mean) / std


def plain_colours(images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
    """The images that `normalised_colours` was given."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return images * std + mean
