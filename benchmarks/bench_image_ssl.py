"""How much of a stage-2 step of image-ssl is rendering, at batch 16 and 224 px.

The step is everything that `ImageSslMethod.step` does for a batch that is loaded, with every loss of the paper. Rendering is
posing the bodies and drawing them, with the backward pass from colours and silhouettes to vertices and camera. The two are timed
in turn, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse

import torch
from harness import write_results
from steps import Bench, timed_in_turn

from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.models.backbone import Backbone
from posekit.models.discriminator import Discriminator
from posekit.models.mesh_estimator import MeshEstimator, MeshEstimatorForm
from posekit.models.pretext import InPainter, JigsawHead, RotationHead
from posekit.models.texture import TextureNetwork
from posekit.render.textured import TexturedRenderer
from posekit.training.backgrounds import Backgrounds
from posekit.training.image_ssl import ImageSslMethod, PretextHeads, SslSettings, Studio
from posekit.training.mesh_samples import MeshBatch

BATCH, SIDE = 16, 224
GOAL = 0.25


def made_batch() -> MeshBatch:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, SIDE, SIDE, 3), generator=random).to(torch.uint8)
    masks = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 20:204, 80:144] = 1
    none = torch.zeros(BATCH, 0)
    return MeshBatch(
        images=images,
        upright=images,
        masks=masks,
        masked=torch.ones(BATCH, dtype=torch.bool),
        keypoints=none[..., None].expand(-1, -1, 2),
        keypoint_weights=none,
        joints=none[..., None].expand(-1, -1, 3),
        joint_weights=none,
        samples=torch.arange(BATCH),
    )


def made_method(device: torch.device) -> ImageSslMethod:
    body, backbone = load_body(), Backbone("resnet50")
    estimator = MeshEstimator(MeshEstimatorForm(joints=body.joint_count))
    heads = PretextHeads(
        JigsawHead(),
        RotationHead(),
        InPainter(),
        Discriminator(),
        TextureNetwork(len(body.faces), Backbone("resnet50", 1)),
    )
    model = BodyModel(body).to(device)
    studio = Studio(model, TexturedRenderer(model.faces, SIDE))
    method = ImageSslMethod(backbone, estimator, heads, studio, SslSettings(), Backgrounds(SIDE))
    for part in (*method.modules().values(), *method.constants().values()):
        part.to(device)
    return method


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    method, batch = made_method(device), made_batch().to(device)
    bench = Bench(method, False, device)
    with torch.no_grad():
        estimate = method.estimator(torch.zeros(BATCH, 2048, device=device))
    colours = torch.rand(BATCH, len(method.studio.body.faces), 3, device=device)

    def step() -> None:
        method.step(batch, bench)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def rendering() -> None:
        free = type(estimate)(*(part.detach().requires_grad_() for part in estimate))
        drawn = method.studio.draw(free, colours)
        (drawn.rgb.square().mean() + drawn.mask.square().mean()).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    whole, part = timed_in_turn((step, rendering), options.repeats)
    share = part.minimum_ms / whole.minimum_ms
    print(f"step {whole.minimum_ms:.0f} ms, rendering {part.minimum_ms:.0f} ms, share {share:.3f} (goal {GOAL})")
    write_results(
        "image_ssl",
        {
            "goal: rendering / step": GOAL,
            "batch": BATCH,
            "side": SIDE,
            "device": options.device,
            "step": whole,
            "rendering": part,
            "rendering / step": share,
        },
    )


if __name__ == "__main__":
    main()
