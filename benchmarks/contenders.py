"""Who takes part, each in a process of its own, and the pipe through which it is told what to do."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import backends

HERE = Path(__file__).parent
# Everything that decides how many threads a library starts. No worker inherits them: its policy is its own.
THREAD_VARIABLES = tuple(f"{name}_NUM_THREADS" for name in ("OPENBLAS", "GOTO", "OMP", "MKL", "NUMBA"))
TORCH = "PyTorch"
PUBLISHED = "DeZero 0.0.13"


# Would change what is measured: how kernels work, what NumPy's BLAS takes the processor for, and whether an import
# compiles the package anew.
CHOICES = ("DEZERO_WINOGRAD", "DEZERO_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
CHOICES += ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")


class Contender(NamedTuple):
    """A name for the table, which library it is (see worker.py), its Python, and what its environment adds."""

    name: str
    library: str
    python: str
    added: dict[str, str]
    threads: str
    backend: str = ""

    def environment(self) -> dict[str, str]:
        dropped = {*THREAD_VARIABLES, "PYTHONPATH", backends.VARIABLE, *CHOICES}
        inherited = {name: value for name, value in os.environ.items() if name not in dropped}
        return {**inherited, **self.added}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_policy(threads: str) -> tuple[dict[str, str], str]:
    """Return the variables for `threads`, a number or "default", and words for them."""
    if threads == "default":
        return {}, f"no thread variable set: each library's default on {cores()} cores"
    return dict.fromkeys(THREAD_VARIABLES, threads), f"thread variables set to {threads}"


def all_contenders(options: Any) -> list[Contender]:
    """Ours with each backend and thread policy, then PyTorch, then the published DeZero where its Python is named."""
    found = []
    path = {"PYTHONPATH": str(HERE.parent)}
    for threads in options.threads:
        variables, words = thread_policy(threads)
        for backend in options.backends or offered_backends():
            name = backend if threads == "default" else f"{backend}, {threads} thread{'s'[: threads != '1']}"
            added = {**path, **variables, backends.VARIABLE: backend}
            found.append(Contender(name, "dezero", sys.executable, added, words, backend))
    variables, words = thread_policy(options.torch_threads)
    found.append(Contender(TORCH, "torch", options.torch_python, variables, words))
    if options.published:
        variables, words = thread_policy(options.threads[0])
        found.append(Contender(PUBLISHED, "published", options.published, variables, words))
    return found


def offered_backends() -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "backends.py")]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


class Process:
    """A running worker. Raises OSError when it cannot be started, or its library is not there."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.contender.python, str(HERE / "worker.py"), self.contender.library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.contender.environment(),
        )
        self.about = self.read()
        if "error" in self.about:
            self.close()
            raise OSError(self.about["error"])

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer; `error` is in it when the work failed. A dead worker starts anew."""
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
            return self.read()
        except BrokenPipeError:
            return self.start_anew()

    def read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        return json.loads(line) if line else {"error": f"the process ended with status {self.process.wait()}"}

    def start_anew(self) -> dict[str, Any]:
        status = self.process.wait()
        self.close()
        self.start()
        return {"error": f"the process ended with status {status}"}

    def close(self) -> None:
        """End the process, and wait until it has."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
