from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from posekit.datasets.h36m_masks import SilhouetteFile, silhouette_path
from posekit.errors import FormatError, MissingFileError


def write_silhouettes(path: Path, masks: list[np.ndarray]) -> Path:
    """As MATLAB v7.3 has cell arrays: references, and the arrays transposed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("#refs#")
        references = [group.create_dataset(f"m{i}", data=mask.T).ref for i, mask in enumerate(masks)]
        table = file.create_dataset("Masks", (len(masks), 1), dtype=h5py.ref_dtype)
        for row, reference in enumerate(references):
            table[row, 0] = reference
    return path


def test_masks_come_back_upright(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, (6, 9)).astype(np.uint8) for _ in range(3)]
    path = silhouette_path(tmp_path, "S1", "S1 Directions 1", "54138969")
    assert path == tmp_path / "S1/MySegmentsMat/ground_truth_bs/Directions 1.54138969.mat"
    with SilhouetteFile(write_silhouettes(path, masks)) as file:
        assert len(file) == 3
        for frame, mask in enumerate(masks):
            assert (file.mask(frame) == (mask > 0)).all()
        with pytest.raises(IndexError):
            file.mask(3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        SilhouetteFile(tmp_path / "none.mat")
    (tmp_path / "text.mat").write_text("no HDF5")
    with pytest.raises(FormatError, match=r"v7\.3"):
        SilhouetteFile(tmp_path / "text.mat")
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["Boxes"] = np.zeros(3)
    with pytest.raises(FormatError, match="Masks"):
        SilhouetteFile(tmp_path / "other.mat")
    flat = write_silhouettes(tmp_path / "flat.mat", [np.zeros(7, np.uint8)])
    with SilhouetteFile(flat) as file, pytest.raises(FormatError, match="no mask"):
        file.mask(0)
