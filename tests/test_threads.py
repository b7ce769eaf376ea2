"""Work on several threads: each piece once, errors and Ctrl-C seen, callers side by side, forks."""

import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import dezero
from dezero.kernels import threads
from dezero.kernels.threads import for_each, for_ranges, get_num_threads, set_num_threads


@pytest.fixture(autouse=True)
def three_threads():
    before = get_num_threads()
    set_num_threads(3)
    yield
    set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_each_number_is_worked_on_once(count):
    done = []
    for_each(done.append, count)
    assert sorted(done) == list(range(count))


def test_several_threads_work():
    seen = set()

    def work(number):
        seen.add(threading.get_ident())
        time.sleep(0.01)

    for_each(work, 12)
    assert len(seen) == 3


def test_ranges_cover_everything_once():
    pieces = []
    for_ranges(pieces.append, 10, 4)
    assert sorted((p.start, p.stop) for p in pieces) == [(0, 4), (4, 8), (8, 10)]
    pieces.clear()
    for_ranges(pieces.append, 3, 4)
    assert pieces == [slice(0, 3)]


@pytest.mark.parametrize("wrong", [0, 5, 9])
def test_an_error_reaches_the_caller_after_everybody_has_stopped(wrong):
    working = []

    def work(number):
        working.append(number)
        time.sleep(0.002)
        if number == wrong:
            raise KeyError(number)

    with pytest.raises(KeyError, match=str(wrong)):
        for_each(work, 1000)
    seen = len(working)
    assert seen < 1000
    time.sleep(0.02)
    assert len(working) == seen  # nobody goes on
    done = []
    for_each(done.append, 10)  # and the pool works again
    assert len(done) == 10


def test_work_inside_work_and_from_other_threads_is_done():
    results = np.zeros((8, 50), int)

    def outer(row):
        for_each(lambda column: results.__setitem__((row, column), row * column), 50)

    callers = [threading.Thread(target=for_each, args=(outer, 8)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    np.testing.assert_array_equal(results, np.outer(range(8), range(50)))


def test_nobody_keeps_what_the_work_was_about():
    for _ in range(300):
        array = np.zeros(1000)
        there = weakref.ref(array)
        for_each(lambda number, array=array: array[number], 3)
        del array
        assert there() is None


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True, None])
def test_a_number_of_threads_that_is_none_is_refused(n):
    with pytest.raises(ValueError, match="set_num_threads: n must be an int of at least 1, got "):
        dezero.set_num_threads(n)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"DEZERO_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"DEZERO_NUM_THREADS": "many", "OMP_NUM_THREADS": "2"}, 2),
    ],
)
def test_environment_variables_say_how_many(variables, expected, monkeypatch):
    for name in ("DEZERO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads._default() == expected


def test_without_variables_there_are_as_many_as_the_process_may_use(monkeypatch):
    for name in ("DEZERO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    may_use = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads._default() == may_use


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_works_alone():
    for_each(lambda number: time.sleep(0.001), 6)  # now there are helpers, which a fork leaves behind
    child = os.fork()
    if child == 0:
        done = []
        for_each(done.append, 6)
        os._exit(0 if sorted(done) == list(range(6)) and get_num_threads() == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


INTERRUPTED = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
from dezero.kernels.threads import for_each, set_num_threads
set_num_threads(2)
working = []
def work(number):
    working.append(number)
    time.sleep(0.01)
    working.remove(number)
threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
try:
    for_each(work, 10_000)
except KeyboardInterrupt:
    left = [number for number in working if number > 0]
    done = []
    for_each(done.append, 5)
    print("interrupted", len(done))
"""


def test_ctrl_c_ends_the_work():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["interrupted", "5"], done.stderr
