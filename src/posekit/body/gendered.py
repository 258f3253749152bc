"""Bodies of men, women and of anybody, which some data sets tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from posekit.body.smpl_file import BodyData, load_body
from posekit.errors import InputError

GENDERS = ("neutral", "male", "female")


def load_gendered(neutral: Path | None, male: Path | None, female: Path | None) -> dict[str, BodyData]:
    """The body of each gender; men and women have the neutral one where they have none of their own.

    Raises InputError for bodies of different topology, besides what `load_body` raises.
    """
    files = {"neutral": neutral, "male": male or neutral, "female": female or neutral}
    bodies = {gender: load_body(path) for gender, path in files.items()}
    shapes = {(body.vertex_count, body.joint_count) for body in bodies.values()}
    if len(shapes) > 1:
        raise InputError(
            "the bodies of men and women are not of one kind",
            got=[f"{body.source}: {body.vertex_count} vertices, {body.joint_count} joints" for body in bodies.values()],
            accepted="files of the same model",
        )
    return bodies


def digests_of(bodies: Mapping[str, BodyData]) -> dict[str, str]:
    """The identity of the body of each gender."""
    return {gender: body.digest for gender, body in bodies.items()}
