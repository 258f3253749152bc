"""Registered bodies of many crops, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.smpl_file import BodyData
from posekit.errors import InputError
from posekit.geometry.conventions import CAMERA_FROM_UPRIGHT_BODY
from posekit.registration.bodies import BodyRows, KeyedRows, pack_keys
from posekit.registration.parameters import BodyParameters

PARTS = tuple(part.name for part in fields(BodyParameters))

_KEY = ("sequence", "frame", "person", "camera")


@dataclass(frozen=True, eq=False)
class CropFits:
    """Fitted bodies in normalised units of `crops`, resting ones where `fitted` is not set.

    `crops` lead from pixels of the image to those units; NaN where there is no fit.
    """

    parameters: BodyParameters
    fitted: Bool[Tensor, " N"]
    crops: Float[np.ndarray, "N 2 3"]

    @staticmethod
    def of(bodies: BodyRows, fits: Artifact | None, body: BodyData) -> CropFits:
        """The fits of bodies that are ok. Raises InputError for fits to posed cameras and for those of another body."""
        count = len(bodies)
        parameters = _resting(body, count)
        crops = np.full((count, 2, 3), np.nan)
        ok = np.zeros(count, dtype=bool)
        if fits is not None and fits.rows("fits"):
            _check(fits, body)
            keys = KeyedRows(pack_keys(*(fits.read("fits", name) for name in _KEY)))
            rows = keys.find(pack_keys(*(getattr(bodies, name) for name in _KEY)))
            ok = (rows >= 0) & fits.read("fits", "ok")[rows.clip(0)]
            for name in PARTS:
                getattr(parameters, name)[torch.from_numpy(ok)] = torch.from_numpy(fits.read("fits", name, rows[ok]))
            crops[ok] = fits.read("fits", "crop_from_image", rows[ok])
        return CropFits(parameters, torch.from_numpy(ok), crops)

    @staticmethod
    def joined(parts: Sequence[CropFits]) -> CropFits:
        """Several of them one after the other."""
        return CropFits(
            BodyParameters(*(torch.cat([getattr(part.parameters, name) for part in parts]) for name in PARTS)),
            torch.cat([part.fitted for part in parts]),
            np.concatenate([part.crops for part in parts]),
        )

    def select(self, rows: Int[np.ndarray, " M"]) -> CropFits:
        """Some of them, by index."""
        chosen = torch.from_numpy(rows)
        return CropFits(self.parameters.select(chosen), self.fitted[chosen], self.crops[rows])

    def in_crops(self, crops: Float[np.ndarray, "N 2 3"]) -> BodyParameters:
        """The bodies in units of other crops of the same images; boxes may have changed since bodies were fitted."""
        theirs = np.where(self.fitted.numpy()[:, None, None], self.crops, crops)
        ratio = torch.from_numpy(crops[:, 0, 0] / theirs[:, 0, 0])
        shift = torch.zeros(len(crops), 3, dtype=torch.float64)
        # In this order nothing is rounded where the crops are the same.
        shift[:, :2] = torch.from_numpy(crops[:, :, 2] - ratio.numpy()[:, None] * theirs[:, :, 2])
        return replace(
            self.parameters,
            translation=(ratio[:, None] * self.parameters.translation + shift).float(),
            scale=(ratio * self.parameters.scale).float(),
        )


def _resting(body: BodyData, count: int) -> BodyParameters:
    return BodyParameters(
        pose=torch.zeros(count, body.joint_count, 3),
        segment_scales=torch.ones(count, body.joint_count),
        betas=torch.zeros(count, body.shapedirs.shape[-1]),
        orientation=torch.as_tensor(CAMERA_FROM_UPRIGHT_BODY).float().repeat(count, 1, 1),
        translation=torch.zeros(count, 3),
        scale=torch.ones(count),
    )


def _check(fits: Artifact, body: BodyData) -> None:
    if not fits.has("fits", "crop_from_image"):
        raise InputError(
            "bodies fitted to posed cameras cannot be learned from single pictures",
            got=fits.path,
            accepted="fits under weak perspective",
            hint="Run `posekit register --camera weak`",
        )
    meant = str(fits.header.facts.get("body", body.digest))
    if meant != body.digest:
        raise InputError(
            f"{fits.path} holds fits of another body",
            got=f"digest {body.digest[:12]}",
            accepted=meant[:12],
            hint="Give the body that they were made with: --body FILE",
        )
