"""What a mesh estimator makes of people: body and joints, parts, and colours (Figure 3 of Cha et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.model import BodyModel
from posekit.body.smpl_file import BodyData
from posekit.body.surface import six_parts_of
from posekit.errors import FormatError
from posekit.models.backbone import Backbone, normalised
from posekit.models.mesh_estimator import MeshEstimator
from posekit.models.texture import TextureNetwork
from posekit.render.drawing import draw_skeleton, part_colors
from posekit.render.shading import light_on, vertex_normals
from posekit.render.textured import TexturedRenderer
from posekit.render.topology import MeshTopology
from posekit.skeleton.catalog import H36M17
from posekit.stages.render_portraits import Image
from posekit.training.image_ssl import STAGE_HEADS, TEXTURE
from posekit.training.mesh_estimator import JointsLoss, MeshFacts, NamedJoints, load_mesh_estimator
from posekit.training.mesh_samples import MeshPart, MeshSource
from posekit.training.runs import load_run, stage_of

SIDE = 224
"""Side of each column, px."""

_AT_ONCE = 8
_SOLID = 0.85
"""How much of the picture bodies and parts cover."""
_CLAY = (0.62, 0.72, 0.85)


@dataclass(frozen=True, eq=False)
class MeshColumns:
    """A mesh estimator that looks at crops, and what draws its bodies; without `texture` the last column is left out."""

    backbone: Backbone
    estimator: MeshEstimator
    facts: MeshFacts
    body: BodyModel
    joints: NamedJoints
    texture: TextureNetwork | None
    texture_digest: str | None

    @staticmethod
    def open(model: Path, heads: Path | None, body: BodyData, device: torch.device) -> MeshColumns:
        """From run folders; FormatError for others, InputError for another body."""
        backbone, estimator, facts = load_mesh_estimator(model, device)
        facts.require_body(body, model)
        folder = heads if heads is not None else model / "heads"
        texture, digest = None, None
        if heads is not None or folder.is_dir():
            texture, digest = _texture(folder, facts, len(body.faces))
            texture = texture.to(device).eval()
        joints = NamedJoints(body, [H36M17])
        return MeshColumns(backbone, estimator, facts, BodyModel(body).to(device), joints.to(device), texture, digest)

    def digests(self) -> dict[str, str]:
        """Digests of the networks and the body."""
        named = {"model": self.facts.digest, "body": self.facts.body}
        return named if self.texture_digest is None else named | {"heads": self.texture_digest}

    def pictures(self, dataset: Artifact, rows: Int[np.ndarray, " N"]) -> Iterator[tuple[int, Image]]:
        """For each row that has a picture its place, and the columns side by side; DataError where none has."""
        device = next(self.backbone.parameters()).device
        part = MeshPart(dataset, rows)
        small = MeshSource([part], self.facts.input_size, self.joints.names, None, 0)
        large = MeshSource([part], SIDE, self.joints.names, None, 0)
        places = np.flatnonzero(np.isin(rows, small.rows[0]))
        with closing(small), closing(large):
            for begin in range(0, len(places), _AT_ONCE):
                some = np.arange(begin, min(begin + _AT_ONCE, len(places)))
                inputs = normalised(small.batch(some, 0).images.to(device))
                crops = large.batch(some, 0).images.numpy()
                for place, picture in zip(places[some], self._columns(inputs, crops), strict=True):
                    yield int(place), picture

    @torch.inference_mode()
    def _columns(self, inputs: Float[Tensor, "B 3 S S"], crops: UInt8[np.ndarray, "B H W 3"]) -> list[Image]:
        features = self.backbone(inputs)
        estimate = self.estimator(features)
        posed = estimate.posed(self.body)
        weak = self.facts.camera == "weak"
        camera = estimate.weak() if weak else estimate.perspective(focal_px=self.facts.focal_px)
        renderer = TexturedRenderer(self.body.faces, SIDE, "smooth", perspective=not weak)
        parts = torch.from_numpy(part_colors()[six_parts_of(self.body.body)]).to(features) / 255.0
        painted = [self._clay(posed.vertices), parts.expand(len(features), -1, -1)]
        if self.texture is not None:
            painted.append(self.texture(inputs, features))
        drawn = [renderer.render(posed.vertices, camera, colours) for colours in painted]
        projector = JointsLoss(self.body, self.joints, self.facts.focal_px, weak)
        seen = projector.projected(estimate, self.joints(posed)).cpu().numpy()
        order = [self.joints.names.index(name) for name in H36M17.joints]
        pictures = []
        for row, crop in enumerate(crops):
            columns = [crop]
            for number, picture in enumerate(drawn):
                rgb = picture.rgb[row].permute(1, 2, 0).cpu().numpy()
                alpha = picture.alpha[row, ..., None].cpu().numpy()
                last = number == 2
                behind = np.zeros_like(rgb) if last else crop / 255.0 * (1 - _SOLID * alpha)
                columns.append(np.rint(255 * (behind + (1.0 if last else _SOLID) * rgb)).clip(0, 255).astype(np.uint8))
            pixels = SIDE / 2.0 * (seen[row, order].astype(np.float64) + 1.0) - 0.5
            draw_skeleton(columns[1], pixels, H36M17)
            pictures.append(np.concatenate(columns, axis=1))
        return pictures

    def _clay(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B F 3"]:
        """Faces as clay lit from the camera's side."""
        light = light_on(vertex_normals(vertices, MeshTopology.from_faces(self.body.faces)))
        return (light[:, self.body.faces].mean(dim=2) * torch.tensor(_CLAY).to(light)).clamp(0, 1)


def _texture(folder: Path, facts: MeshFacts, face_count: int) -> tuple[TextureNetwork, str]:
    """The network of colours of stage 1."""
    if stage_of(folder) != STAGE_HEADS:
        raise FormatError(
            f"{folder} holds no heads of image-ssl", got=f"a run of {stage_of(folder)}", accepted=STAGE_HEADS
        )
    run = load_run(folder)
    own = run.settings.get("texture_backbone") == "own"
    network = TextureNetwork(face_count, Backbone(facts.backbone) if own else None, facts.form.features)
    try:
        network.load_state_dict(dict(run.module(TEXTURE)))
    except RuntimeError as error:
        raise FormatError(f"the heads in {folder} are not of this network", got=str(error).splitlines()[-1]) from error
    return network, run.digest
