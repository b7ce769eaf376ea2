"""Tasks done ahead, by threads or by processes: handed out in order, with their errors, and nobody left behind.

A crew's threads come when there is a task and go when there is none, so a loop that was left leaves no thread. A crew
of processes has a thread for each, which asks it and waits: for its answer, or for its end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["KINDS", "Crew", "ProcessCrew", "Ticket"]

KINDS = ("thread", "process", "fork", "forkserver", "spawn")

_PATIENCE = 2.0  # seconds in which a crew that is told to stop should have stopped
_LOOK = 0.5  # seconds after which whoever waits looks whether somebody is at work


class Ticket:
    """A task, and what came of it once it is `done`."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def fill(self, work: Callable[[Any], Any]) -> None:
        """Do the task by `work(task)`."""
        try:
            self.result = work(self.task)
        except BaseException as error:  # SystemExit, too, is for whoever waits
            self.error = error
        finally:
            self.done.set()


class Crew:
    """At most `size` threads, which do tasks by `work(task)` in the order in which they are submitted.

    >>> crew = Crew(lambda x: x * x, size=2)
    >>> [crew.wait(ticket) for ticket in [crew.submit(x) for x in range(4)]]
    [0, 1, 4, 9]
    """

    def __init__(self, work: Callable[[Any], Any], size: int) -> None:
        self.work = work
        self.size = size
        self.process = os.getpid()  # threads stay behind where a process forks
        self.tasks: deque[Ticket] = deque()
        self.threads: list[threading.Thread] = []
        self.lock = threading.RLock()  # the garbage collector can call `stop` at any step, of this thread too

    def submit(self, task: Any) -> Ticket:
        """Have a task done, soon."""
        ticket = Ticket(task)
        with self.lock:
            self.tasks.append(ticket)
            self._call()
        return ticket

    def wait(self, ticket: Ticket) -> Any:
        """Return what came of a task when it is done; raises what it raised."""
        while not ticket.done.wait(_LOOK):
            with self.lock:
                self._call()  # Ctrl-C can strike between a task and the thread that was to do it
        error, ticket.error = ticket.error, None
        if error is None:
            return ticket.result
        try:
            raise error
        finally:
            del error  # its traceback has this frame: a circle would keep both alive

    def _call(self) -> None:
        self.threads = [thread for thread in self.threads if thread.is_alive()]
        if self.tasks and len(self.threads) < self.size:
            thread = threading.Thread(target=self._do_tasks, name="dezero loader", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _do_tasks(self) -> None:
        while True:
            with self.lock:
                try:
                    ticket = self.tasks.popleft()
                except IndexError:
                    # From here on it does not count: the next task calls another one.
                    self.threads = [thread for thread in self.threads if thread is not threading.current_thread()]
                    return
            ticket.fill(self.work)

    def stop(self) -> None:
        """Begin no other task, and wait, but not forever, for those that were begun."""
        if self.process != os.getpid():
            return
        with self.lock:
            self.tasks.clear()
            threads = list(self.threads)
        self._join(threads)

    def _join(self, threads: list[threading.Thread]) -> None:
        end = time.monotonic() + _PATIENCE
        for thread in threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))


class ProcessCrew(Crew):
    """At most `size` tasks at once as a Crew's, each in a process of its own that does it by `work(task)`.

    Args:
        work: is pickled for the processes, or, with `"fork"`, there already.
        size: how many processes there are.
        kind: how they start: `"fork"`, `"forkserver"`, `"spawn"`, or `"process"`, which is forkserver where the system
            has it and spawn elsewhere: it does not matter to them what threads this process has.

    Raises TypeError where `work` cannot be pickled.
    """

    def __init__(self, work: Callable[[Any], Any], size: int, kind: str) -> None:
        import multiprocessing

        super().__init__(self._ask, size)
        if kind == "process":
            kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(kind)
        self.everyone: list[_Worker] = []
        self.idle: SimpleQueue[_Worker] = SimpleQueue()
        try:
            for _ in range(size):
                worker = _Worker(context, work)
                self.everyone.append(worker)
                self.idle.put(worker)
        except BaseException:
            self.stop()
            raise

    def _ask(self, task: Any) -> Any:
        worker = self.idle.get()  # there are no more threads than workers
        try:
            return worker.do(task)
        finally:
            self.idle.put(worker)

    def dismiss(self) -> None:
        """Let the processes go that have nothing to do: there will be no other task."""
        while not self.idle.empty():
            self.idle.get().dismiss()

    def stop(self) -> None:
        """End all processes, whatever they do."""
        if self.process != os.getpid():
            return
        with self.lock:
            self.tasks.clear()
            threads = list(self.threads)
        self.dismiss()
        for worker in self.everyone:
            worker.hurry()
        for worker in self.everyone:
            worker.end()
        self._join(threads)  # they end when their processes do, and use the pipes until then
        for worker in self.everyone:
            worker.pipe.close()


class _Worker:
    """A process that does tasks, and the pipe to it."""

    def __init__(self, context: Any, work: Callable[[Any], Any]) -> None:
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, work), name="dezero loader", daemon=True)
        self.dismissed = False
        try:
            self.process.start()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"DataLoader: a worker process did not start ({error!r}). {_HINT}") from error
        except Exception as error:
            if not isinstance(error, (AttributeError, TypeError)) and type(error).__name__ != "PicklingError":
                raise
            raise TypeError(
                f"DataLoader: worker processes get the dataset by pickle, which refuses: {error}. Define its parts at "
                "the top of a module, without lambdas, or take worker_type='thread'"
            ) from error
        finally:
            other_end.close()  # so that the pipe ends when the process does

    def do(self, task: Any) -> Any:
        """Return what came of a task; raises what it raised, or RuntimeError where the process ended."""
        from multiprocessing.connection import wait

        try:
            self.pipe.send(task)
            answer = self.pipe.recv() if self.pipe in wait([self.pipe, self.process.sentinel]) else None
        except (EOFError, OSError):
            answer = None
        if answer is None:
            self.process.join(_PATIENCE)
            code = self.process.exitcode
            raise RuntimeError(f"DataLoader: a worker process ended with exit code {code}. {_HINT}")
        result, error, told = answer
        if error is None:
            return result
        try:
            raise error from _InWorker(told)
        finally:
            del error, answer  # as in Crew.wait

    def dismiss(self) -> None:
        """Let the process end: it has nothing to do."""
        self.dismissed = True
        with contextlib.suppress(OSError):
            self.pipe.send(None)

    def hurry(self) -> None:
        """End the process in the middle of what it does."""
        if not self.dismissed:
            self.process.terminate()

    def end(self) -> None:
        """Wait for the process's end, but not forever."""
        self.process.join(_PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


_HINT = (
    "What it printed says why; a negative code is the number of the signal that ended it. A script whose workers are "
    "processes begins its work below `if __name__ == '__main__':`, and what a notebook defines reaches them only by "
    "worker_type='fork'; 'thread' needs neither"
)


class _InWorker(Exception):  # noqa: N818
    """The traceback of an error in a worker process, shown above the error."""

    def __init__(self, told: str) -> None:
        super().__init__(f"in a worker process\n\n{told}")


def _serve(pipe: Any, work: Callable[[Any], Any]) -> None:
    """Do the tasks that come through the pipe, until None comes or the process at its other end is gone."""
    import multiprocessing
    import signal
    from multiprocessing.connection import wait

    from dezero.kernels import set_num_threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends this one
    set_num_threads(1)
    parent: Any = multiprocessing.parent_process()
    with contextlib.suppress(EOFError, OSError):
        while pipe in wait([pipe, parent.sentinel]) and (task := pipe.recv()) is not None:
            _send(pipe, *_outcome(work, task))


def _outcome(work: Callable[[Any], Any], task: Any) -> tuple[Any, BaseException | None, str]:
    try:
        return work(task), None, ""
    except BaseException as error:
        return None, _portable(error), traceback.format_exc()


def _send(pipe: Any, result: Any, error: BaseException | None, told: str) -> None:
    try:
        pipe.send((result, error, told))
    except OSError:
        raise
    except Exception as refusal:  # a result that pickle refuses; nothing was sent yet
        pipe.send((None, _portable(refusal), traceback.format_exc()))


def _portable(error: BaseException) -> BaseException:
    """Return the error, or one that tells the same where it would not arrive whole on the other side."""
    from multiprocessing.reduction import ForkingPickler

    try:
        copied = ForkingPickler.loads(ForkingPickler.dumps(error))
        if type(copied) is type(error):
            return error
    except Exception as refusal:
        del refusal
    return RuntimeError(f"{type(error).__name__}: {error}")
