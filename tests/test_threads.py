from __future__ import annotations

import threading

import pytest
import torch

from posekit.threads import for_chunks, one_thread_each, side_by_side


@pytest.mark.parametrize("threads", [1, 3])
def test_every_item_is_worked_on_once_whatever_the_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen, names = torch.zeros(1000), set()

        def work(part: slice) -> None:
            seen[part] += 1
            names.add(threading.current_thread().name)

        for_chunks(work, 1000, 7, torch.device("cpu"))
        assert bool((seen == 1).all())
        assert (threading.main_thread().name in names) == (threads == 1)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_errors_of_the_work_come_out() -> None:
    def work(part: slice) -> None:
        if part.start >= 6:
            raise ValueError(part)

    with pytest.raises(ValueError, match="slice"):
        for_chunks(work, 10, 3, torch.device("cpu"))


def test_the_number_of_threads_is_put_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread_each():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_recorded_only_where_they_are_here(enabled: bool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.set_grad_enabled(enabled):
            seen = side_by_side(lambda _: torch.is_grad_enabled(), range(4), torch.device("cpu"))
        assert seen == [enabled] * 4
    finally:
        torch.set_num_threads(before)
