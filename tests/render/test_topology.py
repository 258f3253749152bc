from __future__ import annotations

import pytest
import torch

from posekit.render.topology import MeshTopology


def test_body_is_a_closed_manifold_but_for_known_openings(body_mesh, body_topology) -> None:
    edges = body_topology.edges.shape[1]
    assert body_topology.face_count == 13776
    assert body_topology.vertex_count == 6890
    shared = int((body_topology.edge_faces[1] >= 0).sum())
    assert shared + edges == 3 * 13776  # every edge has one face or two
    assert ((body_topology.edge_faces[1] < 0) == body_topology.edge_open).all()


def test_edges_know_their_faces_and_opposite_corners(body_mesh, body_topology) -> None:
    faces = body_mesh[1]
    for side in range(2):
        at = body_topology.edge_faces[side].clamp_min(0)
        on_edge = (faces[at][..., None] == body_topology.edges.t()[:, None]).any(-1)
        opposite = faces[at] == body_topology.edge_opposites[side][:, None]
        exists = body_topology.edge_faces[side] >= 0
        assert (on_edge.sum(1) == 2)[exists].all()
        assert (opposite.sum(1) == 1)[exists].all()
        assert not (opposite & on_edge)[exists].any()


def test_the_two_faces_of_an_edge_walk_it_in_opposite_directions(body_topology) -> None:
    signed: dict[tuple[int, int], float] = {}
    for low, high, sign in zip(
        body_topology.face_edge_low.reshape(-1).tolist(),
        body_topology.face_edge_high.reshape(-1).tolist(),
        body_topology.face_edge_sign.reshape(-1).tolist(),
        strict=True,
    ):
        assert low < high
        signed[low, high] = signed.get((low, high), 0.0) + sign
    closed = (~body_topology.edge_open).nonzero().squeeze(1)
    pairs = body_topology.edges[:, closed].t().tolist()
    assert all(signed[low, high] == 0 for low, high in pairs)


def test_more_than_two_faces_at_an_edge_leave_it_open() -> None:
    fan = torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]])
    topology = MeshTopology.from_faces(fan)
    hinge = (topology.edges == torch.tensor([[0], [1]])).all(0)
    assert hinge.sum() == 1
    assert topology.edge_open.all()
    assert topology.edge_faces[:, hinge].squeeze(1).tolist() == [0, 1]


def test_empty_mesh_and_negative_index() -> None:
    empty = MeshTopology.from_faces(torch.empty(0, 3, dtype=torch.int64))
    assert empty.face_count == 0
    assert empty.vertex_count == 0
    assert empty.edges.shape == (2, 0)
    with pytest.raises(ValueError, match="-2"):
        MeshTopology.from_faces(torch.tensor([[0, 1, -2]]))


def test_moving_to_the_same_device_is_free(body_topology) -> None:
    assert body_topology.to(torch.device("cpu")) is body_topology
