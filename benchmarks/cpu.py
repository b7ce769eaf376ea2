"""How fast is dezero on this machine's CPU, beside PyTorch and the published DeZero?

    python benchmarks/cpu.py --out cpu.md --out cpu.json
    python benchmarks/cpu.py --quick --only conv
    python benchmarks/cpu.py --growth
    python benchmarks/cpu.py --check

Each contender is a process of its own that works only when it is told to; they take turns, round by round, so that what
slows the machine down slows all of them. README.md beside this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import report
from contenders import PUBLISHED, TORCH, Contender, Process, all_contenders, cores
from report import Row
from workloads import Workload, cnn, growth, table

# Long enough for the threads of the one who worked before to stop spinning and go to sleep.
PAUSE = 0.1
# A block in which others used more than this part of a core is timed again. The system counts in ticks: one is no news.
MOST_FOREIGN, TICK = 0.2, 0.02
TOLERANCE = 1e-4
# What a check changes in every spec: a rate that moves the weights, one order of the digits, and an epsilon so small
# that it does not matter that dezero's Adam and PyTorch's add it in two places (before and after v is corrected).
CHECKED = {"lr": 1e-3, "eps": 1e-20, "shuffle": False}
IMAGE_GROUPS = ("conv", "ops", "channels")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Timing ---------------------------------------------------------------------------------------------------------------


def measure(workload: Workload, processes: list[Process], options: Any) -> Row:
    """Time a workload: prepare and warm up everyone, then rounds in which each works for a moment, in turns."""
    row = Row(workload.name, workload.group, units=workload.units, per=workload.unit)
    spec = with_order(workload, options)
    taking_part = [process for process in processes if prepared(row, process, spec, options)]
    for number in range(options.rounds):
        for process in taking_part if number % 2 == 0 else taking_part[::-1]:
            reply = ask_when_quiet(row, process, options.seconds)
            note(row, process, reply, 1000 * statistics.median(reply.get("seconds", [0.0])))
    for process in processes:
        process.ask("drop")
    return row


def ask_when_quiet(row: Row, process: Process, seconds: float) -> dict[str, Any]:
    """Time a block, and again if other programs took part of the machine meanwhile. The third time counts anyway."""
    for _ in range(3):
        time.sleep(PAUSE)
        start, before = time.perf_counter(), busy_seconds()
        reply = process.ask("time", seconds=seconds)
        foreign = busy_seconds() - before - reply.get("cpu", 0.0)
        if foreign < MOST_FOREIGN * (time.perf_counter() - start) + TICK:
            return reply
    row.disturbed.append(process.contender.name)
    return reply


def busy_seconds() -> float:
    """How long this machine's cores have worked, all together and for anyone; 0 where the system does not tell."""
    try:
        user, nice, system, _idle, _iowait, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
    except OSError:
        return 0.0
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def with_order(workload: Workload, options: Any) -> dict[str, Any]:
    return {**workload.spec, "order": options.order} if workload.group in IMAGE_GROUPS else workload.spec


def prepared(row: Row, process: Process, spec: dict[str, Any], options: Any) -> bool:
    time.sleep(PAUSE)
    reply = process.ask("prepare", spec=spec, warm_up=options.seconds)
    if "error" in reply:
        row.errors[process.contender.name] = reply["error"]
    return "error" not in reply


def note(row: Row, process: Process, reply: dict[str, Any], value: float) -> None:
    name = process.contender.name
    if "error" in reply:
        row.errors[name] = reply["error"]
    else:
        row.rounds.setdefault(name, []).append(value)


def measure_all(workloads: list[Workload], processes: list[Process], options: Any) -> list[Row]:
    rows = []
    for number, workload in enumerate(workloads, 1):
        rows.append(measure(workload, processes, options))
        say(f"[{number}/{len(workloads)}] {in_short(rows[-1])}")
    return rows


def in_short(row: Row) -> str:
    return f"{row.name}: " + ", ".join(f"{name} {report.number(row.median(name))} {row.unit}" for name in row.rounds)


# Fresh processes ------------------------------------------------------------------------------------------------------


def measure_imports(contenders: list[Contender], rounds: int) -> Row:
    """Time `import` in fresh interpreters, in turns. `NumPy` is that of our own Python, without dezero."""
    row = Row("import", "import")
    jobs = [(c.name, c, "torch" if c.library == "torch" else "dezero") for c in contenders]
    ours = next((c for c in contenders if c.library == "dezero"), None)
    if ours:
        jobs.append(("NumPy", ours, "numpy"))
    for number in range(rounds + 1):
        for name, contender, module in jobs:
            ms = import_time(contender, module)
            if number:  # the first fills the disk's cache, and writes bytecode
                row.rounds.setdefault(name, []).append(ms)
    say(in_short(row))
    return row


def import_time(contender: Contender, module: str) -> float:
    patch = "import numpy; numpy.int = int; " if contender.library == "published" else ""
    code = f"import time; start = time.perf_counter(); {patch}import {module}; print(time.perf_counter() - start)"
    command = [contender.python, "-c", code]
    ran = subprocess.run(
        command, env=contender.environment(), check=True, capture_output=True, text=True, cwd=tempfile.gettempdir()
    )
    return 1000 * float(ran.stdout)


def measure_memory(contenders: list[Contender], rounds: int) -> Row:
    """The peak of resident memory of ten CNN steps above what importing took, each time in a fresh process."""
    row = Row("peak memory of the CNN step, batch 128", "memory", unit="MB")
    for _ in range(rounds):
        for contender in contenders:
            with Process(contender) as process:
                reply = process.ask("memory", spec=cnn(128), calls=10)
                note(row, process, reply, reply.get("worked", 0.0) - reply.get("imported", 0.0))
    say(in_short(row))
    return row


# Equal work -----------------------------------------------------------------------------------------------------------


def check(workloads: list[Workload], processes: list[Process], options: Any) -> bool:
    """Compare everyone's results with PyTorch's, and print the largest difference relative to the largest value."""
    right = True
    with tempfile.TemporaryDirectory() as folder:
        for workload in workloads:
            spec = {**with_order(workload, options), **CHECKED}
            saved = {p.contender.name: save_results(p, spec, Path(folder) / "results.npz") for p in processes}
            for name, results in saved.items():
                if name != TORCH:
                    right &= agrees(workload.name, name, results, saved[TORCH]) or name == PUBLISHED
    return right


def save_results(process: Process, spec: dict[str, Any], path: Path) -> Any:
    """Return the results by name, or the error that came instead."""
    import numpy as np

    reply = process.ask("check", spec=spec, path=str(path))
    if "error" in reply:
        return reply["error"]
    with np.load(path) as file:
        return dict(file)


def agrees(workload: str, name: str, results: Any, expected: Any) -> bool:
    if isinstance(results, str) or isinstance(expected, str):
        print(f"FAILED  {workload}: {name}: {results if isinstance(results, str) else expected}")
        return False
    errors = {key: difference(results[key], expected[key]) for key in expected}
    worst = max(errors, key=errors.__getitem__)
    right = errors[worst] <= TOLERANCE
    print(f"{'agrees' if right else 'DIFFERS'}  {workload}: {name}: {errors[worst]:.1e} ({worst})")
    return right


def difference(x: Any, expected: Any) -> float:
    if x.shape != expected.shape:
        return float("inf")
    return float(abs(x.astype("f8") - expected).max() / max(abs(expected.astype("f8")).max(), 1e-30))


# The command ----------------------------------------------------------------------------------------------------------


def start(contenders: list[Contender], stack: ExitStack) -> tuple[list[Process], dict[str, str]]:
    """Start everyone's worker, and say who is left out, and why."""
    processes, left_out = [], {}
    for contender in contenders:
        try:
            process = stack.enter_context(Process(contender))
        except OSError as error:
            left_out[contender.name] = str(error)
            say(f"left out: {contender.name}: {error}")
        else:
            processes.append(process)
            say(f"{contender.name}: {process.about['versions']}; {contender.threads}")
    return processes, left_out


def about(processes: list[Process], left_out: dict[str, str], options: Any) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "cpu": cpu_model(),
        "cores": cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_before": f"{os.getloadavg()[0]:.2f}",
        "rounds": options.rounds,
        "seconds": options.seconds,
        "order": options.order,
        "versions": {process.contender.name: process.about["versions"] for process in processes},
        "threads": {process.contender.name: process.contender.threads for process in processes},
        "left_out": left_out,
    }


def cpu_model() -> str:
    """The CPU's name, and its family and model: virtual machines shorten the name."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.replace("\t", "").split(": ", 1) for line in first.splitlines() if ": " in line)
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else name


def run_table(processes: list[Process], options: Any) -> list[Row]:
    contenders = [process.contender for process in processes]
    rows = measure_all(chosen(table(), options.only), processes, options)
    if not options.only or "import" in options.only:
        rows.append(measure_imports(contenders, 3 * options.rounds))
    if not options.only or "memory" in options.only:
        rows.append(measure_memory(contenders, 1 if options.quick else 3))
    return rows


def chosen(workloads: list[Workload], groups: list[str] | None) -> list[Workload]:
    return [workload for workload in workloads if not groups or workload.group in groups]


def publish(rows: list[Row], tables: list[str], facts: dict[str, Any], paths: list[Path]) -> None:
    """Print the tables, and write them to the files of --out: all rounds to .json, the tables to any other."""
    text = "\n\n".join(part for part in tables if part)
    print(text)
    for path in paths:
        if path.suffix == ".json":
            text_of_file = json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=1, ensure_ascii=False)
        else:
            text_of_file = text
        path.write_text(text_of_file + "\n", encoding="utf-8")


def parse_args() -> argparse.Namespace:
    groups = list(dict.fromkeys([*(w.group for w in table()), "import", "memory", *(w.group for w in growth(True))]))
    parser = argparse.ArgumentParser(description="Time dezero, PyTorch and the published DeZero on the CPU, in turns.")
    parser.add_argument("--only", choices=groups, action="append", metavar="GROUP", help=f"of {', '.join(groups)}")
    parser.add_argument("--growth", action="store_true", help="the second table: how cost grows with size")
    parser.add_argument("--check", action="store_true", help="compare results with PyTorch's, and time nothing")
    parser.add_argument("--quick", action="store_true", help="a fast look: 3 short rounds")
    parser.add_argument("--rounds", type=int, help="default: 7; 3 with --growth or --quick")
    parser.add_argument("--seconds", type=float, help="for each contender in each round (default: 0.2; quick: 0.1)")
    parser.add_argument("--out", type=Path, action="append", default=[], help="a .json or .md file; may be repeated")
    parser.add_argument("--backends", nargs="+", help="ours, by kernels (default: all that can run)")
    parser.add_argument("--threads", nargs="+", default=["default"], help="ours: `default` or numbers, a column each")
    parser.add_argument("--torch-threads", default="2", help="default: 2")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--published", metavar="PYTHON", help="a Python that has the published DeZero (default: none)")
    parser.add_argument("--order", choices=["NCHW", "NHWC"], default="NCHW",
                        help="of conv's and ops' images in memory, for everyone (default: NCHW)")  # fmt: skip
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.growth or args.quick else 7)
    args.seconds = args.seconds or (0.1 if args.quick else 0.2)
    return args


def main() -> int:
    options = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers are ended, as after Ctrl-C
    with ExitStack() as stack:
        load = os.getloadavg()[0]
        processes, left_out = start(all_contenders(options), stack)
        if not options.published:
            left_out[PUBLISHED] = "name a Python that has it: --published PYTHON"
            say(f"left out: {PUBLISHED}: {left_out[PUBLISHED]}")
        if options.growth:
            processes = [process for process in processes if process.contender.library != "published"]
        facts = {**about(processes, left_out, options), "load_before": f"{load:.2f}"}
        contenders = [process.contender for process in processes]
        workloads = growth(options.quick) if options.growth else table()
        if options.check:
            return 0 if check(chosen(workloads, options.only), processes, options) else 1
        if options.growth:
            rows = measure_all(chosen(workloads, options.only), processes, options)
            tables = [report.growth_table(rows, contenders)]
        else:
            rows = run_table(processes, options)
            tables = [report.results_table(rows, contenders), report.bar_table(rows, contenders)]
        publish(rows, [*tables, report.notes(rows, contenders, facts)], facts, options.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
