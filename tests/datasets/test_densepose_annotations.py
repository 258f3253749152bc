from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as rle

from posekit.body.smpl_file import load_body
from posekit.body.surface import COARSE_14, PART_FLIP, atlas_of
from posekit.datasets.densepose_annotations import (
    DensePoints,
    decode_mask,
    encode_mask,
    polygons_of,
    read_masks,
    read_points,
    uncompressed_mask,
    write_masks,
    write_points,
)
from posekit.errors import FormatError

BBOX = [12.0, 7.0, 60.0, 90.0]
COARSE_FLIP = np.array([0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14])


def blob(seed: int, height: int = 83, width: int = 61) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    kernel = np.exp(-(np.linspace(-2, 2, 15) ** 2))
    smooth = np.apply_along_axis(
        np.convolve, 0, np.apply_along_axis(np.convolve, 1, noise, kernel, "same"), kernel, "same"
    )
    return smooth > 1.0


def decoded_by_hand(encoded: dict[str, object]) -> np.ndarray:
    """COCO's compressed run lengths: five bits at a time, differences from the run two before."""
    text, counts = str(encoded["counts"]), list[int]()
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            value |= (bits & 0x1F) << (5 * shift)
            more = bool(bits & 0x20)
            at, shift = at + 1, shift + 1
            if not more and bits & 0x10:
                value |= -1 << (5 * shift)
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    flat = np.repeat(np.arange(len(counts)) % 2, counts)
    height, width = encoded["size"]  # type: ignore[misc]  # two numbers
    return flat.reshape(width, height).T


def test_run_lengths_agree_with_an_independent_decoder() -> None:
    for seed in range(4):
        mask = blob(seed)
        encoded = encode_mask(mask)
        assert np.array_equal(decoded_by_hand(encoded), mask)
        assert np.array_equal(decode_mask(encoded, *mask.shape), mask)
        plain = uncompressed_mask(mask)
        assert sum(plain["counts"]) == mask.size
        assert np.array_equal(decode_mask(plain, *mask.shape), mask)
        assert np.array_equal(decode_mask(uncompressed_mask(~mask), *mask.shape), ~mask)


def test_mirrored_masks_are_masks_of_the_mirror_image() -> None:
    parts = (
        np.random.default_rng(0).integers(0, 25, size=(90, 60)).repeat(3, 0).repeat(3, 1)[:100, :80].astype(np.uint8)
    )
    bbox = [0.0, 0.0, 80.0, 100.0]
    labels = read_masks(write_masks(parts, bbox))
    mirrored = read_masks(write_masks(PART_FLIP[parts][:, ::-1].astype(np.uint8), bbox))
    # Cell centres that fall on the border of two pixels may round either way.
    assert (mirrored == COARSE_FLIP[labels][:, ::-1]).mean() > 0.98


def test_polygons_enclose_the_mask() -> None:
    mask = np.zeros((50, 60), bool)
    mask[10:40, 20:50] = True
    back = decode_mask(polygons_of(mask), 50, 60) > 0
    assert (back & mask).sum() / (back | mask).sum() > 0.95
    assert rle.area(rle.merge(rle.frPyObjects(polygons_of(mask), 50, 60))) == pytest.approx(900, rel=0.07)


def test_points_come_back_in_pixels() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers([12, 7], [72, 97], size=(40, 2)).astype(float)
    parts, uv = rng.integers(1, 25, 40), rng.uniform(size=(40, 2))
    for side in (256.0, 255.0):
        annotation = {"bbox": BBOX, **write_points(pixels, parts, uv, BBOX, side)}
        points = read_points(annotation, side)
        assert points is not None
        assert np.abs(points.pixels - pixels).max() < 1e-4
        assert np.array_equal(points.parts, parts)
        assert np.abs(points.uv - uv).max() < 1e-5


def test_the_two_readings_of_a_box_differ_by_less_than_half_a_percent() -> None:
    annotation = {"bbox": BBOX, **write_points(np.array([[60.0, 80.0]]), np.array([3]), np.array([[0.5, 0.5]]), BBOX)}
    first, second = read_points(annotation, 256.0), read_points(annotation, 255.0)
    assert first is not None
    assert second is not None
    assert 0 < np.abs(first.pixels - second.pixels).max() < 0.004 * 90


def test_points_that_cannot_be_used() -> None:
    lists = {
        "dp_x": [1, 2, 3],
        "dp_y": [1, 2, 3],
        "dp_I": [0.0, 25.0, 7.0],
        "dp_U": [0.1, 0.2, 1.01],
        "dp_V": [0.1, 0.2, 0.3],
    }
    points = read_points({"bbox": BBOX, **lists}, 256.0)
    assert points is not None
    assert points.parts.tolist() == [7]
    assert points.uv[0, 0] == 1.0
    assert read_points({"bbox": BBOX}, 256.0) is None
    assert read_points({"bbox": BBOX, **lists, "dp_I": []}, 256.0) is None
    with pytest.raises(FormatError, match="do not go together"):
        read_points({"id": 5, "bbox": BBOX, **lists, "dp_U": [0.5]}, 256.0)
    with pytest.raises(FormatError, match="do not go together"):
        read_points({"id": 5, **lists}, 256.0)


def test_masks_of_the_box() -> None:
    parts = np.zeros((100, 80), np.uint8)
    parts[20:60, 30:70], parts[60:80, 30:50], parts[60:80, 50:70] = 2, 7, 24
    written = write_masks(parts, [30.0, 20.0, 40.0, 60.0])
    assert len(written) == 14
    assert [label for label, mask in enumerate(written, start=1) if mask] == sorted({*COARSE_14[[2, 7, 24]].tolist()})
    labels = read_masks(written)
    assert labels.shape == (256, 256)
    assert labels[10, 10] == 1
    assert labels[250, 10] == 6
    assert labels[250, 250] == 14
    assert (labels > 0).all()
    assert read_masks(written[0]).max() == 1


def test_segmentations_of_no_known_kind() -> None:
    for wrong in ("text", {"size": [3, 3]}, {"counts": 5, "size": [3, 3]}, [], [["a", "b"]]):
        with pytest.raises(FormatError):
            decode_mask(wrong, 3, 3)


def test_vertices_are_near_the_surface_points_they_stand_for() -> None:
    body = load_body()
    atlas = atlas_of(body)
    rng = np.random.default_rng(1)
    face = rng.integers(0, len(body.faces), 500)
    corners = rng.dirichlet([1, 1, 1], 500)
    part, u, v = atlas.iuv_from_surface(face, corners)
    points = DensePoints(np.zeros((500, 2), np.float32), part, np.stack([u, v], 1).astype(np.float32))
    vertices = points.vertices(atlas)
    assert vertices.max() < body.vertex_count
    at = (body.v_template[body.faces[face]] * corners[..., None]).sum(axis=1)
    nearest = np.linalg.norm(body.v_template[body.faces[face]] - at[:, None], axis=2).max(axis=1)
    away = np.linalg.norm(body.v_template[vertices] - at, axis=1)
    # Never much farther than the farthest corner of its own triangle: charts stretch the surface a little.
    assert (away <= 2.0 * nearest + 1e-6).mean() > 0.98
    assert away.max() < 0.05
