"""Loading ahead: the same batches in the same order with any workers, and no end that hangs or leaves some behind."""

import contextlib
import copy
import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

import dezero.random
from dezero import workers
from dezero.core import Config, no_grad, test_mode
from dezero.dataloaders import DataLoader, WeightedSampler
from dezero.datasets import ConcatDataset, Dataset, Subset
from dezero.transforms import Compose, RandomCrop, RandomErasing, RandomHorizontalFlip, ToFloat
from dezero.workers import Crew, ProcessCrew

ROOT = Path(__file__).parent.parent
PROCESSES = ["process", "spawn", "fork"] if hasattr(os, "fork") else ["process"]
fork_is_asked_for = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
pytestmark = [fork_is_asked_for, pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")]


@pytest.fixture(autouse=True)
def in_time():
    """A test that hangs fails; so does one that leaves a thread or a process behind."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def too_late(*args):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        yield
        gc.collect()
        assert left() == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def left(patience=5.0):
    """The loaders' threads and processes that do not go of themselves within `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        found = [thread for thread in threading.enumerate() if thread.name == "dezero loader"]
        found += multiprocessing.active_children()
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.01)


class Items(Dataset):
    """Pairs (i, i); where `what` says so, something happens at item 5."""

    def __init__(self, size=12, what=None):
        super().__init__()
        self.data = self.label = np.arange(size)
        self.what = what

    def __getitem__(self, index):
        if index == 5 and self.what is not None:
            self.what()
        return super().__getitem__(index)


class Augmented(Dataset):
    """Images whose transforms draw, and items that draw by themselves."""

    def __init__(self, by_item=False):
        steps = [RandomCrop(6, padding=1), RandomHorizontalFlip(), ToFloat(), RandomErasing(seed=5)]
        super().__init__(transform=Compose(steps))
        self.data = np.random.RandomState(0).randint(1, 256, (30, 2, 6, 6)).astype(np.uint8)
        self.label = np.arange(30)
        self.by_item = by_item

    def batch(self, rows):
        if not self.by_item:
            return super().batch(rows)
        return Plain.batch(self, rows)


class Plain(Augmented):
    def __getitem__(self, index):
        x, t = super().__getitem__(index)
        noise = dezero.random.uniform() + dezero.random.normal() + dezero.random.permutation(3)[0]
        return x + noise.astype(np.float32), t


def labels(loader):
    return [t.tolist() for _, t in loader]


def epochs(dataset, count=2, **options):
    loader = DataLoader(dataset, 7, **options)
    return [batch for _ in range(count) for batch in loader]


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for x, y in zip(batch, other, strict=True):
            assert (x.dtype, x.flags.c_contiguous, x.flags.writeable) == (y.dtype, True, True)
            np.testing.assert_array_equal(x, y)


# The same batches


SETS = {
    "at once": Augmented(),
    "one by one": Plain(),
    "subset": Subset(Augmented(), range(3, 25)),
    "two": ConcatDataset([Augmented(), Plain()]),
}


@pytest.mark.parametrize("dataset", SETS.values(), ids=SETS)
def test_with_a_seed_batches_are_the_same_with_any_threads(dataset):
    expected = epochs(dataset, seed=3)
    state = np.random.get_state()[1].tolist()
    for workers_, prefetch in ((1, 1), (1, 4), (2, 2), (5, 1)):
        assert_same(epochs(dataset, seed=3, num_workers=workers_, prefetch=prefetch), expected)
    assert np.random.get_state()[1].tolist() == state
    first, second = expected[: len(expected) // 2], expected[len(expected) // 2 :]
    assert any((x != y).any() for (_, x), (_, y) in zip(first, second, strict=True))
    others = epochs(dataset, seed=4)
    assert any((x != y).any() for (_, x), (_, y) in zip(expected, others, strict=True))
    in_order = epochs(dataset, seed=3, shuffle=False)
    first, second = in_order[: len(in_order) // 2], in_order[len(in_order) // 2 :]
    assert any((x != y).any() for (x, _), (y, _) in zip(first, second, strict=True))


@pytest.mark.parametrize("worker_type", PROCESSES)
def test_with_a_seed_batches_are_the_same_with_any_processes(worker_type):
    for dataset in (SETS["at once"], SETS["one by one"]) if worker_type == "process" else (SETS["one by one"],):
        expected = epochs(dataset, seed=3)
        assert_same(epochs(dataset, seed=3, num_workers=2, worker_type=worker_type), expected)


def test_at_once_and_one_by_one_are_the_same():
    class OneByOne(Augmented):
        def __getitem__(self, index):
            return super().__getitem__(index)

    assert_same(epochs(OneByOne(), seed=3), epochs(Augmented(), seed=3))


def test_without_a_seed_batches_follow_from_the_one_source():
    def drawn(**options):
        dezero.random.seed(1)
        return epochs(Plain(), **options)

    expected = drawn(num_workers=1)
    assert_same(drawn(num_workers=3), expected)
    assert_same(drawn(num_workers=2, worker_type="process"), expected)
    dezero.random.seed(2)
    first, second, other = (epochs(Plain(), count=1, num_workers=1, shuffle=False) for _ in range(3))
    for batches, others in ((first, second), (second, other)):
        assert any((x != y).any() for (x, _), (y, _) in zip(batches, others, strict=True))


def test_a_transforms_own_seed_does_the_same_with_and_without_workers():
    class Seeded(Dataset):
        def prepare(self):
            self.transform = RandomErasing(seed=1)
            self.data = np.ones((30, 1, 9, 9))

    np.random.seed(0)
    expected = [x for x, _ in DataLoader(Seeded(), 7)]
    np.random.seed(0)
    for x, y in zip([x for x, _ in DataLoader(Seeded(), 7, num_workers=2)], expected, strict=True):
        np.testing.assert_array_equal(x, y)


def test_other_generators_do_not_repeat_themselves_in_processes():
    def numbers():
        batches = epochs(Foreign(), num_workers=2, worker_type=PROCESSES[-1], seed=1)
        return np.concatenate([x for x, _ in batches])

    found = numbers()
    assert len(set(found.ravel().tolist())) == found.size
    np.testing.assert_array_equal(numbers(), found)


class Foreign(Items):
    def __getitem__(self, index):
        import random

        return np.array([np.random.rand(), random.random()]), index


def test_the_order_is_kept_when_some_batches_take_longer():
    class Uneven(Items):
        def __getitem__(self, index):
            time.sleep(0.02 if index % 4 == 0 else 0)
            return super().__getitem__(index)

    loader = DataLoader(Uneven(20), 2, shuffle=False, num_workers=3)
    assert labels(loader) == [[i, i + 1] for i in range(0, 20, 2)]


def test_an_epochs_batches_are_loaded_once_and_no_further_ahead_than_asked():
    asked = []

    class Watched(Items):
        def batch(self, rows):
            asked.append(rows.tolist())
            return super().batch(rows)

    loader = DataLoader(Watched(20), 2, shuffle=False, num_workers=2, prefetch=2)
    next(loader)
    for _ in range(200):
        time.sleep(0.005)
        if len(asked) == 5:
            break
    time.sleep(0.02)
    assert sorted(asked) == [[i, i + 1] for i in range(0, 10, 2)]  # the one that was given, and four
    list(zip(range(9), loader, strict=False))  # which starts over
    assert labels(loader) == [[i, i + 1] for i in range(0, 20, 2)]


class Modes(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return Config.train, Config.enable_backprop


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "worker_type": "process"}])
def test_items_are_loaded_in_the_modes_of_who_asks(options):
    loader = DataLoader(Modes(), 2, **options)
    assert all(train.all() and records.all() for train, records in loader)
    with test_mode(), no_grad():
        assert not any(train.any() or records.any() for train, records in loader)


def test_samplers_and_collate_work_with_workers():
    def loader(**options):
        sampler = WeightedSampler([0, 1, 2, 3] * 3)
        return DataLoader(Items(), 5, sampler=sampler, collate=pairs, seed=1, **options)

    expected = [xs for xs, _ in loader()]
    assert [xs for xs, _ in loader(num_workers=2)] == expected
    assert [xs for xs, _ in loader(num_workers=1, worker_type="process")] == expected


def pairs(items):
    return [int(x) for x, _ in items], "t"


def test_loaders_are_copied_and_pickled_without_their_workers():
    loader = DataLoader(Items(), 5, shuffle=False, num_workers=2)
    next(loader)
    for other in (copy.copy(loader), copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert [next(other)[1].tolist(), next(other)[1].tolist()] == [[5, 6, 7, 8, 9], [10, 11]]
        assert other._crew is not loader._crew
    assert next(loader)[1].tolist() == [5, 6, 7, 8, 9]


def test_workers_and_the_gpu(gpu):
    expected = epochs(Plain(), seed=3)
    loader = DataLoader(Plain(), 7, gpu=True, seed=3, num_workers=2)
    assert_same([gpu.back(batch) for _ in range(2) for batch in loader], expected)
    loader = DataLoader(Plain(), 7, gpu=True, seed=3, num_workers=2)
    first = [gpu.back(next(loader)) for _ in range(2)]
    loader.to_cpu()  # a batch on its way is loaded once more
    assert_same([*first, *(next(loader) for _ in range(3))], expected[:5])


def test_on_the_gpu_nobody_waits_for_a_batch_that_is_not_asked_for(gpu):
    go_on = threading.Event()
    loader = DataLoader(Items(what=lambda: go_on.wait(100)), 2, shuffle=False, gpu=True, num_workers=1)
    assert [gpu.back(next(loader)[1]).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    go_on.set()
    assert gpu.back(next(loader)[1]).tolist() == [4, 5]


def test_parts_of_a_batch_that_are_no_arrays_stay_on_the_cpu(gpu):
    loader = DataLoader(Items(), 5, shuffle=False, gpu=True, collate=lambda items: (np.arange(3), ["a"], None))
    for x, names, t in loader:
        assert isinstance(x, gpu.cupy.ndarray)
        assert (names, t) == (["a"], None)


# Errors


def divide():
    return 1 // 0


def stop_iteration():
    raise StopIteration("mine")


def system_exit():
    raise SystemExit(3)


class TwoArguments(Exception):  # noqa: N818
    """What pickle cannot make again: it calls the class with the message alone."""

    def __init__(self, code, place):
        super().__init__(f"code {code} at {place}")


def two_arguments():
    raise TwoArguments(7, "sea")


def end():
    os._exit(3)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


ERRORS = {
    "error": (divide, ZeroDivisionError, "division"),
    "StopIteration": (stop_iteration, RuntimeError, "the dataset raised StopIteration, which would end the loop"),
    "SystemExit": (system_exit, SystemExit, "3"),
    "foreign": (two_arguments, Exception, "code 7 at sea"),
}
KINDS = [{}, {"num_workers": 2}, {"num_workers": 2, "worker_type": "process"}]


@pytest.mark.parametrize("options", KINDS, ids=["none", "threads", "processes"])
@pytest.mark.parametrize(("what", "kind", "said"), ERRORS.values(), ids=ERRORS)
def test_an_error_comes_in_its_turn_with_its_traceback(what, kind, said, options):
    loader = DataLoader(Items(what=what), 2, shuffle=False, **options)
    assert [next(loader)[1].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(kind, match=said) as caught:
        next(loader)
    told = "".join(traceback.format_exception(caught.value))
    assert f"in {what.__name__}" in told  # down to the line in the dataset
    if "worker_type" in options:
        assert "in a worker process" in told
    with pytest.raises(kind):  # who asks again gets it again
        next(loader)
    assert left(0.5) == []
    loader.dataset.what = None
    assert next(loader)[1].tolist() == [4, 5]
    assert [t.tolist() for _, t in loader] == [[i, i + 1] for i in range(0, 12, 2)]


@pytest.mark.parametrize(("what", "code"), [(end, "3"), (kill, "-9")])
def test_a_process_that_dies_is_an_error(what, code):
    loader = DataLoader(Items(what=what), 2, shuffle=False, num_workers=2, worker_type="process")
    next(loader), next(loader)
    with pytest.raises(
        RuntimeError, match=f"DataLoader: a worker process ended with exit code {code}. What it printed"
    ):
        next(loader)
    assert left(0.5) == []


@pytest.mark.parametrize("worker_type", PROCESSES)
def test_a_process_that_is_killed_while_nobody_looks_is_an_error(worker_type):
    loader = DataLoader(Items(40), 2, shuffle=False, num_workers=1, prefetch=1, worker_type=worker_type)
    next(loader)
    (child,) = multiprocessing.active_children()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exit code -9"):
        list(zip(range(30), iter(lambda: next(loader), None), strict=False))


def test_a_process_that_is_killed_while_it_sends_is_an_error(monkeypatch):
    """Half an answer is in the pipe."""
    worker = workers._Worker(multiprocessing.get_context(PROCESSES[-1]), large)
    wait = multiprocessing.connection.wait

    def kill_first(things, timeout=None):
        time.sleep(0.5)  # the pipe is full, and the process waits
        worker.process.kill()
        return wait(things, timeout)

    monkeypatch.setattr(multiprocessing.connection, "wait", kill_first)
    with pytest.raises(RuntimeError, match="exit code -9"):
        worker.do(0)
    worker.end()
    worker.pipe.close()


def large(task):
    return np.zeros(1 << 23)


class Mine(Exception):  # noqa: N818
    """One that a weak reference can point to."""


def raise_mine():
    raise Mine


@pytest.mark.parametrize("options", KINDS[1:], ids=["threads", "processes"])
def test_an_error_that_was_seen_keeps_nothing_alive(options):
    loader = DataLoader(Items(what=raise_mine), 6, shuffle=False, **options)
    gc.disable()
    try:
        try:
            next(loader)
        except Mine as error:
            seen = weakref.ref(error)
        assert left() == []
        assert seen() is None  # no circle of the error and its traceback
    finally:
        gc.enable()


def test_what_cannot_be_pickled_is_named_before_a_process_is_left():
    loader = DataLoader(Items(what=lambda: None), 2, num_workers=2, worker_type="process")
    with pytest.raises(
        TypeError, match=r"worker processes get the dataset by pickle, which refuses: .*lambda.*'thread'"
    ):
        next(loader)
    assert left(0.5) == []
    loader = DataLoader(Items(what=threading.Lock()), 2, num_workers=2, worker_type="spawn")
    with pytest.raises(TypeError, match=r"which refuses: cannot pickle '_thread\.lock' object"):
        next(loader)


def test_a_batch_that_cannot_be_pickled_is_an_error():
    loader = DataLoader(Items(), 2, num_workers=1, worker_type="process", collate=unpicklable)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match="lambda"):
        next(loader)


def unpicklable(items):
    return (lambda: items,)


def test_no_thread_to_be_had_is_an_error(monkeypatch):
    def no_more(self):
        raise RuntimeError("can't start new thread")

    loader = DataLoader(Items(), 2, shuffle=False, num_workers=2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            next(loader)
    assert labels(loader) == [[i, i + 1] for i in range(0, 12, 2)]


# Ways to end


@pytest.mark.parametrize("options", KINDS[1:], ids=["threads", "processes"])
def test_after_an_epoch_nobody_is_left(options):
    loader = DataLoader(Items(), 5, **options)
    assert sorted(t for batch in labels(loader) for t in batch) == list(range(12))
    assert left(0) == []
    for _ in range(3):
        next(loader)  # the last one, and no StopIteration yet
    assert left(2) == []


def test_a_loop_that_is_left_leaves_no_thread():
    loader = DataLoader(Items(1000), 5, num_workers=3)
    for _ in loader:
        break
    assert left() == []
    with pytest.raises(KeyError):  # noqa: PT012
        for _ in loader:
            raise KeyError
    assert left() == []
    assert len(labels(loader)) == 200


def test_a_loop_that_is_left_keeps_processes_until_the_loader_is_closed_or_used_or_gone():
    loader = DataLoader(Items(100), 5, shuffle=False, num_workers=2, worker_type="process")
    for _ in loader:
        break
    first = {child.pid for child in multiprocessing.active_children()}
    assert len(first) == 2
    for _ in loader:
        break
    second = {child.pid for child in multiprocessing.active_children()}
    assert len(second) == 2
    assert not first & second
    loader.close()
    assert left(0) == []
    loader.close()
    assert next(loader)[1].tolist() == [5, 6, 7, 8, 9]  # and on it goes
    del loader
    gc.collect()
    assert left(0) == []


def test_a_closed_loader_goes_on_where_it_was():
    expected = epochs(Plain(), count=1, seed=3)
    loader = DataLoader(Plain(), 7, seed=3, num_workers=2)
    found = []
    for number in range(5):
        found.append(next(loader))
        if number % 2:
            loader.close()
    assert_same(found, expected)


def test_a_busy_process_is_ended_in_time():
    loader = DataLoader(Items(what=sleep_long), 5, shuffle=False, num_workers=2, worker_type="process", prefetch=1)
    next(loader)
    time.sleep(0.1)
    children = multiprocessing.active_children()
    loader.close()
    assert left(0) == []
    # One was idle. A forkserver that learns too late of a signal says 255.
    assert sorted(child.exitcode for child in children) in ([-signal.SIGTERM, 0], [0, 255])


def sleep_long():
    time.sleep(1000)


def test_a_process_that_will_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE", 0.3)
    loader = DataLoader(Items(what=stubborn), 5, shuffle=False, num_workers=2, worker_type="process")
    next(loader)
    time.sleep(0.5)
    loader.close()
    assert left(0) == []


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def test_a_thread_that_is_busy_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE", 0.2)
    go_on = threading.Event()
    loader = DataLoader(Items(what=lambda: go_on.wait(30)), 5, shuffle=False, num_workers=1)
    next(loader)
    start = time.monotonic()
    loader.close()
    assert time.monotonic() - start < 20
    go_on.set()
    assert left() == []


def test_a_worker_may_collect_the_garbage_that_its_own_loader_is():
    class Collecting(Items):
        def __getitem__(self, index):
            gc.collect()
            return super().__getitem__(index)

    for _ in range(5):
        loader = DataLoader(Collecting(200), 2, num_workers=3)
        loader.itself = loader  # nothing but the garbage collector finds it
        next(loader)
        del loader
        time.sleep(0.01)
    assert left() == []


def test_a_lost_thread_is_replaced(monkeypatch):
    """As if Ctrl-C had struck between a task and the thread that was to do it."""
    monkeypatch.setattr(workers, "_LOOK", 0.05)
    crew = Crew(abs, 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: None)
        ticket = crew.submit(-3)
    assert crew.wait(ticket) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_program_has_workers_of_its_own():
    loader = DataLoader(Items(40, what=lambda: time.sleep(0.5)), 5, shuffle=False, num_workers=2)
    next(loader)  # and the next one is being loaded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.setitimer(signal.ITIMER_REAL, 20)
            os._exit(0 if next(loader)[1].tolist() == [5, 6, 7, 8, 9] and len(labels(loader)) == 8 else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert next(loader)[1].tolist() == [5, 6, 7, 8, 9]


def test_a_crew_stops_once_and_for_all_its_tasks():
    done = []
    crew = Crew(lambda task: (time.sleep(0.05), done.append(task)), 1)
    for task in range(20):
        crew.submit(task)
    crew.stop()
    count = len(done)
    time.sleep(0.2)
    assert len(done) == count < 20


def test_a_crew_of_processes_that_cannot_start_ends_those_that_did(monkeypatch):
    made = []

    class Second(workers._Worker):
        def __init__(self, *args):
            if made:
                raise OSError("no more")
            made.append(self)
            super().__init__(*args)

    monkeypatch.setattr(workers, "_Worker", Second)
    with pytest.raises(OSError, match="no more"):
        ProcessCrew(abs, 2, "spawn")
    assert left(0) == []


# Programs that end


HEAD = """
import multiprocessing, os, signal, sys, time
import numpy as np
from dezero import DataLoader
from dezero.datasets import Dataset

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background programs begin without it

class Slow(Dataset):
    def prepare(self):
        self.data = np.arange(1000)

    def __getitem__(self, index):
        time.sleep(0.001)
        if index == 50:
            time.sleep(float(os.environ.get("NAP", 0)))
            if "LEAVE" in os.environ:
                sys.exit(7)
        return index, os.getpid()

def loader(**options):
    return DataLoader(Slow(), 5, shuffle=False, num_workers=2, **options)
"""


def start(body, guard=True, nap=0, tmp=None):
    path = tmp / "program.py"
    lines = "\n".join("    " + line for line in body.splitlines()) if guard else body
    path.write_text(HEAD + ("\nif __name__ == '__main__':\n" if guard else "\n") + lines + "\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NAP": str(nap), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "error", str(path)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(program):
    try:
        out, err = program.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        pytest.fail("the program hangs")
    return program.returncode, out, err


def gone(pid):
    """Whether a process has gone: one that nobody waited for is as good as gone."""
    for _ in range(1000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks processes up in /proc")
WAYS = ["'thread'", *(repr(kind) for kind in PROCESSES)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("nap", [0, 100])
def test_a_program_ends_in_the_middle_of_an_epoch(tmp_path, way, nap):
    body = f"keep = loader(worker_type={way})\nfor batch in keep:\n    break\nprint('done')"
    assert finish(start(body, nap=nap, tmp=tmp_path)) == (0, "done\n", "")


@pytest.mark.parametrize("way", WAYS)
def test_an_error_in_the_loop_ends_the_program(tmp_path, way):
    body = f"for batch in loader(worker_type={way}):\n    raise KeyError('mine')"
    code, _, err = finish(start(body, nap=100, tmp=tmp_path))
    assert (code, err.splitlines()[-1]) == (1, "KeyError: 'mine'")


@needs_proc
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_the_program(tmp_path, way):
    """It goes to the whole group, as in a terminal, while the loop waits for an item that takes too long."""
    body = f"for x, pids in loader(worker_type={way}):\n    print(*pids, flush=True)"
    program = start(body, nap=1000, tmp=tmp_path)
    pids = {int(pid) for _ in range(8) for pid in program.stdout.readline().split()}
    time.sleep(0.3)
    os.killpg(program.pid, signal.SIGINT)
    code, _, err = finish(program)
    assert code in (-signal.SIGINT, 1, 130)
    assert err.count("KeyboardInterrupt") == 1
    assert all(gone(pid) for pid in pids)


@needs_proc
@pytest.mark.parametrize("way", WAYS[1:])
def test_processes_end_when_the_program_is_killed(tmp_path, way):
    body = f"for x, pids in loader(worker_type={way}):\n    print(*pids, flush=True)\n    time.sleep(0.01)"
    program = start(body, tmp=tmp_path)
    pids = {int(pid) for _ in range(8) for pid in program.stdout.readline().split()}
    assert len(pids) == 2
    program.kill()
    program.communicate()
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("way", WAYS)
def test_sys_exit_in_the_dataset_ends_the_program(tmp_path, way, monkeypatch):
    monkeypatch.setenv("LEAVE", "1")
    code, out, _ = finish(start(f"for batch in loader(worker_type={way}):\n    print('.')", tmp=tmp_path))
    assert (code, out.split()) == (7, ["."] * 10)


@pytest.mark.parametrize("way", WAYS[1:3])
def test_a_program_without_a_guard_is_told_so(tmp_path, way):
    code, _, err = finish(start(f"next(loader(worker_type={way}))", guard=False, tmp=tmp_path))
    assert code == 1
    assert "begins its work below `if __name__ == '__main__':`" in err.splitlines()[-1]
