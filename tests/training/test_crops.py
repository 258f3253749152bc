"""Batches of crops from data sets made here: one bright blob marks one wrist in every picture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.smpl_file import BodyData, load_body
from posekit.datasets.crops import apply_affine, crop_image, decode_image, encode_image, inverse_affine, square_crop
from posekit.errors import DataError, FormatError, InputError
from posekit.records import Camera, Clip, camera_columns, cameras_from_columns, clip_columns
from posekit.registration.bodies import BodyRows, bodies_of
from posekit.registration.labels import LabelReader, LabelSource
from posekit.skeleton.catalog import COCO17, H36M17
from posekit.skeleton.skeleton import Skeleton
from posekit.training.augmentation import Augmentation
from posekit.training.crops import CropBatch, CropPart, CropSource

FRAMES, VIEWS = 6, 2
SAMPLES = FRAMES * VIEWS
STORED, SIZE = 160, 48
SHARED = ("left_wrist", "right_wrist", "left_hip", "right_hip", "left_shoulder", "right_shoulder", "nose", "pelvis")
EVERYTHING = Augmentation(flip=0.5, rotation_p=1.0)


@pytest.fixture(scope="module")
def body() -> BodyData:
    return load_body(None)


def camera(name: str) -> Camera:
    intrinsics = np.array([[1000.0, 0.0, 500.0], [0.0, 1000.0, 400.0], [0.0, 0.0, 1.0]])
    return Camera(name=name, width=1000, height=800, intrinsics=intrinsics, posed=False)


def blob(centre: np.ndarray, size: int, sigma: float) -> np.ndarray:
    y, x = np.indices((size, size))
    bright = 230.0 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2.0 * sigma**2))
    return np.repeat(bright[..., None], 3, axis=-1).round().astype(np.uint8)


def write_dataset(
    path: Path,
    *,
    skeleton: Skeleton = H36M17,
    stored: int = STORED,
    kind: Any = "jpeg",
    images: bool = True,
    damage: dict[int, bytes] | None = None,
    seed: int = 0,
) -> Path:
    """Samples of one person in two views; the stored crops have a margin of their own."""
    random = np.random.default_rng(seed)
    frame, view = (axis.ravel() for axis in np.indices((FRAMES, VIEWS)))
    low = random.uniform(50.0, 300.0, (SAMPLES, 2))
    boxes = np.concatenate([low, low + random.uniform(100.0, 300.0, (SAMPLES, 2))], axis=1)
    keypoints = (
        boxes[:, None, :2] + random.uniform(0.2, 0.8, (SAMPLES, len(skeleton), 2)) * (boxes[:, 2:] - low)[:, None]
    )
    confidence = random.uniform(0.5, 1.0, (SAMPLES, len(skeleton), 1))
    wrist = keypoints[:, skeleton.index("left_wrist")]
    wrist[:] = boxes.reshape(-1, 2, 2).mean(1) + random.uniform(-30.0, 30.0, (SAMPLES, 2))
    maps = np.stack([square_crop(box, stored, 1.4) for box in boxes])
    marks = [apply_affine(crop, point[None])[0] for crop, point in zip(maps, wrist, strict=True)]
    pictures = [encode_image(blob(mark, stored, stored / 32.0), kind, quality=98) for mark in marks]
    for row, content in (damage or {}).items():
        pictures[row] = np.frombuffer(content, np.uint8)
    with ArtifactWriter(path, Header("dataset", "test", skeleton=skeleton)) as writer:
        writer.append("cameras", camera_columns([camera("a"), camera("b")]))
        writer.append("sequences", clip_columns([Clip("walk", 50.0)]))
        writer.append("videos", {"sequence": [0], "camera": [0], "path": ["a.mp4"], "frames": [FRAMES]})
        zero = np.zeros_like(frame)
        samples: dict[str, Any] = {"sequence": zero, "frame": frame, "person": zero, "camera": view, "bbox": boxes}
        samples["keypoints2d"] = np.concatenate([keypoints, confidence], axis=-1)
        if images:
            samples |= {"image": pictures, "crop_from_image": maps}
        writer.append("samples", samples)
    return path


def write_dense(path: Path, body: BodyData, *, meant: str | None = None, most: int = 30) -> Path:
    """Correspondences of all samples but the first, of different number."""
    random = np.random.default_rng(5)
    frame, view = (axis.ravel()[1:] for axis in np.indices((FRAMES, VIEWS)))
    counts = random.integers(5, most, len(frame))
    counts[3] = most
    zero = np.zeros_like(frame)
    facts = {} if meant is None else {"body_digest": meant}
    with ArtifactWriter(path, Header("correspondences", "test", facts=facts)) as writer:
        columns = {
            "pixels": [random.uniform(100.0, 500.0, (count, 2)) for count in counts],
            "vertices": [random.integers(body.vertex_count, size=count) for count in counts],
            "weights": [random.uniform(0.5, 1.0, count) for count in counts],
        }
        writer.append("samples", {"sequence": zero, "frame": frame, "person": zero, "camera": view} | columns)
    return path


def write_fits(
    path: Path, body: BodyData, *, weak: bool = True, meant: str | None = None, stretch: float = 1.0
) -> Path:
    """Fits of all samples but the last, of which the first is not ok; in crops `stretch` times as large as the labels'."""
    random = np.random.default_rng(6)
    frame, view = (axis.ravel()[:-1] for axis in np.indices((FRAMES, VIEWS)))
    count = len(frame)
    zero = np.zeros_like(frame)
    with Artifact(path.parent / "data.h5") as dataset:
        crops = label_crops(dataset, stretch)[:-1]
    columns: dict[str, Any] = {"sequence": zero, "frame": frame, "person": zero, "camera": view}
    columns |= {
        "pose": random.normal(0.0, 0.3, (count, 24, 3)),
        "segment_scales": random.uniform(0.8, 1.2, (count, 24)),
        "betas": np.zeros((count, 10)),
        "orientation": random.normal(0.0, 1.0, (count, 3, 3)),
        "translation": random.normal(0.0, 0.2, (count, 3)) * [1.0, 1.0, 0.0],
        "scale": random.uniform(0.5, 1.0, count),
        "losses": np.zeros((count, 1)),
        "residual_px": np.zeros(count),
        "ok": np.arange(count) > 0,
        "reason": [""] * count,
    }
    facts = {"body": meant or body.digest}
    with ArtifactWriter(
        path, Header("fits", "test", skeleton=Skeleton("rig", body.joint_names, body.parents), facts=facts)
    ) as writer:
        writer.append("cameras", camera_columns([camera("a"), camera("b")]))
        writer.append("fits", columns | ({"crop_from_image": crops} if weak else {}))
    return path


def label_crops(dataset: Artifact, stretch: float = 1.0) -> np.ndarray:
    """Pixels of the image to -1..1 over 1.2 times the box, or over more than that around another place."""
    box = dataset.read("samples", "bbox").astype(np.float64)
    side = stretch * 1.2 * (box[:, 2:] - box[:, :2]).max(1)
    crops = np.zeros((len(box), 2, 3))
    crops[:, 0, 0] = crops[:, 1, 1] = 2.0 / side
    centre = (box[:, :2] + box[:, 2:]) / 2.0 + 20.0 * (stretch - 1.0)
    crops[:, :, 2] = -2.0 * centre / side[:, None]
    return crops


def part_of(
    dataset: Path,
    *,
    dense: Path | None = None,
    fits: Path | None = None,
    require_fit: bool = False,
    joints: tuple[str, ...] = H36M17.joints,
    weak: bool = True,
) -> CropPart:
    data = Artifact(dataset)
    cameras = cameras_from_columns(data.table("cameras"))
    source = LabelSource(data, cameras, None, None if dense is None else Artifact(dense), joints, weak)
    bodies = bodies_of(data, joint_views=False, usable=np.ones(VIEWS, dtype=bool), stride=1)
    return CropPart(data, LabelReader(source), bodies, None if fits is None else Artifact(fits), require_fit)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, body: BodyData) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    write_dataset(folder / "data.h5")
    write_dense(folder / "dense.h5", body)
    write_fits(folder / "fits.h5", body)
    return folder


def source_of(
    folder: Path, body: BodyData, augmentation: Augmentation | None = EVERYTHING, seed: int = 3, **more: Any
) -> CropSource:
    part = part_of(folder / "data.h5", dense=folder / "dense.h5", fits=folder / "fits.h5")
    return CropSource([part], SIZE, augmentation, seed, body, **more)


def tensors(batch: CropBatch) -> dict[str, Tensor]:
    found = {"images": batch.images, "fitted": batch.fitted, "samples": batch.samples}
    for part in (batch.targets, batch.fits):
        values = {field.name: getattr(part, field.name) for field in fields(part)}
        found |= {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return found


def assert_same(first: CropBatch, second: CropBatch) -> None:
    for name, value in tensors(first).items():
        assert torch.equal(value, tensors(second)[name]), name


def centroid(picture: np.ndarray) -> np.ndarray:
    bright = picture.astype(np.float64).sum(-1)
    bright[bright < 0.05 * bright.max()] = 0.0
    y, x = np.indices(bright.shape)
    return np.array([(x * bright).sum(), (y * bright).sum()]) / bright.sum()


@pytest.mark.parametrize(
    ("stored", "size", "kind"), [(160, 96, "jpeg"), (256, 64, "jpeg"), (256, 64, "png"), (500, 48, "jpeg")]
)
def test_the_mark_is_found_where_the_key_point_says(
    tmp_path: Path, body: BodyData, stored: int, size: int, kind: str
) -> None:
    part = part_of(write_dataset(tmp_path / "data.h5", stored=stored, kind=kind))
    wrists = H36M17.indices("left_wrist", "right_wrist")
    flipped = 0
    for augmentation in (None, Augmentation(flip=0.0, rotation_p=0.0, scale_sd=0.0), EVERYTHING):
        batch = CropSource([part], size, augmentation, 3, body).batch(np.arange(SAMPLES), 0)
        for row in range(SAMPLES):
            found = centroid(batch.images[row].numpy())
            keypoints = (batch.targets.keypoints[row, 0].numpy() + 1.0) * size / 2.0 - 0.5
            off = np.linalg.norm(keypoints[list(wrists)] - found, axis=1)
            assert off.min() < 0.12, (row, off)
            assert augmentation is EVERYTHING or off[0] < 0.12
            flipped += bool(off[1] < 0.12)
    assert 1 <= flipped <= SAMPLES - 1


def test_without_augmentation_it_is_the_plain_crop(folder: Path, body: BodyData) -> None:
    size = 112  # nothing shrinks so far that it is averaged beforehand
    part = part_of(folder / "data.h5", dense=folder / "dense.h5")
    source = CropSource([part], size, None, 3, body)
    batch = source.batch(np.arange(SAMPLES), 7)
    rows = part.bodies.samples[:, 0]
    stored = part.dataset.read_ragged("samples", "image", rows)
    maps = part.dataset.read("samples", "crop_from_image", rows)
    for row, box in enumerate(part.dataset.read("samples", "bbox", rows).astype(np.float64)):
        plain = square_crop(box, size, 1.2)
        back = inverse_affine(maps[row])
        both = np.column_stack([plain[:, :2] @ back[:, :2], plain[:, :2] @ back[:, 2] + plain[:, 2]])
        expected = crop_image(decode_image(stored[row]), both, size).astype(int)
        assert np.abs(batch.images[row].numpy().astype(int) - expected).max() <= 1
    targets, crops = part.labels.read(part.bodies)
    np.testing.assert_allclose(source.crops, crops[:, 0])
    for name in ("keypoints", "keypoint_weights", "joints", "joint_weights", "points", "point_weights", "vertices"):
        assert torch.equal(getattr(batch.targets, name), getattr(targets, name)), name
    assert batch.targets.weak and not batch.targets.linked.any()


def test_settings_that_change_nothing_leave_every_bit(folder: Path, body: BodyData) -> None:
    idle = Augmentation(flip=0.0, gain=0.0, scale_sd=0.0, rotation_p=0.0)
    rows = np.arange(SAMPLES)
    assert_same(source_of(folder, body, idle).batch(rows, 1), source_of(folder, body, None).batch(rows, 1))


def test_only_the_gain_touches_colours(folder: Path, body: BodyData) -> None:
    rows = np.arange(SAMPLES)
    plain = source_of(folder, body, None).batch(rows, 1)
    coloured = source_of(folder, body, Augmentation(flip=0.0, scale_sd=0.0, rotation_p=0.0)).batch(rows, 1)
    for name, value in tensors(plain).items():
        assert (name == "images") != torch.equal(value, tensors(coloured)[name]), name
    draws = Augmentation().draw([np.random.default_rng([3, 1, row]) for row in rows])
    expected = (plain.images * torch.from_numpy(draws.gain)[:, None, None]).clamp(0.0, 255.0)
    assert (coloured.images - expected).abs().max() <= 1.01


def test_the_same_from_any_thread_in_any_order(folder: Path, body: BodyData) -> None:
    source = source_of(folder, body)
    jobs = [(np.array(rows), epoch) for epoch in range(3) for rows in ([0, 5, 2], [7, 1, 3], [4, 4, 6], [10, 8, 9])]
    expected = [source_of(folder, body).batch(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: source.batch(*job), [*jobs[::-1], *jobs]))
    for batch, other in zip(found, [*expected[::-1], *expected], strict=True):
        assert_same(batch, other)


def test_a_sample_does_not_depend_on_its_batch(folder: Path, body: BodyData) -> None:
    source = source_of(folder, body, points=10)
    whole = source.batch(np.arange(SAMPLES), 2)
    for row in range(SAMPLES):
        alone = source.batch(np.array([row]), 2)
        for name, value in tensors(alone).items():
            there = tensors(whole)[name][row]
            if name in ("points", "point_weights", "vertices"):
                assert not there[:, value.shape[2] :].any()
                there = there[:, : value.shape[2]]
            assert torch.equal(value[0], there), name


def test_epochs_and_seeds_differ(folder: Path, body: BodyData) -> None:
    rows = np.arange(SAMPLES)
    batches = [source_of(folder, body, seed=seed).batch(rows, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(batches[first].images, batches[second].images)
        assert not torch.equal(batches[first].targets.keypoints, batches[second].targets.keypoints)


def test_too_many_correspondences_are_chosen_from(folder: Path, body: BodyData) -> None:
    whole, some = (source_of(folder, body, None, points=most).batch(np.arange(SAMPLES), 0) for most in (500, 10))
    again = source_of(folder, body, None, points=10).batch(np.arange(SAMPLES), 1)
    assert whole.targets.points.shape[2] == 30 and some.targets.points.shape[2] == 10
    assert not torch.equal(some.targets.vertices, again.targets.vertices)
    for row in range(SAMPLES):
        columns = (whole.targets.points[row, 0], whole.targets.vertices[row, 0, :, None])
        every = {tuple(values) for values in torch.cat(columns, dim=1).tolist()}
        kept = whole.targets.point_weights[row, 0].count_nonzero()
        chosen = torch.cat([some.targets.points[row, 0], some.targets.vertices[row, 0, :, None]], dim=1)
        chosen = chosen[some.targets.point_weights[row, 0] > 0]
        assert len({tuple(values) for values in chosen.tolist()} & every) == len(chosen) == min(10, int(kept))
    assert not whole.targets.point_weights[0].any(), "the first sample has none"


def test_correspondences_beyond_the_memory_are_read_for_each_batch(folder: Path, body: BodyData) -> None:
    rows = np.array([3, 0, 9, 5])
    streaming = source_of(folder, body, points=10, point_bytes=100)
    assert_same(streaming.batch(rows, 4), source_of(folder, body, points=10).batch(rows, 4))


def test_fits_come_in_the_units_of_the_labels(tmp_path: Path, folder: Path, body: BodyData) -> None:
    write_dataset(tmp_path / "data.h5")
    write_fits(tmp_path / "fits.h5", body)
    write_fits(tmp_path / "other.h5", body, stretch=1.5)
    rows = np.arange(SAMPLES)
    same, other = (
        CropSource([part_of(tmp_path / "data.h5", fits=tmp_path / name)], SIZE, None, 0, body).batch(rows, 0)
        for name in ("fits.h5", "other.h5")
    )
    part = part_of(tmp_path / "data.h5", fits=tmp_path / "fits.h5")
    assert same.fitted.tolist() == other.fitted.tolist()
    assert int(same.fitted.sum()) == SAMPLES - 2
    keys = [tuple(k) for k in np.stack([part.bodies.frame, part.bodies.camera], axis=1).tolist()]
    assert part.fits is not None
    table = part.fits.table("fits")
    plain, stretched = (label_crops(part.dataset, stretch) for stretch in (1.0, 1.5))

    def sample(row: int) -> int:
        return int(part.bodies.samples[row, 0])

    for fit in range(1, SAMPLES - 1):
        row = keys.index((int(table["frame"][fit]), int(table["camera"][fit])))
        for name in ("pose", "segment_scales", "betas", "orientation", "translation", "scale"):
            stored = torch.from_numpy(np.asarray(table[name][fit]))
            assert torch.equal(getattr(same.fits, name)[row], stored), name
        # Another crop: the body stays where it is in the image, at its size there.
        for batch, crops in ((same, plain), (other, stretched)):
            pixels = (batch.fits.translation[row, :2].numpy() - plain[sample(row), :, 2]) / plain[sample(row), 0, 0]
            expected = (table["translation"][fit][:2] - crops[sample(row), :, 2]) / crops[sample(row), 0, 0]
            np.testing.assert_allclose(pixels, expected, rtol=1e-5)
        ratio = plain[sample(row), 0, 0] / stretched[sample(row), 0, 0]
        assert ratio == pytest.approx(1.5)
        torch.testing.assert_close(other.fits.scale[row], torch.tensor(ratio * float(table["scale"][fit])).float())
    resting = ~same.fitted
    assert not same.fits.pose[resting].any() and not same.fits.translation[resting].any()
    assert (same.fits.scale[resting] == 1).all() and (same.fits.segment_scales[resting] == 1).all()


def test_bodies_without_a_good_fit_can_be_left_out(folder: Path, body: BodyData) -> None:
    source = CropSource([part_of(folder / "data.h5", fits=folder / "fits.h5", require_fit=True)], SIZE, None, 0, body)
    assert len(source) == SAMPLES - 2 == len(source.bodies[0])
    batch = source.batch(np.arange(len(source)), 0)
    assert batch.fitted.all()
    every = source_of(folder, body, None)
    chosen = np.flatnonzero(every.batch(np.arange(SAMPLES), 0).fitted.numpy())
    assert torch.equal(batch.targets.keypoints, every.batch(chosen, 0).targets.keypoints)
    assert torch.equal(batch.images, every.batch(chosen, 0).images)


def test_data_sets_one_after_the_other(folder: Path, tmp_path: Path, body: BodyData) -> None:
    coco = write_dataset(tmp_path / "data.h5", skeleton=COCO17, seed=1, stored=100)
    dense = write_dense(tmp_path / "dense.h5", body, most=50)
    first = part_of(folder / "data.h5", fits=folder / "fits.h5", joints=SHARED)
    second = part_of(coco, dense=dense, joints=SHARED)
    both = CropSource([first, second], SIZE, EVERYTHING, 3, body)
    assert len(both) == 2 * SAMPLES and both.part.tolist() == [0] * SAMPLES + [1] * SAMPLES
    mixed = both.batch(np.array([SAMPLES + 4, 1, SAMPLES, 5]), 0)
    assert mixed.samples.tolist() == [SAMPLES + 4, 1, SAMPLES, 5]
    assert not mixed.targets.point_weights[[1, 3]].any() and mixed.targets.point_weights[0].any()
    assert (mixed.targets.keypoint_weights[1, 0] > 0).tolist() == [name in H36M17 for name in SHARED]
    assert (mixed.targets.keypoint_weights[0, 0] > 0).tolist() == [name in COCO17 for name in SHARED]
    assert not mixed.fitted[[0, 2]].any()
    alone = CropSource([first], SIZE, EVERYTHING, 3, body).batch(np.array([1, 5]), 0)
    assert torch.equal(mixed.images[[1, 3]], alone.images)
    assert torch.equal(mixed.targets.keypoints[[1, 3]], alone.targets.keypoints)
    assert torch.equal(mixed.fits.pose[[1, 3]], alone.fits.pose)


def test_a_batch_knows_its_length_and_moves(folder: Path, body: BodyData) -> None:
    batch = source_of(folder, body).batch(np.array([1, 2, 3]), 0)
    assert len(batch) == 3 and batch.images.shape == (3, SIZE, SIZE, 3)
    moved = batch.to(torch.device("meta"))
    assert all(value.device.type == "meta" for value in tensors(moved).values())
    assert_same(batch, batch.to(torch.device("cpu")))


def test_pictures_are_needed(tmp_path: Path, body: BodyData) -> None:
    part = part_of(write_dataset(tmp_path / "data.h5", images=False))
    with pytest.raises(InputError, match="--crops"):
        CropSource([part], SIZE, None, 0, body)


def test_a_broken_picture_is_named(tmp_path: Path, body: BodyData) -> None:
    part = part_of(write_dataset(tmp_path / "data.h5", damage={6: b"\xff\xd8 no picture"}))
    source = CropSource([part], SIZE, None, 0, body)
    sample = int(np.flatnonzero(part.bodies.samples[:, 0] == 6)[0])
    source.batch(np.array([s for s in range(SAMPLES) if s != sample]), 0)
    with pytest.raises(FormatError, match=r"row 6 of the samples of .*data\.h5"):
        source.batch(np.array([0, sample]), 0)


def test_bodies_without_a_picture_are_left_out_and_counted(tmp_path: Path, body: BodyData) -> None:
    part = part_of(write_dataset(tmp_path / "data.h5", damage={6: b"", 2: b""}))
    source = CropSource([part], SIZE, None, 0, body)
    assert len(source) == SAMPLES - 2 and source.without_picture == 2
    assert not np.isin(source.bodies[0].samples, [2, 6]).any()
    source.batch(np.arange(len(source)), 0)


def test_nothing_left(tmp_path: Path, folder: Path, body: BodyData) -> None:
    with pytest.raises(DataError, match="no sample"):
        CropSource([part_of(folder / "data.h5", require_fit=True)], SIZE, None, 0, body)
    empty = part_of(write_dataset(tmp_path / "data.h5", damage=dict.fromkeys(range(SAMPLES), b"")))
    with pytest.raises(DataError, match="no sample"):
        CropSource([empty], SIZE, None, 0, body)


def test_an_empty_part_beside_another(folder: Path, body: BodyData) -> None:
    parts = [part_of(folder / "data.h5", require_fit=True), part_of(folder / "data.h5")]
    source = CropSource(parts, SIZE, None, 0, body)
    assert len(source) == SAMPLES and set(source.part) == {1}
    source.batch(np.arange(SAMPLES), 0)


def test_labels_and_fits_of_another_body_are_refused(tmp_path: Path, folder: Path, body: BodyData) -> None:
    write_dataset(tmp_path / "data.h5")
    dense = write_dense(tmp_path / "dense.h5", body, meant="0" * 64)
    with pytest.raises(InputError, match="vertices of another body"):
        CropSource([part_of(folder / "data.h5", dense=dense)], SIZE, None, 0, body)
    fits = write_fits(tmp_path / "fits.h5", body, meant="0" * 64)
    with pytest.raises(InputError, match="fits of another body"):
        CropSource([part_of(folder / "data.h5", fits=fits)], SIZE, None, 0, body)


def test_fits_to_posed_cameras_are_refused(tmp_path: Path, folder: Path, body: BodyData) -> None:
    write_dataset(tmp_path / "data.h5")
    fits = write_fits(tmp_path / "fits.h5", body, weak=False)
    with pytest.raises(InputError, match="--camera weak"):
        CropSource([part_of(folder / "data.h5", fits=fits)], SIZE, None, 0, body)


def test_parts_that_do_not_fit_together(folder: Path, body: BodyData) -> None:
    part = part_of(folder / "data.h5")
    with pytest.raises(ValueError, match="same joints"):
        CropSource([part, part_of(folder / "data.h5", joints=SHARED)], SIZE, None, 0, body)
    with pytest.raises(ValueError, match="weak perspective"):
        CropSource([part_of(folder / "data.h5", weak=False)], SIZE, None, 0, body)
    two = BodyRows(*(getattr(part.bodies, f.name) for f in fields(BodyRows)[:-1]), np.zeros((SAMPLES, 2), np.int64))
    with pytest.raises(ValueError, match="one view"):
        CropSource([replace(part, bodies=two)], SIZE, None, 0, body)
