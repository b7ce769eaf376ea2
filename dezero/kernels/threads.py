"""Threads for kernels that run without the interpreter's lock.

The policy: kernels of the Numba backend share one pool of plain Python threads, and use no other library's threads, so
nobody's waiting threads take the processor from anybody, and no setting of another library is touched. NumPy's own
products, where kernels leave work to NumPy, run on the threads that NumPy's BLAS was told to use.

How many: `set_num_threads(n)`, or else the first of the environment variables DEZERO_NUM_THREADS and OMP_NUM_THREADS
that is set, or else as many as the process may use. Results do not depend on it: work is cut by its size alone.

The helpers serve whoever calls, from any thread, and from inside the work itself; who calls always works, too, and
waits for nobody but the helpers that took part. A forked process begins with no helpers and one thread, since what
forks is usually one of many workers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["for_each", "for_ranges", "get_num_threads", "set_num_threads"]

Work = Callable[[int], Any]


def _default() -> int:
    for name in ("DEZERO_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0]  # OpenMP allows a list, a number for each level of nesting
        if value.strip().isdigit() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Job:
    """Work on the numbers 0 ... count-1: each thread takes the next one when it is done with its last.

    Ctrl-C can strike the caller between any two steps. So nothing here is locked, and no step counts on the one before
    it: a helper says that it has come before it looks whether the job is closed, and the caller closes it before it
    looks who has come.
    """

    def __init__(self, work: Work, count: int) -> None:
        self.work: Work | None = work
        self.numbers = iter(range(count))
        self.error: BaseException | None = None
        self.closed = False
        self.come: list[None] = []  # the helpers; lists because to append is one step
        self.gone: list[None] = []
        self.news: SimpleQueue[None] = SimpleQueue()

    def run(self) -> None:
        work = self.work
        try:
            while work and (number := next(self.numbers, None)) is not None:  # each number once, whoever asks
                work(number)
        except BaseException as error:
            self.stop(error)

    def stop(self, error: BaseException) -> None:
        self.error = self.error or error
        self.numbers = iter(range(0))

    def help(self) -> None:
        self.come.append(None)
        if not self.closed:
            self.run()
        self.gone.append(None)
        self.news.put(None)

    def close(self) -> None:
        """Wait for the helpers, through Ctrl-C too: nobody may still write when the caller goes on."""
        while not self.closed or len(self.gone) < len(self.come):
            try:
                self.closed = True
                if len(self.gone) < len(self.come):
                    self.news.get(timeout=0.05)
            except Empty:
                pass  # the news went to a get that was interrupted
            except BaseException as error:
                self.stop(error)
        self.work = None  # a job may wait in the queue for helpers that come too late: it shall not keep arrays alive


class _Pool:
    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self.helpers: list[threading.Thread] = []

    def call(self, job: _Job, helpers: int) -> None:
        """Have `helpers` threads look at the job, when they are free."""
        while len(self.helpers) < helpers:
            helper = threading.Thread(target=self._help, name="dezero", daemon=True)
            try:
                helper.start()
            except RuntimeError:  # the system has no more threads, or the interpreter is ending
                break
            self.helpers.append(helper)
        for _ in range(helpers):
            self.jobs.put(job)

    def _help(self) -> None:
        while True:
            self.jobs.get().help()


_threads = _default()
_pool = _Pool()


def _after_fork() -> None:
    global _pool, _threads
    _pool, _threads = _Pool(), 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def get_num_threads() -> int:
    """Return how many threads kernels use at most."""
    return _threads


def set_num_threads(n: int) -> None:
    """Let kernels of the Numba backend use `n` threads at most, the calling one included; results stay the same.

    Raises ValueError when `n` is not an int of at least 1.
    """
    global _threads
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: n must be an int of at least 1, got {n!r}")
    _threads = n


def for_each(work: Work, count: int) -> None:
    """Call `work(0)` ... `work(count - 1)`, each once, in any order, on the threads that are free.

    What `work` raises is raised here, after everybody has stopped.
    """
    helpers = min(_threads, count) - 1
    if helpers < 1:
        for number in range(count):
            work(number)
        return
    job = _Job(work, count)
    try:
        _pool.call(job, helpers)
        job.run()
    except BaseException as error:
        job.stop(error)
    finally:
        job.close()
    if job.error is not None:
        raise job.error


def for_ranges(work: Callable[[slice], Any], size: int, at_a_time: int) -> None:
    """Call `work(slice)` for slices of `at_a_time` that cover 0 ... size-1, on the threads that are free."""
    pieces = -(-size // at_a_time)
    if pieces <= 1:
        work(slice(0, size))
    else:
        for_each(lambda piece: work(slice(piece * at_a_time, min(size, (piece + 1) * at_a_time))), pieces)
