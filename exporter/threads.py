"""Work spread over cores such that no number depends on how many there are.

A product of matrices that a BLAS library splits among threads adds up in another order than on one, and rounding turns
the last bit of a sum into another integer. So whatever decides a plan computes each product on one thread, and the
threads take whole batches instead, whose results are used in the order of the batches.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["cores", "in_order", "one_blas_thread"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_MOST = 8  # each holds a batch in memory


def one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Numpy's products and factorisations run on one thread each, in the whole process, until it returns."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


def cores() -> int:
    """How many this process may use: OMP_NUM_THREADS where it is set, else those that it may run on."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[T], R], items: Iterable[T], *, most: int = _MOST) -> Iterator[R]:
    """``map`` on threads: results in the order of the items, of which no more than ``most`` are under way at once.

    Items are drawn in the caller's thread. What ``function`` raises comes up where its result would have.
    """
    count = min(cores(), most)
    if count < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(count) as pool:
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > count:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
