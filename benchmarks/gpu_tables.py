"""What gpu.py has measured, and the tables made of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gpu_workloads import BARS, CAPTURED, CHANNELS_LAST, OURS, TORCH, TORCH_COMPILED, TORCH_GRAPH, Bar
from report import MISSING, geometric_mean, markdown, number, ratio

TOLERANCE, TOLERANCE_TF32 = 1e-4, 1e-2


@dataclass
class Figures:
    """What was measured of one contender in one workload; times are milliseconds a step."""

    events: list[float] = field(default_factory=list)  # of each round, by the device's own clock
    clock: list[float] = field(default_factory=list)  # of each round, by ours
    python: float | None = None
    kernels: float | None = None
    copies: float | None = None
    busy: float | None = None  # what the kernels took, one by one
    first_loss: float | None = None
    difference: float | None = None  # of results, relative to the largest number of the reference's
    error: str = ""

    def rounds(self) -> list[float]:
        return [max(pair) for pair in zip(self.events, self.clock, strict=True)]

    def ms(self) -> float | None:
        """The cost of a step: the larger of the two times, in the median of the rounds."""
        return statistics.median(self.rounds()) if self.events else None

    def spread(self) -> float | None:
        """How far the middle half of the rounds lies apart, relative to their median."""
        if len(self.events) < 3:
            return None
        first, second, third = statistics.quantiles(self.rounds(), n=4)
        return (third - first) / second


@dataclass
class Row:
    name: str
    group: str
    images: int
    figures: dict[str, Figures] = field(default_factory=dict)

    def ms(self, name: str) -> float | None:
        return self.figures[name].ms() if name in self.figures else None

    def ratio(self, name: str, to: str) -> float | None:
        above, below = self.ms(name), self.ms(to)
        return above / below if above is not None and below else None


# Tables ---------------------------------------------------------------------------------------------------------------


def step_table(rows: list[Row]) -> str:
    head = ["", "", "ms a step", "spread", "/ PyTorch", "images/s", "events, ms", "clock, ms", "Python, ms"]
    head += ["kernels", "copies", "kernels, ms", "first loss", "apart"]
    lines = []
    for row in rows:
        for name, figures in row.figures.items():
            ms = figures.ms()
            cells = [row.name, name, number(ms), percent(figures.spread()), ratio(row.ratio(name, TORCH))]
            cells.append(f"{1000 * row.images / ms:,.0f}" if ms and row.images else MISSING)
            cells += [number(median(figures.events)), number(median(figures.clock)), number(figures.python)]
            cells += [count(figures.kernels), count(figures.copies), number(figures.busy)]
            cells += [MISSING if figures.first_loss is None else f"{figures.first_loss:.5f}"]
            lines.append([*cells, scientific(figures.difference)])
    return markdown(head, lines) if lines else ""


def convolution_table(rows: list[Row]) -> str:
    """PyTorch's milliseconds, and how many times that ours take: called from Python, and replayed by both."""
    head = ["", "PyTorch, ms", "dezero, ms", "/ PyTorch", "replayed: PyTorch, ms", "dezero, ms", "/ PyTorch", "apart"]
    lines = []
    for row in rows:
        cells = [row.name]
        for ours, theirs in ((OURS, TORCH), (CAPTURED, TORCH_GRAPH)):
            cells += [number(row.ms(theirs)), number(row.ms(ours)), ratio(row.ratio(ours, theirs))]
        known = [row.figures[name].difference for name in (OURS, CAPTURED)]
        known = [value for value in known if value is not None]
        lines.append([*cells, scientific(max(known) if known else None)])
    for backward in ("forward", "forward + backward"):
        chosen = [row for row in rows if row.name.endswith(f": {backward}")]
        means = [mean(chosen, *pair) for pair in ((OURS, TORCH), (CAPTURED, TORCH_GRAPH))]
        cells = [f"geometric mean, {backward}", MISSING, MISSING, ratio(means[0]), MISSING, MISSING, ratio(means[1])]
        lines.append([*cells, MISSING])
    return markdown(head, lines) if rows else ""


def order_table(rows: list[Row]) -> str:
    """What the setting `channels_last` does to a step: below 1 it is faster."""
    head = ["", "C order, ms", "channels last, ms", "/ C order", "kernels: C order", "channels last", "apart"]
    lines = []
    for row in rows:
        both = [row.figures[name] for name in (CAPTURED, CHANNELS_LAST)]
        cells = [row.name, *(number(figures.ms()) for figures in both), ratio(row.ratio(CHANNELS_LAST, CAPTURED))]
        lines.append([*cells, *(count(figures.kernels) for figures in both), scientific(both[1].difference)])
    return markdown(head, lines) if lines else ""


def mean(rows: list[Row], ours: str, theirs: str) -> float | None:
    return geometric_mean([row.ratio(ours, theirs) for row in rows])


def bar_value(bar: Bar, rows: list[Row]) -> float | None:
    """Return what was measured; None where a row of the bar's is missing."""
    chosen = [row for row in rows if row.name in bar.rows]
    return mean(chosen, bar.ours, bar.theirs) if len(chosen) == len(bar.rows) else None


def bar_table(rows: list[Row]) -> str:
    names = {row.name for row in rows}
    lines = []
    for bar in BARS:
        if names.issuperset(bar.rows):
            value = bar_value(bar, rows)
            lines.append([bar.name, ratio(value), f"at most {bar.most:.1f}", verdict(bar, value)])
    return markdown(["", "measured", "bar", "met"], lines) if lines else ""


def verdict(bar: Bar, value: float | None) -> str:
    if value is None:
        return "not measured"
    return "yes" if value <= bar.most else "no"


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0%}"


def count(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f}"


def scientific(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0e}"


def tolerance(row: Row, about: dict[str, Any]) -> float:
    return TOLERANCE_TF32 if about["tf32"] or row.group == "order" else TOLERANCE


def failures(rows: list[Row], names: Callable[[str], bool]) -> list[str]:
    """Who failed, with what, and in which rows."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, figures in row.figures.items():
            if figures.error and names(name):
                found.setdefault((name, figures.error), []).append(row.name)
    return [f"failed: {name}, in {'; '.join(where)}: {error}" for (name, error), where in found.items()]


def is_ours(name: str) -> bool:
    return name in (OURS, CAPTURED, CHANNELS_LAST)


def problems(rows: list[Row], about: dict[str, Any]) -> list[str]:
    """What is wrong: ours failed, or two do not compute the same."""
    found = failures(rows, is_ours)
    for row in rows:
        for name, figures in row.figures.items():
            most = tolerance(row, about)
            if figures.difference is not None and figures.difference > most:
                found.append(f"DIFFERS: {row.name}: {name}: {figures.difference:.1e}, at most {most:.0e}")
    return found


def notes(rows: list[Row], about: dict[str, Any]) -> str:
    lines = [
        f"{about['date']}; TF32 {'on' if about['tf32'] else 'off'} on both sides; medians of {about['rounds']} rounds "
        f"of {about['seconds']:g} s, in turns; spread is that of their middle half"
    ]
    lines += problems(rows, about) + failures(rows, lambda name: not is_ours(name))
    if about["quick"]:
        lines.append(f"quick: short rounds, and no {TORCH_COMPILED}")
    return "\n".join(f"- {line}" for line in lines + about.get("notes", []))


def as_markdown(rows: list[Row], about: dict[str, Any]) -> str:
    width = max(map(len, about["versions"]))
    head = "\n".join(f"{name:{width}}  {text}" for name, text in about["versions"].items())
    orders, convolutions = ([row for row in rows if row.group == group] for group in ("order", "conv"))
    steps = [row for row in rows if row.group not in ("order", "conv")]
    parts = [f"```\n{head}\n```", step_table(steps), order_table(orders), convolution_table(convolutions)]
    parts.append(bar_table(rows))
    return "\n\n".join(part for part in [*parts, notes(rows, about)] if part) + "\n"


def as_json(rows: list[Row], about: dict[str, Any]) -> str:
    written = [asdict(row) for row in rows]
    for row, entry in zip(rows, written, strict=True):
        for name, figures in row.figures.items():
            entry["figures"][name]["ms"] = figures.ms()
    bars = [{**bar._asdict(), "measured": (value := bar_value(bar, rows)), "met": verdict(bar, value)} for bar in BARS]
    return json.dumps({**about, "bars": bars, "rows": written}, indent=1, ensure_ascii=False) + "\n"
