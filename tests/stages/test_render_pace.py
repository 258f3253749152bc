from __future__ import annotations

import threading
import time

import pytest
import torch

from posekit.stages.render_pace import ahead

CPU = torch.device("cpu")


def test_results_come_in_the_order_of_the_items() -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3 == 0))
        return item * item

    with ahead(work, range(20), CPU) as results:
        assert list(results) == [item * item for item in range(20)]


def test_work_is_done_elsewhere_with_torch_on_one_thread_which_is_undone() -> None:
    before, here = torch.get_num_threads(), threading.get_ident()
    with ahead(lambda _: (torch.get_num_threads(), threading.get_ident()), range(4), CPU) as results:
        found = list(results)
    assert {threads for threads, _ in found} == {1}
    assert here not in {thread for _, thread in found}
    assert torch.get_num_threads() == before


def test_few_items_are_taken_before_the_first_result_is_asked_for() -> None:
    taken: list[int] = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    with ahead(lambda item: item, items(), CPU) as results:
        assert next(results) == 0
    assert len(taken) <= torch.get_num_threads() + 2


@pytest.mark.parametrize("where", ["work", "caller"])
def test_errors_pass_and_end_the_work(where: str) -> None:
    before = torch.get_num_threads()

    def work(item: int) -> int:
        if where == "work" and item == 3:
            raise KeyError(item)
        return item

    with pytest.raises(KeyError), ahead(work, range(10), CPU) as results:
        for item in results:
            if where == "caller" and item == 3:
                raise KeyError(item)
    assert torch.get_num_threads() == before
