"""Trunks against torchvision's own, and what is refused as weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet

from posekit.errors import ConfigError, DependencyError, FormatError, MissingFileError
from posekit.models import backbone as module
from posekit.models.backbone import (
    Backbone,
    build_backbone,
    normalised,
    normalised_colours,
    plain_colours,
    read_weights,
)


def parameters(network: torch.nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


@pytest.mark.parametrize(
    ("name", "count", "features"),
    [("resnet18", 11_176_512, 512), ("resnet34", 21_284_672, 512), ("resnet50", 23_508_032, 2048)],
)
def test_trunks_have_the_sizes_of_their_papers(name: module.BackboneName, count: int, features: int) -> None:
    trunk = Backbone(name)
    assert parameters(trunk) == count
    assert trunk.feature_count == features


def test_a_trunk_computes_what_torchvision_computes(tmp_path: Path) -> None:
    theirs = resnet.resnet18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = build_backbone("resnet18", file=tmp_path / "resnet18.pth").eval()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)
        assert ours.feature_map(images).shape == (2, 512, 2, 3)


def test_weights_come_from_the_seed_and_leave_the_global_random_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = Backbone("resnet10", 1), Backbone("resnet10", 1), Backbone("resnet10", 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.layer2[0].conv1.weight, again.layer2[0].conv1.weight)
    assert not torch.equal(first.layer2[0].conv1.weight, other.layer2[0].conv1.weight)
    weight = first.layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx((2.0 / (256 * 9)) ** 0.5, rel=0.02)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert all(not values.is_meta for values in first.state_dict().values())


def test_weights_are_read_from_both_kinds_of_files_and_from_checkpoints(tmp_path: Path) -> None:
    state = Backbone("resnet10", 3).state_dict()
    contiguous = {name: values.contiguous() for name, values in state.items()}
    save_file(contiguous, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{name}": values for name, values in state.items()}}, tmp_path / "b.pth")
    for file in ("a.safetensors", "b.pth"):
        loaded = build_backbone("resnet10", file=tmp_path / file, seed=4).state_dict()
        assert all(torch.equal(loaded[name], values) for name, values in state.items())


def test_weights_of_another_trunk_are_refused() -> None:
    with pytest.raises(FormatError, match=r"not those of a resnet18.*missing"):
        Backbone("resnet18").load(Backbone("resnet10").state_dict(), "somewhere")


class _Touch:
    """Pickles as a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"conv1.weight": _Touch(trap)}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Touch(trap), protocol=2))
    for file in ("bad.pth", "plain.pth"):
        with pytest.raises(FormatError, match="read safely"):
            read_weights(tmp_path / file)
    assert not trap.exists()


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="weights not found"):
        read_weights(tmp_path / "none.pth")
    (tmp_path / "noise.pth").write_bytes(b"not a file of tensors")
    (tmp_path / "noise.safetensors").write_bytes(b"not a file of tensors")
    torch.save([1, 2], tmp_path / "list.pth")
    for file in ("noise.pth", "noise.safetensors", "list.pth"):
        with pytest.raises(FormatError):
            read_weights(tmp_path / file)


def test_imagenet_weights_are_asked_for_safely_and_offline_the_user_learns_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, object] = {}

    def fails(url: str, **options: object) -> None:
        asked.update(options, url=url)
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fails)
    with pytest.raises(DependencyError, match=r"no route to host.*--weights-file.*--weights none"):
        build_backbone("resnet50", "imagenet")
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True
    with pytest.raises(ConfigError, match="no ImageNet weights for resnet10"):
        build_backbone("resnet10", "imagenet")


def test_images_are_normalised_as_torchvision_does() -> None:
    images = torch.randint(256, (2, 4, 5, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = resnet.ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=[4, 5], resize_size=[4, 5])
    ours = normalised(images)
    mean, std = torch.tensor(expected.mean), torch.tensor(expected.std)
    torch.testing.assert_close(ours, ((images / 255.0 - mean) / std).permute(0, 3, 1, 2))
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_colours_in_unit_range_are_normalised_the_same_and_back() -> None:
    images = torch.randint(256, (2, 4, 5, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    plain = images.permute(0, 3, 1, 2) / 255.0
    torch.testing.assert_close(normalised_colours(plain), normalised(images))
    torch.testing.assert_close(plain_colours(normalised_colours(plain)), plain)


def test_weights_within_checkpoints_of_trainings_are_found(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "optimizer": {}, "epoch": 3}, tmp_path / "c.pt")
    assert torch.equal(read_weights(tmp_path / "c.pt")["a"], torch.ones(2))


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet50"])
def test_every_second_cell_of_a_dilated_trunk_is_one_of_the_trunk(name: module.BackboneName) -> None:
    trunk = Backbone(name).eval()
    images = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coarse = trunk.feature_map(images)
        for _ in range(2):  # the second time nothing changes
            trunk.dilate_last_stage()
            fine = trunk.feature_map(images)
            assert fine.shape[2:] == (6, 4)
            torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, rtol=1e-4, atol=1e-4)


def test_stem_and_stages_make_the_feature_map() -> None:
    trunk = Backbone("resnet10").eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert trunk.stem(images).shape == (1, 64, 16, 16)
        torch.testing.assert_close(trunk.stages(trunk.stem(images)), trunk.feature_map(images))
