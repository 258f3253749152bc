"""The pretext tasks' pictures: exact inverses, answers, and the pictures' independence of everything but the generator."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.errors import InputError
from posekit.models.backbone import normalised_colours
from posekit.training.pretext_inputs import (
    background_crops,
    cut_tiles,
    inpainting_target,
    jigsaw_pictures,
    joined_tiles,
    noise_backgrounds,
    over_background,
    pasted,
    patch_of,
    random_classes,
    render_target,
    shuffled,
    tile_orders,
    turned,
    unshuffled,
    with_hole,
)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 4, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=drawn(seed))


def test_the_orders_are_all_and_lexicographic() -> None:
    orders = tile_orders().tolist()
    assert orders == sorted(list(order) for order in itertools.permutations(range(4)))
    assert orders[0] == [0, 1, 2, 3] and orders[23] == [3, 2, 1, 0]


def test_tiles_are_numbered_row_by_row() -> None:
    images = pictures(1)
    tiles = cut_tiles(images)
    assert torch.equal(tiles[0, 1], images[0, :, :16, 16:])
    assert torch.equal(tiles[0, 2], images[0, :, 16:, :16])


@pytest.mark.parametrize("grid", [2, 3])
def test_tiles_join_to_the_picture(grid: int) -> None:
    images = pictures(side=36)
    assert torch.equal(joined_tiles(cut_tiles(images, grid)), images)


def test_undoing_the_order_restores_the_picture_for_all_classes() -> None:
    classes = torch.arange(24)
    images = pictures(24)
    tiles = cut_tiles(images)
    slots = shuffled(tiles, classes)
    assert torch.equal(joined_tiles(unshuffled(slots, classes)), images)
    for c, k in itertools.product(range(24), range(4)):
        assert torch.equal(slots[c, k], tiles[c, tile_orders()[c, k]])
    assert not any(torch.equal(slots[c], tiles[c]) for c in range(1, 24))


def test_jigsaw_pictures_are_crops_of_enlarged_tiles_in_their_order() -> None:
    """Each slot is found in its own enlarged tile at one place, and tells nothing of the tile's border otherwise."""
    images, classes = pictures(2, side=56), torch.tensor([0, 9])
    found = jigsaw_pictures(images, classes, torch.rand(2, 4, 2, generator=drawn(3)))
    assert found.shape == (2, 4, 3, 56, 56)
    places = set()
    for b, k in itertools.product(range(2), range(4)):
        tile = shuffled(cut_tiles(images), classes)[b, k]
        large = torch.nn.functional.interpolate(tile[None], size=(64, 64), mode="bilinear")[0]
        fits = [
            (y, x)
            for y, x in itertools.product(range(9), repeat=2)
            if torch.equal(found[b, k], large[:, y : y + 56, x : x + 56])
        ]
        assert len(fits) == 1
        places.update(fits)
    assert len(places) > 3


def test_the_given_numbers_alone_decide() -> None:
    images, classes = pictures(), random_classes(4, 24, drawn(1))
    assert torch.equal(classes, random_classes(4, 24, drawn(1)))
    before = torch.random.get_rng_state()
    first, again, other = (
        jigsaw_pictures(images, classes, torch.rand(4, 4, 2, generator=drawn(seed))) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_numbers_next_to_one_reach_the_last_place_and_no_further() -> None:
    images = pictures(1, side=56)
    large = torch.nn.functional.interpolate(cut_tiles(images)[0], size=(64, 64), mode="bilinear")
    last = jigsaw_pictures(images, torch.tensor([0]), torch.full((1, 4, 2), 1 - 2**-24))
    assert torch.equal(last[0], large[..., 8:, 8:])


def test_classes_are_evenly_drawn() -> None:
    counts = random_classes(24_000, 24, drawn()).bincount(minlength=24)
    assert len(counts) == 24
    assert counts.min() > 800 and counts.max() < 1200


def test_turns_are_exact_counter_clockwise_and_four_quarters_make_a_whole() -> None:
    images = pictures()
    found = turned(images, torch.tensor([0, 1, 2, 3]))
    assert torch.equal(found[0], images[0])
    # Counter-clockwise, the upper right corner goes to the upper left.
    assert torch.equal(found[1, :, 0, 0], images[1, :, 0, -1])
    for c in range(4):
        assert np.array_equal(found[c].numpy(), np.rot90(images[c].numpy(), c, (1, 2)))
    ones = torch.ones(4, dtype=torch.int64)
    whole = turned(turned(turned(turned(images, ones), ones), ones), ones)
    assert torch.equal(whole, images)
    halves = turned(images, torch.tensor([0, 1, 0, 1]), (0, 180))
    assert torch.equal(halves[1], images[1].flip(1, 2))


def test_the_hole_is_rows_and_columns_80_to_143() -> None:
    images = pictures(1, side=224) + 0.01
    black = (with_hole(images) == 0).all(1)[0].nonzero()
    assert black.amin(0).tolist() == [80, 80] and black.amax(0).tolist() == [143, 143] and len(black) == 64 * 64
    assert torch.equal(patch_of(images), images[..., 80:144, 80:144])
    assert images.min() > 0


@pytest.mark.parametrize("target", ["pm1", "imagenet"])
def test_pasting_the_true_patch_restores_the_picture(target) -> None:
    images = pictures(2, side=224)
    given = inpainting_target(patch_of(images), target).requires_grad_()
    whole = pasted(with_hole(images), given, target)
    torch.testing.assert_close(whole, normalised_colours(images), atol=1e-5, rtol=0)
    whole.sum().backward()
    assert (given.grad != 0).all()
    assert (given.min() >= -1 and given.max() <= 1) == (target == "pm1")


def test_the_render_target_is_the_person_over_black() -> None:
    images, masks = pictures(), pictures(seed=1)[:, 0] > 0.5
    target = render_target(images, masks)
    for b in range(4):
        assert torch.equal(target[b][:, masks[b]], images[b][:, masks[b]])
        assert target[b][:, ~masks[b]].abs().max() == 0


def test_backgrounds_show_where_the_body_does_not() -> None:
    colours, backgrounds = pictures(seed=1), pictures(seed=2)
    for composite in ("soft", "hard"):
        alpha = (pictures(seed=3)[:, 0] > 0.5).float().requires_grad_()
        both = over_background(colours * alpha.detach()[:, None], alpha, backgrounds, composite)
        covered = (alpha.detach() > 0)[:, None].expand_as(both)
        assert torch.equal(both[covered], colours[covered])
        assert torch.equal(both[~covered], backgrounds[~covered])
        assert both.requires_grad == (composite == "soft")


def test_half_covered_pixels_are_blended_softly() -> None:
    colours, alpha, backgrounds = (
        torch.full((1, 3, 1, 1), 0.8),
        torch.full((1, 1, 1), 0.25),
        torch.full((1, 3, 1, 1), 0.4),
    )
    soft = over_background(colours * alpha, alpha, backgrounds, "soft")
    assert soft.flatten().tolist() == pytest.approx([0.25 * 0.8 + 0.75 * 0.4] * 3)
    assert torch.equal(over_background(colours * alpha, alpha, backgrounds, "hard"), colours * alpha)


def test_background_crops_are_parts_of_their_pictures() -> None:
    wide, small = pictures(1, side=64)[0, :, :40], pictures(1, side=16)[0]
    places = torch.rand(2, 2, generator=drawn(1))
    crops = background_crops([wide, small], 32, places)
    assert crops.shape == (2, 3, 32, 32)
    fits = [
        (y, x)
        for y, x in itertools.product(range(9), range(33))
        if torch.equal(crops[0], wide[:, y : y + 32, x : x + 32])
    ]
    assert len(fits) == 1
    assert crops[1].std() > 0.1
    assert torch.equal(crops, background_crops([wide, small], 32, places))
    assert background_crops([], 32, torch.zeros(0, 2)).shape == (0, 3, 32, 32)


def test_noise_is_smooth_coloured_and_differs() -> None:
    noise = noise_backgrounds(3, 64, drawn())
    assert noise.shape == (3, 3, 64, 64)
    assert noise.min() >= 0 and noise.max() <= 1 and noise.std() > 0.1
    steps = (noise[..., 1:] - noise[..., :-1]).abs().mean()
    assert steps < 0.3 * (noise[..., 32:] - noise[..., :32]).abs().mean()
    assert not torch.allclose(noise[0], noise[1], atol=0.1)
    assert torch.equal(noise, noise_backgrounds(3, 64, drawn()))


def test_what_cannot_be_cut_turned_or_holed_is_refused() -> None:
    images = pictures(1, side=33)
    with pytest.raises(InputError, match=r"33 px.*multiples of 2"):
        cut_tiles(images)
    with pytest.raises(InputError, match="2 or 3 tiles"):
        tile_orders(4)
    with pytest.raises(InputError, match="multiples of 90"):
        turned(images, torch.tensor([0]), (0, 45))
    for patch in (32, 35):
        with pytest.raises(InputError, match=f"{patch} px in 33 px"):
            with_hole(images, patch)
