"""The tables: from medians to Markdown."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from contenders import PUBLISHED, TORCH, Contender
from workloads import BARS, Bar

MISSING = "-"


@dataclass
class Row:
    """What was measured of one workload: for each contender the figure of each round, in `unit`."""

    name: str
    group: str
    unit: str = "ms"
    rounds: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    disturbed: list[str] = field(default_factory=list)  # who worked, in rounds that were never quiet
    units: int = 1
    per: str = ""

    def median(self, name: str) -> float | None:
        return statistics.median(self.rounds[name]) if self.rounds.get(name) else None

    def ratio(self, name: str, to: str) -> float | None:
        above, below = self.median(name), self.median(to)
        return above / below if above is not None and below else None

    def spread(self) -> list[float]:
        """How far each contender's rounds lie apart, relative to their median: the middle half of them."""
        return [
            (quartiles[2] - quartiles[0]) / quartiles[1]
            for quartiles in (statistics.quantiles(values, n=4) for values in self.rounds.values() if len(values) > 2)
        ]


def geometric_mean(values: list[float | None]) -> float | None:
    if not values or any(value is None or value <= 0 for value in values):
        return None
    return math.exp(statistics.fmean(math.log(value) for value in values))  # type: ignore[arg-type]


def number(value: float | None) -> str:
    """Three digits: 0.123, 1.23, 12.3, 123, 1,234."""
    if value is None:
        return MISSING
    digits = 2 if value <= 0 else max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{min(digits, 4)}f}"


def ratio(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def results_table(rows: list[Row], contenders: list[Contender]) -> str:
    """PyTorch's figure, and for every other contender its figure and how many times PyTorch's that is."""
    others = [contender.name for contender in contenders if contender.name != TORCH]
    head = ["", TORCH] + [cell for name in others for cell in (name, "/ PyTorch")]
    lines = []
    for row in rows:
        cells = [f"{row.name} ({row.unit})", number(row.median(TORCH))]
        for name in others:
            cells += [number(row.median(name)), ratio(row.ratio(name, TORCH))]
        lines.append(cells)
    return markdown(head, lines)


def bar_table(rows: list[Row], contenders: list[Contender]) -> str:
    """The bar of issue 4: geometric means of ours / PyTorch, and beside them what they must reach."""
    ours = [contender for contender in contenders if contender.library == "dezero"]
    shown = [*(contender.name for contender in ours), *(c.name for c in contenders if c.name == PUBLISHED)]
    by_name = {row.name: row for row in rows}
    lines = []
    for bar in BARS:
        if all(name in by_name for name in bar.rows):
            means = [bar_mean(bar, by_name, name) for name in shown]
            lines.append([bar.name, *map(ratio, means), ratio(bar.with_numba), ratio(bar.numpy_alone)])
    return markdown(["ours / PyTorch", *shown, "bar with Numba", "bar, NumPy alone"], lines) if lines else ""


def bar_mean(bar: Bar, rows: dict[str, Row], name: str) -> float | None:
    return geometric_mean([rows[row].ratio(name, bar.against) for row in bar.rows])


def growth_table(rows: list[Row], contenders: list[Contender]) -> str:
    """Cost per node, image or floating-point operation: flat where cost grows in step with the work."""
    ours = [contender.name for contender in contenders if contender.library == "dezero"]
    names = [TORCH, *ours]
    head = ["", *[f"{name}, ms" for name in names], *[f"{name}, per unit" for name in names]]
    head += [f"{name} / PyTorch" for name in ours]
    lines = []
    for row in rows:
        cells = [row.name, *[number(row.median(name)) for name in names]]
        cells += [per_unit(row, name) for name in names]
        lines.append([*cells, *[ratio(row.ratio(name, TORCH)) for name in ours]])
    return markdown(head, lines)


def per_unit(row: Row, name: str) -> str:
    ms = row.median(name)
    if ms is None:
        return MISSING
    if row.per == "flop":
        return f"{row.units / ms / 1e6:.0f} GFLOP/s"
    return f"{number(1000 * ms / row.units)} µs a {row.per}"


def notes(rows: list[Row], contenders: list[Contender], about: dict[str, Any]) -> str:
    """Where and with what the figures were made, who is missing, and what failed."""
    lines = [
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, {about['system']}, Python {about['python']}; "
        f"load before the run {about['load_before']}; medians of {about['rounds']} rounds"
    ]
    spreads = [spread for row in rows for spread in row.spread()]
    if spreads:
        lines[0] += f", whose middle half typically spans {statistics.median(spreads):.0%}"
    if about["order"] != "NCHW":
        lines.append(f"images of single operations lie in memory as {about['order']}")
    for contender in contenders:
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"][contender.name].items())
        lines.append(f"{contender.name}: {versions}; {contender.threads}")
    disturbed = {row.name: len(row.disturbed) for row in rows if row.disturbed}
    if disturbed:
        rounds = ", ".join(f"{name} ({count})" for name, count in disturbed.items())
        lines.append(f"blocks in which other programs used the machine, three times in a row: {rounds}")
    lines += [f"left out: {name}: {reason}" for name, reason in about["left_out"].items()]
    lines += [f"failed: {row.name}: {name}: {error}" for row in rows for name, error in row.errors.items()]
    return "\n".join(f"- {line}" for line in lines)
