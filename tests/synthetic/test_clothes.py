from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from posekit.body.smpl_file import load_body
from posekit.skeleton.catalog import SMPL24
from posekit.synthetic.clothes import Pattern, Wardrobe, linear, random_outfit


def colour_at(wardrobe: Wardrobe, outfit: object, place: tuple[float, float, float], **flags: float) -> np.ndarray:
    fields = torch.tensor([[*place, flags.get("hair", 0.0), flags.get("lips", 0.0), flags.get("eye", 0.0)]])
    return wardrobe.paint(outfit, fields)[0].numpy()


def near(colour: np.ndarray, wanted: tuple[float, float, float]) -> bool:
    return bool(np.abs(colour - np.array(linear(wanted))).max() < 0.1)


def test_clothes_are_where_they_belong() -> None:
    body = load_body()
    wardrobe = Wardrobe.of(body)
    outfit = replace(random_outfit(0, "S1"), pattern="plain", sleeves=0.45, legs=0.97)
    joint = {name: body.rest_joints[SMPL24.index(name)] for name in SMPL24.joints}
    shoulder, elbow, wrist = (joint[f"left_{name}"][0] for name in ("shoulder", "elbow", "wrist"))
    height = joint["left_elbow"][1]
    assert near(colour_at(wardrobe, outfit, (0.0, joint["spine2"][1], 0.1)), outfit.shirt)
    assert near(colour_at(wardrobe, outfit, (-0.5 * (shoulder + elbow), height, 0.0)), outfit.shirt)
    assert near(colour_at(wardrobe, outfit, (wrist, height, 0.0)), outfit.skin)
    assert near(colour_at(wardrobe, outfit, (0.1, joint["left_knee"][1], 0.0)), outfit.trousers)
    assert near(colour_at(wardrobe, outfit, (0.1, joint["left_ankle"][1] - 0.02, 0.0)), outfit.shoes)
    assert near(colour_at(wardrobe, outfit, (0.0, joint["smpl_head"][1] + 0.05, 0.1)), outfit.skin)
    assert near(colour_at(wardrobe, outfit, (0.0, joint["smpl_head"][1] + 0.1, 0.0), hair=1.0), outfit.hair)


def test_short_trousers_leave_the_calves_bare() -> None:
    body = load_body()
    wardrobe = Wardrobe.of(body)
    calf = (0.13, float(body.rest_joints[SMPL24.index("left_knee")][1]) - 0.15, 0.0)
    outfit = random_outfit(0, "S1")
    assert near(colour_at(wardrobe, replace(outfit, legs=0.42), calf), outfit.skin)
    assert near(colour_at(wardrobe, replace(outfit, legs=0.97), calf), outfit.trousers)


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_patterns_stay_in_range_and_show_the_accent(pattern: Pattern) -> None:
    wardrobe = Wardrobe.of(load_body())
    outfit = replace(random_outfit(1, "S9"), pattern=pattern, shirt=(0.1, 0.1, 0.8), accent=(0.9, 0.8, 0.1))
    colours = wardrobe.paint(outfit, wardrobe.fields)
    assert colours.min() >= 0.0 and colours.max() <= 1.0
    shows_accent = bool(((colours - torch.tensor(linear(outfit.accent))).abs().amax(dim=1) < 0.02).any())
    assert shows_accent == (pattern in ("stripes", "checks", "print"))


def test_outfits_differ_by_subject_and_stand_out_from_the_skin() -> None:
    outfits = [random_outfit(0, f"S{number}") for number in range(30)]
    assert outfits[4] == random_outfit(0, "S4")
    assert len({outfit.shirt for outfit in outfits}) == 30
    assert min(np.linalg.norm(np.subtract(outfit.shirt, outfit.skin)) for outfit in outfits) > 0.3


def test_bodies_without_labels_get_hair_too() -> None:
    body = replace(load_body(), vertex_label=None)
    hair = Wardrobe.of(body).fields[:, 3].numpy() > 0
    above = body.v_template[:, 1] > body.rest_joints[SMPL24.index("smpl_head")][1]
    assert 100 < hair.sum() < 600
    assert above[hair].all()
