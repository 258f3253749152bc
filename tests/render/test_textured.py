"""The mesh renderer of the self-supervised method: pictures, gradients, and bodies far away."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posekit.geometry.cameras import CropPerspective, WeakPerspective
from posekit.geometry.conventions import CAMERA_FROM_UPRIGHT_BODY
from posekit.render.textured import TexturedRenderer

SIDE = 64
EDGES = ("hard", "smooth", "soft")


@pytest.fixture(scope="module")
def body(body_mesh: tuple[Tensor, Tensor]) -> Tensor:
    """The body at rest, facing the camera, its middle at the origin: (1, V, 3)."""
    rest = body_mesh[0].double() - (body_mesh[0].amax(0) + body_mesh[0].amin(0)).double() / 2
    return (rest @ torch.from_numpy(CAMERA_FROM_UPRIGHT_BODY)).float()[None]


def camera(scale: float = 0.8, x: float = 0.0, y: float = 0.0) -> CropPerspective:
    return CropPerspective(torch.tensor([scale]), torch.tensor([[x, y]]), side=SIDE)


def test_pictures_have_the_size_of_the_crop_and_the_colours_of_the_faces(body, body_mesh) -> None:
    faces = body_mesh[1]
    colors = torch.tensor([0.2, 0.5, 0.9]).expand(1, len(faces), 3)
    drawn = TexturedRenderer(faces, SIDE).render(body, camera(), colors)
    assert drawn.rgb.shape == (1, 3, SIDE, SIDE)
    assert set(drawn.alpha.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn.mask, drawn.alpha)
    covered = drawn.alpha[0] > 0
    torch.testing.assert_close(drawn.rgb[0][:, covered], torch.tensor([[0.2], [0.5], [0.9]]).expand(3, covered.sum()))
    assert drawn.rgb[0][:, ~covered].abs().max() == 0
    # 1.7 m or so at 0.8 of 32 px a metre.
    height = covered.any(1).sum().item()
    extent = (body[0, :, 1].amax() - body[0, :, 1].amin()).item()
    assert height == pytest.approx(0.8 * extent * SIDE / 2, abs=2)


def test_the_picture_is_where_the_camera_puts_it(body, body_mesh) -> None:
    """A shift of 0.25 m to the right at scale 0.8 is 6.4 px of 64."""
    renderer = TexturedRenderer(body_mesh[1], SIDE, "smooth")
    colors = torch.ones(1, len(body_mesh[1]), 3)
    columns = torch.arange(float(SIDE))

    def middle(found: CropPerspective) -> float:
        weight = renderer.render(body, found, colors).alpha[0].sum(0)
        return float((columns * weight).sum() / weight.sum())

    assert middle(camera()) == pytest.approx((SIDE - 1) / 2, abs=0.3)
    assert middle(camera(x=0.25)) - middle(camera()) == pytest.approx(0.25 * 0.8 * SIDE / 2, abs=0.05)


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("output", ["rgb", "mask"])
def test_both_pictures_give_gradients_to_vertices_and_camera(body, body_mesh, edges, output) -> None:
    vertices, scale, shift = body.clone(), torch.tensor([0.8]), torch.tensor([[0.05, 0.02]])
    colors = torch.rand(1, len(body_mesh[1]), 3, generator=torch.Generator().manual_seed(0))
    inputs = [values.requires_grad_() for values in (vertices, scale, shift, colors)]
    drawn = TexturedRenderer(body_mesh[1], SIDE, edges).render(
        vertices, CropPerspective(scale, shift, side=SIDE), colors
    )
    ramp = torch.linspace(0, 1, SIDE)[:, None] + torch.linspace(0, 2, SIDE)
    (getattr(drawn, output) * ramp).sum().backward()
    for values in inputs[:3]:
        assert values.grad.isfinite().all()
        assert values.grad.abs().sum() > 0
    if output == "rgb":
        assert ((colors.grad > 0).any(-1).sum() > 300) and colors.grad.isfinite().all()
    else:
        assert colors.grad is None or not colors.grad.any()


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize(
    ("scale", "x", "y"), [(0.65, 0, 0), (0.95, 0, 0), (0.8, 0.06, 0), (0.8, -0.06, 0), (0.8, 0, 0.05)]
)
def test_the_mask_s_gradient_leads_a_displaced_body_back(body, body_mesh, edges, scale, x, y) -> None:
    renderer = TexturedRenderer(body_mesh[1], SIDE, edges)
    colors = torch.ones(1, len(body_mesh[1]), 3)
    target = renderer.render(body, camera(), colors).mask.gt(0.5).float()
    size, shift = torch.tensor([scale], requires_grad=True), torch.tensor([[x, y]]).float().requires_grad_()
    mask = renderer.render(body, CropPerspective(size, shift, side=SIDE), colors).mask
    (mask - target).square().mean().backward()
    if scale != 0.8:
        assert math.copysign(1, size.grad.item()) == math.copysign(1, scale - 0.8)
    for axis, value in enumerate((x, y)):
        if value:
            assert math.copysign(1, shift.grad[0, axis].item()) == math.copysign(1, value)


def test_the_colours_gradient_leads_a_displaced_body_back(body, body_mesh) -> None:
    renderer = TexturedRenderer(body_mesh[1], SIDE)
    colors = torch.rand(1, len(body_mesh[1]), 3, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.7
    target = renderer.render(body, camera(), colors).rgb
    shift = torch.tensor([[0.06, 0.0]], requires_grad=True)
    rgb = renderer.render(body, CropPerspective(torch.tensor([0.8]), shift, side=SIDE), colors).rgb
    (rgb - target).square().mean().backward()
    assert shift.grad[0, 0] > 0


@pytest.mark.parametrize("scale", [0.05, 0.1, 0.3])
def test_bodies_far_away_are_still_drawn_and_can_grow(body, body_mesh, scale) -> None:
    """At scale 0.05 the body is 893 m away in a crop of 224 px; renderers with a far plane at 100 m show nothing."""
    renderer = TexturedRenderer(body_mesh[1], 224)
    size = torch.tensor([scale], requires_grad=True)
    found = CropPerspective(size, torch.zeros(1, 2))
    drawn = renderer.render(body, found, torch.ones(1, len(body_mesh[1]), 3))
    assert found.offset()[0, 2].item() == pytest.approx(2 * 5000 / (224 * scale), rel=1e-4)
    assert drawn.mask.sum() > 10
    (drawn.mask - 1).square().mean().backward()
    assert size.grad.item() < 0


def test_bodies_of_a_batch_do_not_mix_and_weak_cameras_are_drawn_too(body, body_mesh) -> None:
    faces = body_mesh[1]
    colors = torch.rand(2, len(faces), 3, generator=torch.Generator().manual_seed(0))
    weak = WeakPerspective(torch.tensor([0.8, 0.5]), torch.tensor([[0.0, 0.1], [0.2, 0.0]]))
    renderer = TexturedRenderer(faces, SIDE, perspective=False)
    both = renderer.render(body.expand(2, -1, -1), weak, colors)
    for k in range(2):
        one = WeakPerspective(weak.scale[k : k + 1], weak.translation[k : k + 1])
        single = renderer.render(body, one, colors[k : k + 1])
        torch.testing.assert_close(both.rgb[k], single.rgb[0])
        torch.testing.assert_close(both.mask[k], single.mask[0])
    soft = TexturedRenderer(faces, SIDE, "soft", perspective=False).render(body.expand(2, -1, -1), weak, colors)
    assert (soft.mask.sum((1, 2)) > both.mask.sum((1, 2))).all()
