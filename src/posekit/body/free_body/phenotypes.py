"""How a person's traits blend the shape targets, and a fixed sample of adults.

The blending rule (each target weighs as the product of piecewise linear hats over its traits) is that of anny 0.6.2
(NAVER Corp., Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from posekit.body.free_body.sources import (
    GENDERS,
    HEIGHTS,
    MUSCLES,
    PROPORTIONS,
    RACES,
    WEIGHTS,
    BaseMesh,
    ShapeTargets,
)

_AGE_ANCHORS = {"young": 2 / 3, "old": 1.0}
_STATURE = {"male": (1.755, 0.07), "female": (1.625, 0.065)}
"""Mean and standard deviation of the sampled statures, metres."""


@dataclass(frozen=True, eq=False)
class Phenotypes:
    """Traits of several adults in [0, 1]: gender 0 is male, age 2/3 a young and 1 an old adult; races sum to 1."""

    gender: Float[np.ndarray, " N"]
    age: Float[np.ndarray, " N"]
    muscle: Float[np.ndarray, " N"]
    weight: Float[np.ndarray, " N"]
    height: Float[np.ndarray, " N"]
    proportions: Float[np.ndarray, " N"]
    races: Float[np.ndarray, "N 3"]


def mean_adult() -> Phenotypes:
    """The middle of all traits at a young adult's age; its mesh is what gets decimated."""
    half = np.full(1, 0.5)
    return Phenotypes(half, np.full(1, 0.72), half, half, half, half, np.full((1, 3), 1 / 3))


def blend_weights(people: Phenotypes, targets: ShapeTargets) -> Float[np.ndarray, "N T"]:
    """How much of every target each person gets."""
    share: dict[str, np.ndarray] = {}
    for values, names in (
        (people.gender, GENDERS),
        (people.muscle, MUSCLES),
        (people.weight, WEIGHTS),
        (people.height, HEIGHTS),
        (people.proportions, PROPORTIONS),
    ):
        share |= _hats(values, dict(zip(names, np.linspace(0, 1, len(names)), strict=True)))
    share |= _hats(people.age, _AGE_ANCHORS)
    share |= dict(zip(RACES, people.races.T, strict=True))
    return np.stack([np.prod([share[trait] for trait in traits], axis=0) for traits in targets.traits], axis=1)


def _hats(values: Float[np.ndarray, " N"], anchors: dict[str, float]) -> dict[str, np.ndarray]:
    """Piecewise linear weights that are 1 at their own anchor and 0 at the others."""
    places = list(anchors.values())
    return {name: np.interp(values, places, np.eye(len(places))[i]) for i, name in enumerate(anchors)}


def sample_adults(count: int, mesh: BaseMesh, targets: ShapeTargets) -> Phenotypes:
    """Always the same adults, evenly spread: a quasi-random sequence through inverse distributions.

    Stature is linear in the height trait, which is therefore solved for a stature drawn per gender; a height trait drawn
    by itself would give people between 1.3 and 2.4 m.
    """
    uniform = _quasi_random(count, 10).T
    gender = np.clip((uniform[0] < 0.5) + 0.08 * ndtri(uniform[1]), 0, 1)
    exponential = -np.log(uniform[6:9])
    people = Phenotypes(
        gender=gender,
        age=2 / 3 + (1 - (1 - uniform[2]) ** (1 / 2.5)) / 3,  # Beta(1, 2.5): more young than old
        muscle=np.clip(0.5 + 0.18 * ndtri(uniform[3]), 0, 1),
        weight=np.clip(0.5 + 0.2 * ndtri(uniform[4]), 0, 1),
        height=np.zeros(count),
        proportions=np.clip(0.6 + 0.25 * ndtri(uniform[5]), 0, 1),
        races=(exponential / exponential.sum(axis=0)).T,
    )
    body = mesh.vertices[: mesh.body_vertex_count]
    extremes = [int(np.argmax(body[:, 1])), int(np.argmin(body[:, 1]))]
    stature = []
    for height in (0.0, 1.0):
        offsets = targets.offsets[:, extremes, 1].astype(np.float64)
        ends = body[extremes, 1] + blend_weights(replace(people, height=np.full(count, height)), targets) @ offsets
        stature.append(ends[:, 0] - ends[:, 1])
    mean, deviation = np.where(gender[None] < 0.5, *(np.array(_STATURE[g])[:, None] for g in GENDERS))
    wanted = mean + deviation * ndtri(uniform[9])
    return replace(people, height=np.clip((wanted - stature[0]) / (stature[1] - stature[0]), 0, 1))


def _quasi_random(count: int, dimensions: int) -> Float[np.ndarray, "N D"]:
    """An additive recurrence with the generalised golden ratio, in (0, 1): evenly spread and the same everywhere."""
    ratio = 1.5
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1.0
