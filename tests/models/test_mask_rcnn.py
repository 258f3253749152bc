"""The real networks with weights that are random but for a few numbers; trained ones cannot be part of the tests."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.detection.mask_rcnn import MaskRCNN_ResNet50_FPN_Weights

from posekit.errors import DependencyError, FormatError, MissingFileError
from posekit.models import mask_rcnn
from posekit.models.mask_rcnn import MaskDetector, MaskNetwork, build_mask_rcnn

SIDE = 48


def weights(network: MaskNetwork) -> dict[str, torch.Tensor]:
    """Large boxes, all of them people, or cats where the picture says so."""
    torch.manual_seed(0)
    state = build_mask_rcnn(network, SIDE, 0.5).state_dict()
    for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight"):
        state[f"roi_heads.box_predictor.{name}"].zero_()
    state["roi_heads.box_predictor.cls_score.bias"][1] = 6.0
    state["rpn.head.bbox_pred.bias"].view(-1, 4)[:, 2:] = 1.5
    return state


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second version's, which is the faster with such weights."""
    path = tmp_path_factory.mktemp("weights") / "v2.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in weights("v2").items()}, path)
    return path


@pytest.fixture(scope="module")
def detector(file: Path) -> MaskDetector:
    return MaskDetector("v2", file, image_side=SIDE)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (64, 80, 3)).astype(np.uint8) for _ in range(2)]


def test_people_are_those_of_torchvisions_own_forward(detector: MaskDetector) -> None:
    images = pictures()
    found = detector(images)
    bias = detector.model.roi_heads.box_predictor.cls_score.bias
    with torch.no_grad():
        theirs = detector.model([torch.from_numpy(i).permute(2, 0, 1).float() / 255.0 for i in images])
    for mine, whole in zip(found, theirs, strict=True):
        assert len(mine.scores) > 0
        assert (whole["labels"] == 1).all()
        np.testing.assert_allclose(mine.scores, whole["scores"].numpy(), atol=1e-6)
        np.testing.assert_allclose(mine.boxes + 0.5, whole["boxes"].numpy(), atol=1e-4)
        assert (mine.masks == (whole["masks"][:, 0] > 0.5).numpy()).all()
        assert mine.masks.shape[1:] == (64, 80)
        assert mine.masks.any()
    with torch.no_grad():
        bias[1], bias[17] = 0.0, 6.0
        cats, whole = detector(images[:1])[0], detector.model([torch.zeros(3, 64, 80)])[0]
        bias[1], bias[17] = 6.0, 0.0
    assert (whole["labels"] == 17).all() and len(whole["labels"])
    assert cats.masks.shape == (0, 64, 80)


def test_what_a_picture_shows_does_not_depend_on_the_batch(detector: MaskDetector) -> None:
    together = detector(pictures())
    for one, image in zip(together, pictures(), strict=True):
        alone = detector([image])[0]
        np.testing.assert_allclose(alone.boxes, one.boxes, atol=1e-3)
        assert (alone.masks != one.masks).mean() < 1e-3


def test_released_weights_of_the_first_version_have_the_names_of_their_time() -> None:
    """Since 2022 torchvision calls some layers otherwise; its first release keeps the old names, and no counts."""
    state = weights("v1")
    old = {}
    for name, value in state.items():
        for part in ("fpn.inner_blocks.", "fpn.layer_blocks."):
            if part in name:
                name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for layer in range(4):
            name = name.replace(f"mask_head.{layer}.0.", f"mask_head.mask_fcn{layer + 1}.")
        old[name] = value
    assert old.keys() != state.keys()
    model = build_mask_rcnn("v1")
    mask_rcnn._load(model, old, "old", "v1")
    assert all((model.state_dict()[name] == value).all() for name, value in state.items())
    norms = [part for part in model.modules() if type(part).__name__ == "FrozenBatchNorm2d"]
    assert norms and all(norm.eps == 0.0 for norm in norms)


def test_weights_of_something_else_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="Mask R-CNN v1"):
        MaskDetector("v1", file)
    with pytest.raises(MissingFileError):
        MaskDetector("v2", tmp_path / "none.pth")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "pickled.pth")
    with pytest.raises(FormatError, match="safely"):
        MaskDetector("v2", tmp_path / "pickled.pth")


def test_building_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    build_mask_rcnn("v1")
    assert (torch.rand(3) == wanted).all()


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(MaskRCNN_ResNet50_FPN_Weights, "get_state_dict", refuse)
    with pytest.raises(DependencyError, match=r"maskrcnn_resnet50_fpn_coco-bf2d0c1e\.pth.*--weights-file"):
        MaskDetector("v1")
