"""Where many independent tasks run: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from exporter.errors import KbitError, MissingError

__all__ = ["open_executor"]


@contextmanager
def open_executor(workers: int | None, scheduler: str | None, tasks: int) -> Iterator[Executor]:
    """Any concurrent.futures executor will do; everything that it is given can be pickled.

    workers    processes on this machine; None: one for each core
    scheduler  address of a Dask scheduler, whose workers see the same files and have kbit installed
    tasks      how many there are, so that no idle process is started
    Raises MissingError without Dask, KbitError where no scheduler answers.
    """
    if scheduler is not None:
        try:
            from dask.distributed import Client
        except ImportError as error:
            raise MissingError("a scheduler needs Dask", "pip install 'kbit[cluster]'") from error
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise KbitError(f"no Dask scheduler answers at {scheduler!r}", "start one: dask scheduler") from error
        with client, client.get_executor() as cluster:
            yield cluster
        return
    count = max(1, min(workers or os.cpu_count() or 1, tasks))
    executor = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_settle)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _settle() -> None:
    """Processes share the cores among them, and end with the one that started them, however it ends."""
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
