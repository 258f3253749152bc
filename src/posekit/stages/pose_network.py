"""A trained Pose ResNet applied to the stored crops of a data set."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.config.training import Precision
from posekit.errors import ConfigError
from posekit.models.backbone import normalised
from posekit.models.pose_resnet import PoseResNet
from posekit.models.soft_argmax import heat_maps
from posekit.skeleton.skeleton import Skeleton, mirrored
from posekit.stages.picture_batches import read_ahead
from posekit.training.devices import arithmetic, require_precision
from posekit.training.pose_labels import crops_of
from posekit.training.pose_resnet import PoseFacts, load_pose_resnet
from posekit.training.pose_samples import PasteOver, box_in
from posekit.training.stored_crops import StoredCrops, pixels_from_stored

_HEAT_MAPS_AT_ONCE = 8


class PoseNetwork:
    """One branch, 2D or 3D. It looks at undisturbed crops and is in evaluation mode: the same in, the same out.

    With `mirror` it also looks at each crop's mirror image, and the mean of both counts.
    """

    def __init__(
        self,
        network: PoseResNet,
        facts: PoseFacts,
        device: torch.device,
        precision: Precision,
        paste_over: PasteOver | None = None,
        seed: int = 0,
        *,
        mirror: bool = False,
    ) -> None:
        require_precision(precision, device)
        self.facts = facts
        self._network = network.double() if precision == "64-true" else network
        self._device = device
        self._precision = precision
        self._paste_over = paste_over
        self._seed = seed
        joints = facts.skeleton.joints
        self._sides = [facts.skeleton.index(mirrored(name)) for name in joints] if mirror else None

    @staticmethod
    def open(
        run_folder: Path,
        device: torch.device,
        precision: Precision = "32-true",
        paste_over: PasteOver | None = None,
        seed: int = 0,
        *,
        mirror: bool = False,
    ) -> PoseNetwork:
        """The network of a run folder; for studies something may be pasted over the people that it looks at.

        Raises MissingFileError or FormatError for a folder that holds none, ConfigError for arithmetic that the device
        does not have.
        """
        return PoseNetwork(*load_pose_resnet(run_folder, device), device, precision, paste_over, seed, mirror=mirror)

    @property
    def digest(self) -> str:
        """The digest of the weights."""
        return self.facts.digest

    @property
    def skeleton(self) -> Skeleton:
        """The joints that the network finds."""
        return self.facts.skeleton

    def crops(self, dataset: Artifact, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N 2 3"]:
        """unit_from_image of the crops that the network sees, -1 to 1; InputError as `crops_of`."""
        return crops_of(dataset, rows, self.facts.crop_margin, self.facts.depth_units)

    @torch.inference_mode()
    def coordinates(
        self, dataset: Artifact, rows: Int[np.ndarray, " N"], batch: int
    ) -> tuple[Float[np.ndarray, "N J 3"], Float[np.ndarray, "N J"], Bool[np.ndarray, " N"]]:
        """Joints in normalised coordinates of the crops (-1/2 to 1/2), their confidence, and which samples have a picture.

        Samples without a readable picture come back as NaN with confidence 0.
        """
        count = len(self.skeleton)
        points = np.full((len(rows), count, 3), np.nan)
        confidence = np.zeros((len(rows), count))
        seen = np.zeros(len(rows), dtype=bool)
        if not len(rows):
            return points, confidence, seen
        with closing(StoredCrops.of(dataset, rows)) as pictures:
            maps = pixels_from_stored(self.crops(dataset, rows), pictures.crop_from_image, self.facts.input_size)
            begin = 0
            for images, problems in read_ahead(pictures, maps, self.facts.input_size, batch):
                here = slice(begin, begin + len(images))
                if self._paste_over is not None:
                    self._occlude(images, dataset, rows[here])
                found, sure = self._predicted(images, batch)
                good = np.array([not problem for problem in problems]) & np.isfinite(found).all(axis=(1, 2))
                points[here][good], confidence[here][good], seen[here] = found[good], sure[good], good
                begin += len(images)
        return points, confidence, seen

    def keypoints(self, dataset: Artifact, rows: Int[np.ndarray, " N"], batch: int) -> Float[np.ndarray, "N J 3"]:
        """Joints in pixels of the original image, and confidence; NaN and 0 for samples without a picture."""
        points, confidence, _ = self.coordinates(dataset, rows, batch)
        return np.concatenate([self.pixels(self.crops(dataset, rows), points), confidence[..., None]], axis=2)

    @staticmethod
    def pixels(crops: Float[np.ndarray, "N 2 3"], points: Float[np.ndarray, "N J 3"]) -> Float[np.ndarray, "N J 2"]:
        """Normalised coordinates of crops in pixels of the original image."""
        shifted = 2.0 * points[..., :2] - crops[:, None, :, 2]
        return np.einsum("nij,nkj->nki", np.linalg.inv(crops[..., :2]), shifted)

    @torch.inference_mode()
    def heat_maps(self, dataset: Artifact, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N J h w"]:
        """How likely each joint is in each cell of the crop, summed over depth; NaN for samples without a picture."""
        found = []
        with closing(StoredCrops.of(dataset, rows)) as pictures:
            maps = pixels_from_stored(self.crops(dataset, rows), pictures.crop_from_image, self.facts.input_size)
            for images, problems in read_ahead(pictures, maps, self.facts.input_size, _HEAT_MAPS_AT_ONCE):
                with arithmetic(self._precision, self._device.type):
                    logits = self._network.logits(self._inputs(images))
                cells = heat_maps(logits).double().cpu().numpy()
                cells[[bool(problem) for problem in problems]] = np.nan
                found.append(cells)
        return np.concatenate(found)

    def _occlude(self, images: UInt8[Tensor, "B S S 3"], dataset: Artifact, rows: Int[np.ndarray, " B"]) -> None:
        """Pastes objects over people, the same ones over the same sample whatever the batch."""
        assert self._paste_over is not None
        boxes = dataset.read("samples", "bbox", rows).astype(np.float64)
        crops, pixels = self.crops(dataset, rows), images.numpy()
        for place, row in enumerate(rows):
            box = box_in(crops[place], boxes[place], self.facts.input_size)
            generator = np.random.default_rng([self._seed, int(row)])
            pixels[place], _ = self._paste_over.occlusion.paste(
                self._paste_over.occluders, pixels[place], box, generator
            )

    def _predicted(self, images: UInt8[Tensor, "B S S 3"], batch: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            with arithmetic(self._precision, self._device.type):
                points, sure = self.found(self._inputs(images))
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                "the images of one batch do not fit the device", got=f"--batch {batch}", hint="Give a smaller one"
            ) from error
        return points.double().cpu().numpy(), sure.double().cpu().numpy()

    def found(self, inputs: Float[Tensor, "B 3 S S"]) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B J"]]:
        """Joints in normalised coordinates of normalised crops, and their confidence."""
        found = self._network(inputs)
        if self._sides is None:
            return found.joints, found.confidences()
        other = self._network(inputs.flip(-1))
        turned = other.joints[:, self._sides]
        # Where cells stand at their left edge, a mirrored map stands at its right one.
        edge = 0.0 if self.facts.form.half_cell else 1.0 / other.plane.shape[-1]
        x = -turned[..., :1] - edge
        points = 0.5 * (found.joints + torch.cat([x, turned[..., 1:]], dim=-1))
        return points, 0.5 * (found.confidences() + other.confidences()[:, self._sides])

    def _inputs(self, images: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
        inputs = normalised(images.to(self._device, non_blocking=True))
        return inputs.double() if self._precision == "64-true" else inputs
