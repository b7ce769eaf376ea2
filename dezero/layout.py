"""Places for the nodes and edges of a drawing: layers, few crossings, straight lines.

Sugiyama's method, in four steps, each a function below: `_ranks` gives each node a layer under its causes; `_cut` leads
edges that pass layers through bends, one a layer; `_reorder` sorts each layer so that few edges cross; `_columns` gives
each node its place in the layer. It works on numbers alone: nodes are 0, 1, ..., edges are pairs of them.

Sugiyama, Tagawa and Toda (1981); sweeps after Gansner, Koutsofios, North and Vo, "A technique for drawing directed
graphs" (1993); columns after Brandes and Koepf, "Fast and simple horizontal coordinate assignment" (2001).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

__all__ = ["Layout", "layout"]

Point = tuple[float, float]
Wishes = list[list[int]] | dict[int, list[int]]

NODE_GAP = 20.0  # between neighbours in a layer
LINE_GAP = 14.0  # the same where one of them is a line that passes
PORT_GAP = 14.0  # between edges that end at one node
LAYER_GAP = 20.0  # between layers, and more where edges run far sideways
HEAD = 8.0  # the length of an arrow head, for which edges run straight before they end
STARTS, SWEEPS = 12, 24  # how often layers are sorted
WORK = 60_000  # and how many nodes, at the most, are looked at in all


class Layout(NamedTuple):
    """Where things are: the centres of nodes, the points an edge runs through, and the size of it all.

    An edge runs straight where two of its points are above each other, and swings from one column to the other where
    they are not: it is vertical at each point.
    """

    centres: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def layout(sizes: Sequence[Point], edges: Sequence[tuple[int, int]]) -> Layout:
    """Place nodes of the given (width, height) in layers, so that edges run downward and never through a node.

    Edges of one node that pass layers share their way until they part. What it costs is the number of nodes and of
    bends, one for each layer that the edges of a node pass: about a second for a few thousand. Layers are sorted 24
    times over, from 12 orders to start from, and less often for more than 200 nodes and bends, so that the time does
    not run away: then more edges cross than need be. Worst are gradients of long chains, where each result is used far
    below: 1,800 nodes take some 4 seconds, 5,400 half a minute.

    Raises ValueError when the edges form a cycle.

    >>> layout([(30, 20), (30, 20)], [(0, 1)])
    Layout(centres=[(15.0, 10.0), (15.0, 58.0)], routes=[[(15.0, 20.0), (15.0, 48.0)]], width=30.0, height=68.0)
    """
    ranks = _ranks(len(sizes), edges)
    graph, ways = _cut(ranks, edges)
    _reorder(graph)
    widths = [width for width, _ in sizes] + [0.0] * (len(graph.up) - len(sizes))
    xs = _columns(graph, widths)
    left = min((x - width / 2 for x, width in zip(xs, widths, strict=True)), default=0.0)
    xs = [x - left for x in xs]
    rows = _rows(graph, xs, sizes)
    centres = [(xs[v], (rows[rank][0] + rows[rank][1]) / 2) for v, rank in enumerate(ranks)]
    width = max((x + width / 2 for x, width in zip(xs, widths, strict=True)), default=0.0)
    return Layout(centres, _routes(ways, ranks, centres, sizes, xs, rows), width, rows[-1][1] if rows else 0.0)


# ----------------------------------------------------------------------------------------------------------------------
# 1. Layers
# ----------------------------------------------------------------------------------------------------------------------


def _neighbours(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    up: list[list[int]] = [[] for _ in range(count)]
    down: list[list[int]] = [[] for _ in range(count)]
    for start, end in edges:
        up[end].append(start)
        down[start].append(end)
    return up, down


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Give each node a layer, 0 at the top, as far down as its results let it: leaves stand where they are used.

    What has as many causes as results or more then goes up to its causes, which makes its edges shorter, or no longer.
    Leaves that are used once do not hold it back: they go where it goes.
    """
    up, down = _neighbours(count, edges)
    order = _from_causes_to_results(up, down)
    rank = [0] * count
    for v in reversed(order):
        rank[v] = min((rank[w] for w in down[v]), default=0) - 1
    for v in order:
        causes = [u for u in up[v] if up[u] or len(down[u]) > 1]
        if causes and len(causes) >= len(down[v]):
            rank[v] = max(rank[u] for u in causes) + 1
    for v in order:
        if down[v] and not up[v]:
            rank[v] = min(rank[w] for w in down[v]) - 1
    top = min(rank, default=0)
    return [r - top for r in rank]


def _from_causes_to_results(up: list[list[int]], down: list[list[int]]) -> list[int]:
    missing = [len(causes) for causes in up]
    order = [v for v, count in enumerate(missing) if not count]
    for v in order:  # it grows
        for w in down[v]:
            missing[w] -= 1
            if not missing[w]:
                order.append(w)
    if len(order) < len(up):
        raise ValueError("layout: the edges must form no cycle, but some do")
    return order


# ----------------------------------------------------------------------------------------------------------------------
# 2. Bends
# ----------------------------------------------------------------------------------------------------------------------


class _Layered(NamedTuple):
    """A graph whose edges all lead to the next layer. Nodes from `first_bend` on are bends in an edge."""

    first_bend: int
    layers: list[list[int]]
    up: list[list[int]]
    down: list[list[int]]


def _cut(ranks: list[int], edges: Sequence[tuple[int, int]]) -> tuple[_Layered, list[list[int]]]:
    """Cut edges at each layer; return the graph, and the nodes and bends each edge goes through.

    The edges of one node share their bends. So a variable that is used in a thousand places is one line with branches,
    not a thousand lines, and costs as many bends as its longest edge has, not the sum of all.
    """
    layers: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for v, rank in enumerate(ranks):
        layers[rank].append(v)
    next_node = len(ranks)
    steps: list[tuple[int, int]] = []
    trunks: dict[int, list[int]] = {}  # a node and the bends below it
    ways = []
    for start, end in edges:
        trunk = trunks.setdefault(start, [start])
        length = ranks[end] - ranks[start]
        while len(trunk) < length:
            layers[ranks[start] + len(trunk)].append(next_node)
            steps.append((trunk[-1], next_node))
            trunk.append(next_node)
            next_node += 1
        steps.append((trunk[length - 1], end))
        ways.append([*trunk[:length], end])
    return _Layered(len(ranks), layers, *_neighbours(next_node, steps)), ways


# ----------------------------------------------------------------------------------------------------------------------
# 3. The order in each layer
# ----------------------------------------------------------------------------------------------------------------------


def _reorder(graph: _Layered) -> None:
    """Sort the layers so that few edges cross: from several orders to start from, shuffled ones too, keep the best."""
    draw = Random(0)  # of its own: a picture is the same each time, and takes nothing from the user's random numbers
    starts = max(1, min(STARTS, WORK // (SWEEPS * len(graph.up) + 1)))
    first = [layer[:] for layer in graph.layers]
    best, fewest = first, _crossings(graph, _positions(graph))
    for start in range(starts):
        graph.layers[:] = [draw.sample(layer, len(layer)) if start > 1 else layer[:] for layer in first]
        for crossings in _sweep(graph, downward=start % 2 == 0):
            if crossings < fewest:
                best, fewest = [layer[:] for layer in graph.layers], crossings
        if not fewest:
            break
    graph.layers[:] = best


def _sweep(graph: _Layered, downward: bool) -> Iterator[int]:
    """Sort each layer by where its neighbours are, now from the top down and now from the bottom up.

    Yields the number of crossings after each sweep.
    """
    position = _positions(graph)
    sweeps = max(4, min(SWEEPS, WORK // (len(graph.up) + 1)))
    for sweep in range(sweeps):
        middle = _mean if sweep // 2 % 2 else _median
        towards = graph.up if downward else graph.down
        for layer in graph.layers if downward else reversed(graph.layers):
            _sort(layer, towards, position, middle)
        # Now and then swap what makes no difference: it leads out of orders that no single swap makes better.
        _swap_all(graph, position, at_least=0 if sweep // 4 % 2 else 1)
        for _ in range(sweeps):
            if not _swap_all(graph, position, at_least=1):
                break
        downward = not downward
        yield _crossings(graph, position)


def _positions(graph: _Layered) -> list[int]:
    position = [0] * len(graph.up)
    for layer in graph.layers:
        for i, v in enumerate(layer):
            position[v] = i
    return position


def _sort(
    layer: list[int], towards: list[list[int]], position: list[int], middle: Callable[[list[int]], float]
) -> None:
    """Sort a layer by the middle of each node's neighbours; who has none keeps their place."""
    wish = {v: middle(sorted(position[u] for u in towards[v])) for v in layer if towards[v]}
    ordered = iter(sorted(wish, key=wish.__getitem__))
    layer[:] = [next(ordered) if v in wish else v for v in layer]
    for i, v in enumerate(layer):
        position[v] = i


def _mean(places: list[int]) -> float:
    return sum(places) / len(places)


def _median(places: list[int]) -> float:
    return (places[(len(places) - 1) // 2] + places[len(places) // 2]) / 2


def _swap_all(graph: _Layered, position: list[int], at_least: int) -> bool:
    """Swap neighbours in a layer where that saves at least so many crossings; say whether it saved any."""
    saved_any = False
    for layer in graph.layers:
        for i in range(len(layer) - 1):
            v, w = layer[i], layer[i + 1]
            saved = _saved(graph.up, v, w, position) + _saved(graph.down, v, w, position)
            if saved >= at_least:
                layer[i], layer[i + 1] = w, v
                position[w], position[v] = i, i + 1
                saved_any |= saved > 0
    return saved_any


def _saved(towards: list[list[int]], v: int, w: int, position: list[int]) -> int:
    if not towards[v] or not towards[w]:
        return 0
    left, right = (sorted([position[u] for u in towards[node]]) for node in (v, w))
    return _inversions(left, right) - _inversions(right, left)


def _inversions(left: list[int], right: list[int]) -> int:
    """Count the pairs of an edge of `left` and one of `right`, both sorted, that cross."""
    return sum(bisect_left(right, place) for place in left)


def _crossings(graph: _Layered, position: list[int]) -> int:
    """Count the pairs of edges that cross, between all layers."""
    total = 0
    for layer in graph.layers:
        seen: list[int] = []
        for v in layer:
            places = sorted(position[w] for w in graph.down[v])
            total += sum(len(seen) - bisect_left(seen, place + 1) for place in places)
            for place in places:
                insort(seen, place)
    return total


# ----------------------------------------------------------------------------------------------------------------------
# 4. Columns
# ----------------------------------------------------------------------------------------------------------------------


def _columns(graph: _Layered, widths: list[float]) -> list[float]:
    """Give each node a place in its layer, such that most stand in a line with a neighbour, and bends always do.

    Four drawings, each made from one corner, pull nodes to their causes or their results, left or right; the place of
    a node is in the middle of the four.
    """
    drawings = []
    for towards in (graph.up, graph.down):
        layers = graph.layers if towards is graph.up else graph.layers[::-1]
        for side in (1, -1):
            mirrored = [layer[::side] for layer in layers]
            line = _lines(graph, mirrored, towards)
            drawings.append([side * x for x in _pack(graph, mirrored, line, widths)])
    drawings = _line_up(drawings)
    xs = [sum(sorted(places)[1:3]) / 2 for places in zip(*drawings, strict=True)]
    for _ in range(4):
        _slide(graph, xs, widths)
    return xs


def _gap(v: int, w: int, graph: _Layered, widths: list[float]) -> float:
    """Return how far apart the centres of two neighbours in a layer must be."""
    return (widths[v] + widths[w]) / 2 + (LINE_GAP if max(v, w) >= graph.first_bend else NODE_GAP)


def _lines(graph: _Layered, layers: list[list[int]], towards: list[list[int]]) -> list[int]:
    """Give each node the first node of the line in which it stands. No two lines cross; the straightest come first.

    Bends stand in line with bends; then a node and its only neighbour, when it has no other either; then each node with
    the middle one of its neighbours.
    """
    back = graph.down if towards is graph.up else graph.up
    first = graph.first_bend
    bend = [[u for u in us if u >= first][:1] if v >= first else [] for v, us in enumerate(towards)]
    only = [us if len(us) == 1 and len(back[us[0]]) == 1 else [] for us in towards]
    line = list(range(len(towards)))
    position: dict[int, int] = {}
    for layer in layers:
        middle = {v: _middle_two(sorted(towards[v], key=position.__getitem__)) for v in layer}
        partner: dict[int, int] = {}
        for wishes in (bend, only, middle):
            _pair(layer, wishes, partner, position)
        for v, u in partner.items():
            line[v] = line[u]
        position = {v: i for i, v in enumerate(layer)}
    return line


def _middle_two(nodes: list[int]) -> list[int]:
    return nodes[(len(nodes) - 1) // 2 : len(nodes) // 2 + 1]


def _pair(layer: list[int], wishes: Wishes, partner: dict[int, int], position: dict[int, int]) -> None:
    """Give nodes of a layer the first partner they wish for whose line crosses none of those that others have."""
    limit, limits = len(position), []
    for v in reversed(layer):
        limits.append(limit)
        if v in partner:
            limit = position[partner[v]]
    last = -1
    for v, limit in zip(layer, reversed(limits), strict=True):
        if v not in partner:
            partner.update([(v, u) for u in wishes[v] if last < position[u] < limit][:1])
        if v in partner:
            last = position[partner[v]]


def _pack(graph: _Layered, layers: list[list[int]], line: list[int], widths: list[float]) -> list[float]:
    """Place lines side by side, each as far to the left as the nodes before it let it, and then close up gaps."""
    gaps: dict[tuple[int, int], float] = {}
    for layer in layers:
        for v, w in pairwise(layer):
            pair = line[v], line[w]
            gaps[pair] = max(_gap(v, w, graph, widths), gaps.get(pair, 0.0))
    left, right = _neighbours(len(line), list(gaps))
    x = [0.0] * len(line)
    order = _from_causes_to_results(left, right)
    for v in order:
        x[v] = max((x[u] + gaps[u, v] for u in left[v]), default=0.0)
    for v in reversed(order):
        x[v] = max(x[v], min((x[w] - gaps[v, w] for w in right[v]), default=x[v]))
    return [x[v] for v in line]


def _line_up(drawings: list[list[float]]) -> list[list[float]]:
    """Move each drawing to where the narrowest is: by its left edge if it was packed to the left, else by its right."""
    if not drawings[0]:
        return drawings
    narrowest = min(drawings, key=lambda xs: max(xs) - min(xs))
    moved = []
    for i, xs in enumerate(drawings):
        edge = (min, max)[i % 2]
        shift = edge(narrowest) - edge(xs)
        moved.append([x + shift for x in xs])
    return moved


def _slide(graph: _Layered, xs: list[float], widths: list[float]) -> None:
    """Move what stands in a line to the middle of what it is connected to, as far as there is room.

    The four drawings leave a node that could be anywhere in the middle of nowhere.
    """
    beside: list[tuple[int, int]] = [(-1, -1)] * len(xs)
    for layer in graph.layers:
        for i, v in enumerate(layer):
            beside[v] = (layer[i - 1] if i else -1, layer[i + 1] if i + 1 < len(layer) else -1)
    for line in _straight(graph, xs):
        x = xs[line[0]]
        members = set(line)
        pulls = sorted(xs[u] for v in line for u in (*graph.up[v], *graph.down[v]) if u not in members)
        if not pulls:
            continue
        low = max((xs[u] + _gap(u, v, graph, widths) for v in line if (u := beside[v][0]) >= 0), default=-math.inf)
        high = min((xs[w] - _gap(v, w, graph, widths) for v in line if (w := beside[v][1]) >= 0), default=math.inf)
        x = min(max(x, pulls[(len(pulls) - 1) // 2]), pulls[len(pulls) // 2])
        x = max(low, min(x, high))
        for v in line:
            xs[v] = x


def _straight(graph: _Layered, xs: list[float]) -> list[list[int]]:
    """Return the lines of nodes that an edge joins to one straight below them, each node in one."""
    line: dict[int, list[int]] = {}
    for layer in graph.layers:
        for v in layer:
            own = line.setdefault(v, [v])
            for w in graph.down[v]:
                if abs(xs[w] - xs[v]) < 0.01 and w not in line:
                    own.append(w)
                    line[w] = own
    return [own for v, own in line.items() if own[0] == v]


# ----------------------------------------------------------------------------------------------------------------------
# 5. Rows and routes
# ----------------------------------------------------------------------------------------------------------------------


def _rows(graph: _Layered, xs: list[float], sizes: Sequence[Point]) -> list[Point]:
    """Return the top and bottom of each layer; edges that run far sideways get more room to do it."""
    rows: list[Point] = []
    top = 0.0
    for layer in graph.layers:
        bottom = top + max((sizes[v][1] for v in layer if v < graph.first_bend), default=0.0)
        rows.append((top, bottom))
        sideways = max((abs(xs[v] - xs[w]) for v in layer for w in graph.down[v]), default=0.0)
        top = bottom + LAYER_GAP + HEAD + min(40.0, sideways / 8)
    return rows


def _routes(
    ways: list[list[int]],
    ranks: list[int],
    centres: list[Point],
    sizes: Sequence[Point],
    xs: list[float],
    rows: list[Point],
) -> list[list[Point]]:
    """Return the points of each edge: out of its node, down through its bends, into the top of the other."""
    ports = _ports(ways, sizes, xs)
    routes = []
    for way, port in zip(ways, ports, strict=True):
        start, end = way[0], way[-1]
        rank = ranks[start]
        points = [(xs[start], centres[start][1] + sizes[start][1] / 2), (xs[start], rows[rank][1])]
        for bend in way[1:-1]:
            rank += 1
            points += [(xs[bend], rows[rank][0] - HEAD), (xs[bend], rows[rank][1])]
        points += [(port, rows[rank + 1][0] - HEAD), (port, centres[end][1] - sizes[end][1] / 2)]
        routes.append(_without_what_lies_between(points))
    return routes


def _ports(ways: list[list[int]], sizes: Sequence[Point], xs: list[float]) -> list[float]:
    """Return where each edge enters the node at its end: side by side, in the order in which they come."""
    entering: dict[int, list[int]] = {}
    for i, way in enumerate(ways):
        entering.setdefault(way[-1], []).append(i)
    ports = [0.0] * len(ways)
    for node, edges in entering.items():
        edges.sort(key=lambda i: xs[ways[i][-2]])
        gap = min(PORT_GAP, sizes[node][0] / (len(edges) + 1))
        for place, i in enumerate(edges):
            ports[i] = xs[node] + gap * (place - (len(edges) - 1) / 2)
    return ports


def _without_what_lies_between(points: list[Point]) -> list[Point]:
    """Leave out points on a straight line from the one before to the next."""
    kept = points[:1]
    for point, after in pairwise(points[1:]):
        if not (kept[-1][0] == point[0] == after[0]) and point != kept[-1]:
            kept.append(point)
    return [*kept, points[-1]]
