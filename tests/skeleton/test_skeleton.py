from __future__ import annotations

import numpy as np
import pytest

from posekit.errors import InputError
from posekit.skeleton.catalog import CATALOG, H36M17, MPII16, SMPL24, skeleton_by_name
from posekit.skeleton.skeleton import Skeleton, mirrored


@pytest.mark.parametrize("skeleton", CATALOG.values(), ids=list(CATALOG))
def test_flip_is_an_involution_that_swaps_sides(skeleton: Skeleton) -> None:
    flip = np.array(skeleton.flip_permutation)
    assert (flip[flip] == np.arange(len(skeleton))).all()
    for i, j in enumerate(flip):
        assert skeleton.joints[j] == mirrored(skeleton.joints[i])


@pytest.mark.parametrize("skeleton", CATALOG.values(), ids=list(CATALOG))
def test_every_joint_reaches_a_root(skeleton: Skeleton) -> None:
    # The face of COCO hangs on no other joint.
    assert len(skeleton.roots) == (2 if skeleton.name == "coco17" else 1)
    for joint in range(len(skeleton)):
        steps, at = 0, joint
        while skeleton.parents[at] >= 0:
            at, steps = skeleton.parents[at], steps + 1
            assert steps <= len(skeleton)
        assert at in skeleton.roots


def test_smpl_parents_are_those_of_the_model_files() -> None:
    expected = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
    assert SMPL24.parents == expected


def test_human36m_and_mpii_parents_are_the_published_ones() -> None:
    assert H36M17.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert MPII16.parents == (1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14)
    assert len(MPII16.bones) == 15


def test_unknown_names_are_errors_that_list_the_known() -> None:
    with pytest.raises(InputError, match="left_hip"):
        SMPL24.index("left_hop")
    with pytest.raises(InputError, match="h36m17"):
        skeleton_by_name("h37m")


def test_malformed_skeletons_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Skeleton("bad", ("a", "a"), (-1, 0))
    with pytest.raises(ValueError, match="parents"):
        Skeleton("bad", ("a", "b"), (-1,))
