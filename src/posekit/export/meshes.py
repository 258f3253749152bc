"""One mesh for each file: OBJ for everything that reads text, PLY (binary) where size matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from posekit.atomic import replacing


def write_obj(
    path: Path,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    texture_coordinates: Float[np.ndarray, "F 3 2"] | None = None,
) -> None:
    """Wavefront OBJ in the unit of the vertices; texture coordinates are given for each corner of each face."""
    corners = faces + 1
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist()]
    if texture_coordinates is None:
        lines += [f"f {a} {b} {c}" for a, b, c in corners.tolist()]
    else:
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in texture_coordinates.reshape(-1, 2).tolist()]
        lines += [
            f"f {a}/{3 * index + 1} {b}/{3 * index + 2} {c}/{3 * index + 3}"
            for index, (a, b, c) in enumerate(corners.tolist())
        ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_ply(
    path: Path,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    colours: UInt8[np.ndarray, "V 3"] | None = None,
) -> None:
    """Binary PLY in the unit of the vertices, with RGB of the vertices if given."""
    fields = [(axis, "<f4") for axis in "xyz"]
    properties = [f"property float {axis}" for axis in "xyz"]
    if colours is not None:
        fields += [(channel, "u1") for channel in ("red", "green", "blue")]
        properties += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    points = np.zeros(len(vertices), dtype=fields)
    for column, axis in enumerate("xyz"):
        points[axis] = vertices[:, column]
    if colours is not None:
        for column, channel in enumerate(("red", "green", "blue")):
            points[channel] = colours[:, column]
    triangles = np.zeros(len(faces), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    triangles["count"], triangles["corners"] = 3, faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *properties,
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    with replacing(path) as temporary:
        temporary.write_bytes(("\n".join(header) + "\n").encode("ascii") + points.tobytes() + triangles.tobytes())
