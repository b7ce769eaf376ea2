"""Step 26. Drawing the graph, second part: from creators to a picture.

Question: How does a program write down a graph that nobody has drawn?

It walks. Every Variable knows its creator, and every creator its inputs, so from the result everything can be
reached. Each node gets one line, each link one arrow. What has been visited is kept in a set, so that a Variable used
twice is written once. The order of the visits does not matter here, since nothing is handed on.

`id(v)`, a number that Python gives to each object while it lives, tells the nodes apart.

The package does the same in dezero/drawing.py, with colours. dezero.utils.get_dot_graph gives the text, and
dezero.utils.plot_dot_graph hands it to Graphviz. dezero.graph draws by itself. A long formula becomes a long picture:
that of Goldstein and Price shows what `backward` went through in step 24.

New: dot_lines, dezero.utils.get_dot_graph, dezero.utils.plot_dot_graph
Look at: the number of lines in which the text of this file differs from the package's, and the large graph.
"""

import shutil
from road import read_options, show

import numpy as np

import dezero
from dezero.core_simple import Variable
from dezero.utils import get_dot_graph, plot_dot_graph


def dot_lines(output):
    """Return a line of DOT for every node and every arrow behind a Variable."""
    lines, seen, waiting = [], set(), [output]
    while waiting:
        v = waiting.pop()
        if v in seen:
            continue
        seen.add(v)
        lines.append(f'{id(v)} [label="{v.name or ""}", color=orange, style=filled]')
        func = v.creator
        if func is not None:
            lines.append(f'{id(func)} [label="{type(func).__name__}", color=lightblue, style=filled, shape=box]')
            lines.append(f"{id(func)} -> {id(v)}")
            lines += [f"{id(x)} -> {id(func)}" for x in func.inputs]
            waiting += func.inputs
    return lines


def goldstein_price(x, y):
    return (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)) * (
        30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    )


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x = Variable(np.array(1.0), name="x")
y = Variable(np.array(1.0), name="y")
small = x**2 + x * y
small.name = "z"

mine = ["digraph g {", *dot_lines(small), "}"]
theirs = get_dot_graph(small, verbose=False).splitlines()  # verbose: shapes and dtypes as well
print(f"lines of this file's text = {len(mine)}")
print(f"lines that the package's text has and this one lacks = {len({*theirs} - {*mine})}")
print(f"lines that this text has and the package's lacks = {len({*mine} - {*theirs})}")
show("step26_small", dezero.graph(small))

z = goldstein_price(x, y)
z.name = "z"
functions, variables = dezero.graph(z).counts
print(f"Goldstein-Price: Functions = {functions}, Variables = {variables}")
show("step26_goldstein_price", dezero.graph(z, direction="right"))
if options.save and shutil.which("dot"):
    plot_dot_graph(z, to_file=options.save / "step26_graphviz.png")
    print("Graphviz drew step26_graphviz.png as well")

# Exercise: let `dot_lines` write the value of each Variable that holds one number below its name.
# Hint: in DOT a label may contain \n, a backslash and an n, for a new line.
