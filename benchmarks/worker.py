"""One contender's process: it waits for a line of JSON, does what it says, answers with a line, and waits again.

    python worker.py LIBRARY

where LIBRARY is `dezero`, `published` or `torch`. It ends when its input does, so that it never outlives cpu.py.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any


class Worker:
    """The answers to each request, by the name in its `do`."""

    def __init__(self, library: str) -> None:
        self.module: Any = importlib.import_module("with_torch" if library == "torch" else "with_dezero")
        if library == "dezero":
            import backends

            backends.select()
        self.call: Any = None
        self.slow = False  # a call takes seconds: waking up is no part of it that one would see

    def hello(self) -> dict[str, Any]:
        return {"versions": self.module.describe(), "file": self.library_file()}

    def library_file(self) -> str:
        return sys.modules["torch" if self.module.__name__ == "with_torch" else "dezero"].__file__ or ""

    def prepare(self, spec: Any, warm_up: float) -> dict[str, Any]:
        """Make the inputs, and call until `warm_up` seconds have passed, three times at least unless a call is slow."""
        self.call = self.module.prepare(spec)
        start = time.perf_counter()
        for count in range(1, 1000):
            self.call()
            elapsed = time.perf_counter() - start
            if elapsed > warm_up and (count >= 3 or elapsed > 2):
                break
        self.slow = elapsed / count > 1
        return {}

    def time(self, seconds: float) -> dict[str, Any]:
        """One call that is not timed, to wake everything up, then calls for about so many seconds, one at least."""
        cpu = time.process_time()
        gc.collect()
        if not self.slow:
            self.call()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            self.call()
            times.append(time.perf_counter() - start)
        return {"seconds": times, "cpu": time.process_time() - cpu}

    def drop(self) -> dict[str, Any]:
        self.call = None
        gc.collect()
        return {}

    def check(self, spec: Any, path: str) -> dict[str, Any]:
        """Save what comes out of the third call: of a training step it shows the updates of two before it, too."""
        import numpy as np

        call = self.module.prepare(spec)
        for _ in range(3):
            results = call()
        np.savez(path, **{name: self.module.as_array(result) for name, result in results.items()})
        return {}

    def memory(self, spec: Any, calls: int) -> dict[str, Any]:
        """The peak of resident memory in MB, after importing and after some calls: once in the life of a process."""
        imported = peak_memory()
        call = self.module.prepare(spec)
        for _ in range(calls):
            call()
        return {"imported": imported, "worked": peak_memory()}


def peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def answer(worker: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return getattr(worker, request.pop("do"))(**request)
    except Exception as error:  # it goes into the table; the next workload may well run
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for cpu.py, which ends its workers
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    try:
        worker = Worker(sys.argv[1])
        hello = worker.hello()
    except (ImportError, ValueError) as error:
        hello = {"error": str(error)}
    print(json.dumps(hello), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(worker, json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
