from __future__ import annotations

import json
import subprocess
import sys

import pytest

from posekit.errors import InputError
from posekit.evaluation.protocols import METRIC_OF_ALIGNMENT, PROTOCOLS, narrowed, protocol_by_name
from posekit.skeleton.catalog import CATALOG


def test_protocols_name_real_skeletons_and_joints() -> None:
    everything = {joint for skeleton in CATALOG.values() for joint in skeleton.joints}
    for protocol in PROTOCOLS.values():
        assert protocol.skeleton is None or protocol.skeleton in CATALOG
        assert set(protocol.roots) <= everything
        assert protocol.headline in protocol.alignments
        assert set(protocol.alignments) <= set(METRIC_OF_ALIGNMENT)


def test_aliases_and_unknown_names() -> None:
    assert protocol_by_name("p2").name == "h36m-hmr-p2"
    with pytest.raises(InputError, match="h36m-spin-p1"):
        protocol_by_name("p9")


@pytest.mark.parametrize(
    ("name", "subject", "camera", "trial", "frame", "selected"),
    [
        ("p1", "S9", "54138969", 2, 10, True),
        ("p1", "S9", "54138969", 2, 11, False),
        ("p1", "S1", "54138969", 2, 10, False),
        ("p2", "S11", "60457274", 1, 5, True),
        ("p2", "S11", "54138969", 1, 5, False),
        ("p2", "S11", "", 1, 5, True),
        ("p2", "S11", "60457274", 2, 5, False),
        ("h36m-spin-p2", "S11", "60457274", 2, 5, True),
        ("all", "anybody", "anything", 0, 3, True),
    ],
)
def test_selection(name: str, subject: str, camera: str, trial: int, frame: int, selected: bool) -> None:
    assert protocol_by_name(name).selects(subject=subject, camera=camera, trial=trial, frame=frame) is selected


def test_protocols_are_plain_values() -> None:
    assert json.loads(json.dumps(protocol_by_name("p1").to_dict()))["subjects"] == ["S9", "S11"]


def test_protocols_import_no_torch() -> None:
    code = "import sys, posekit.evaluation.protocols; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_split_narrows_only_what_chooses_no_subjects() -> None:
    training = narrowed(protocol_by_name("all"), "train")
    assert training.selects(subject="S1", camera="c", trial=1, frame=0, split="train")
    assert not training.selects(subject="S1", camera="c", trial=1, frame=0, split="test")
    assert not training.selects(subject="S1", camera="c", trial=1, frame=0)
    assert narrowed(protocol_by_name("p1"), "all") is protocol_by_name("p1")
    with pytest.raises(InputError, match="chooses its subjects itself"):
        narrowed(protocol_by_name("p1"), "train")


def test_training_and_test_subjects_are_measured_alike() -> None:
    test, training = (protocol_by_name(name).to_dict() for name in ("deform-and-learn", "deform-and-learn-train"))
    assert not set(test["subjects"]) & set(training["subjects"])
    for told in ("name", "title", "frames", "subjects"):
        del test[told], training[told]
    assert test == training
