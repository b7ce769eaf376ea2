"""The layout of a picture: nothing overlaps, edges run down and around nodes, few of them cross, lines are straight."""

import itertools
import random

import pytest

from dezero import layout as rooms
from dezero.layout import layout

SIZE = (40.0, 20.0)


def edges_of(seed, count=40, reach=12):
    """A graph without cycles, drawn at random: most nodes have one or two causes, a few are used often."""
    draw = random.Random(seed)
    return [
        (draw.randrange(max(0, v - reach) if draw.random() < 0.8 else 0, v), v)
        for v in range(1, count)
        for _ in range(draw.choice([0, 1, 1, 2, 2, 3]))
    ]


def sizes_of(seed, count=40):
    draw = random.Random(seed)
    return [(draw.uniform(16, 160), draw.choice([20.0, 25.0, 40.0])) for _ in range(count)]


def box(centre, size):
    (x, y), (width, height) = centre, size
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def points_along(route, steps=12):
    """The points of an edge as it is drawn: straight where the column stays, else a curve, upright at both ends."""
    yield route[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(route):
        for i in range(1, steps + 1):
            t = i / steps
            s = 3 * t * t - 2 * t**3  # a Bezier curve whose control points are above and below its ends
            yield x0 + (x1 - x0) * s, y0 + (y1 - y0) * (1.5 * t * (1 - t) + t**3)


def crossings_of(edges, count):
    """The crossings, counted one pair after the other, of the order that the layout ends with."""
    graph, _ = rooms._cut(rooms._ranks(count, edges), edges)
    rooms._reorder(graph)
    position = rooms._positions(graph)
    total = 0
    for layer in graph.layers:
        steps = [(position[v], position[w]) for v in layer for w in graph.down[v]]
        total += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(steps, 2))
    assert total == rooms._crossings(graph, position)
    return total


@pytest.fixture(params=range(12), ids="graph {}".format)
def case(request):
    sizes, edges = sizes_of(request.param), edges_of(request.param)
    return sizes, edges, layout(sizes, edges)


def test_no_two_nodes_overlap_and_all_are_inside(case):
    sizes, _, plan = case
    boxes = [box(centre, size) for centre, size in zip(plan.centres, sizes, strict=True)]
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
    for left, top, right, bottom in boxes:
        assert left >= -1e-6
        assert top >= -1e-6
        assert right <= plan.width + 1e-6
        assert bottom <= plan.height + 1e-6


def test_edges_run_down_from_border_to_border(case):
    sizes, edges, plan = case
    for (start, end), route in zip(edges, plan.routes, strict=True):
        _, _, _, bottom = box(plan.centres[start], sizes[start])
        left, top, right, _ = box(plan.centres[end], sizes[end])
        assert route[0] == (plan.centres[start][0], pytest.approx(bottom))
        assert left < route[-1][0] < right
        assert route[-1][1] == pytest.approx(top)
        assert route[-2][0] == route[-1][0], "the arrow head is upright"
        assert route[-1][1] - route[-2][1] >= rooms.HEAD - 1e-6
        assert all(y0 < y1 for (_, y0), (_, y1) in itertools.pairwise(route))


def test_edges_go_around_all_other_nodes(case):
    sizes, edges, plan = case
    for (start, end), route in zip(edges, plan.routes, strict=True):
        for v, size in enumerate(sizes):
            left, top, right, bottom = box(plan.centres[v], size)
            if v not in (start, end):
                assert not any(left < x < right and top < y < bottom for x, y in points_along(route))


def test_edges_into_a_node_end_at_different_places(case):
    _, edges, plan = case
    ends = [(end, route[-1][0]) for (_, end), route in zip(edges, plan.routes, strict=True)]
    assert len(set(ends)) == len(ends)


def test_edges_enter_a_node_in_the_order_in_which_they_come():
    plan = layout([SIZE] * 5, [(3, 4), (0, 4), (2, 4), (1, 4)])
    by_start = [start[0] for start, *_ in sorted(plan.routes, key=lambda route: route[-1][0])]
    assert by_start == sorted(by_start)


def test_most_long_edges_have_no_bend_between_their_ends():
    routes = [route for seed in range(12) for route in layout(sizes_of(seed), edges_of(seed)).routes]
    long = [route for route in routes if route[-1][1] - route[0][1] > 300]
    bent = [route for route in long if len({round(x) for x, _ in route}) > 3]
    assert len(long) > 30
    assert len(bent) < 0.2 * len(long)


def test_the_same_graph_has_the_same_layout_and_draws_no_random_number():
    state = random.getstate()
    assert layout(sizes_of(1), edges_of(1)) == layout(sizes_of(1), edges_of(1))
    assert random.getstate() == state


def test_a_chain_is_one_straight_line():
    plan = layout([SIZE] * 50, [(v, v + 1) for v in range(49)])
    assert {x for x, _ in plan.centres} == {20.0}
    assert all(len(route) == 2 for route in plan.routes)


def test_a_long_edge_beside_a_chain_is_straight_but_for_its_ends():
    plan = layout([SIZE] * 50, [*((v, v + 1) for v in range(49)), (0, 49)])
    assert len({x for x, _ in plan.routes[-1]}) <= 3


def test_a_node_stands_in_the_middle_of_its_two_causes():
    plan = layout([SIZE] * 3, [(0, 2), (1, 2)])
    assert plan.centres[2][0] == pytest.approx((plan.centres[0][0] + plan.centres[1][0]) / 2)
    assert plan.centres[0][1] == plan.centres[1][1]


def test_leaves_stand_right_above_the_first_node_that_uses_them():
    chain = [(v, v + 1) for v in range(10)]
    plan = layout([SIZE] * 12, [*chain, (11, 9), (11, 10)])
    assert plan.centres[11][1] == plan.centres[8][1]


def test_what_could_be_early_or_late_is_early_and_takes_its_own_leaves_along():
    # 0 -> 1 -> ... -> 6, and beside it 0, 7 -> 8 -> 6, where 7 is used nowhere else.
    plan = layout([SIZE] * 9, [*((v, v + 1) for v in range(6)), (0, 8), (7, 8), (8, 6)])
    assert plan.centres[8][1] == plan.centres[1][1]
    assert plan.centres[7][1] == plan.centres[0][1]


def test_nodes_of_one_edge_each_way_stand_closer_than_they_would_by_chance():
    plan = layout([SIZE] * 6, [(0, 3), (1, 4), (2, 5)])
    assert [plan.centres[v][0] for v in range(3)] == [plan.centres[v][0] for v in range(3, 6)]


def test_a_tree_needs_no_crossing_whatever_the_order_it_comes_in():
    names = list(range(63))
    random.Random(5).shuffle(names)
    assert crossings_of([(names[v], names[(v - 1) // 2]) for v in range(1, 63)], 63) == 0


def test_a_ladder_whose_sides_are_twisted_is_untwisted():
    assert crossings_of([(0, 3), (1, 2), (2, 5), (3, 4), (4, 7), (5, 6)], 8) == 0


def test_a_graph_that_must_cross_crosses_as_little_as_it_must():
    assert crossings_of([(a, b) for a in (0, 1, 2) for b in (3, 4, 5)], 6) == 9  # K(3, 3) in two layers


@pytest.mark.parametrize("seed", range(6))
def test_sorting_the_layers_saves_crossings(seed):
    edges = edges_of(seed)
    graph, _ = rooms._cut(rooms._ranks(40, edges), edges)
    before = rooms._crossings(graph, rooms._positions(graph))
    assert crossings_of(edges, 40) < 0.7 * before


def test_edges_of_one_node_share_their_bends():
    count = 400
    edges = [edge for v in range(1, count) for edge in ((v - 1, v), (0, v))]
    graph, _ = rooms._cut(rooms._ranks(count, edges), edges)
    assert len(graph.up) < 2 * count


def test_two_edges_between_the_same_nodes_are_two():
    plan = layout([SIZE] * 2, [(0, 1), (0, 1)])
    a, b = plan.routes
    assert a[0] == b[0]
    assert abs(a[-1][0] - b[-1][0]) > 5


def test_many_edges_fit_into_a_narrow_node():
    plan = layout([(16.0, 16.0)] * 101, [(v, 100) for v in range(100)])
    ends = sorted(route[-1][0] for route in plan.routes)
    assert plan.centres[100][0] - 8 < ends[0]
    assert ends[-1] < plan.centres[100][0] + 8
    assert len(set(ends)) == 100


def test_parts_that_are_not_connected_stand_side_by_side():
    plan = layout([SIZE] * 4, [(0, 1), (2, 3)])
    assert plan.centres[0][0] == plan.centres[1][0]
    assert abs(plan.centres[0][0] - plan.centres[2][0]) >= SIZE[0] + rooms.NODE_GAP


def test_nothing_and_one_node():
    assert layout([], []) == ([], [], 0.0, 0.0)
    assert layout([SIZE], []) == ([(20.0, 10.0)], [], 40.0, 20.0)


def test_a_long_chain_and_a_node_that_all_use_need_no_recursion_and_no_square():
    count = 3000
    edges = [edge for v in range(1, count) for edge in ((v - 1, v), (0, v))]
    assert len(layout([SIZE] * count, edges).centres) == count


@pytest.mark.parametrize("edges", [[(0, 1), (1, 0)], [(0, 0)], [(0, 1), (1, 2), (2, 1)]])
def test_a_cycle_is_an_error(edges):
    with pytest.raises(ValueError, match="layout: the edges must form no cycle, but some do"):
        layout([SIZE] * 3, edges)
