"""Step 25. Drawing the graph, first part: how a graph is written down.

Question: How does a picture of a graph get from a program to paper?

By way of a text. A graph consists of nodes and of arrows between them. Where each node stands and how the arrows bend
is a matter for a drawing program. The best known, Graphviz, reads a language called DOT, in which a graph is a list:

    digraph g {                                  a graph with arrows, named g
    1 [label="x", shape=ellipse]                 a node, number 1, with a label and a shape
    2 [label="Mul", shape=box]
    1 -> 2                                       an arrow from node 1 to node 2
    }

The numbers are there to tell nodes apart, since two of them may have the same label. Variables become ellipses and
Functions boxes. This step writes the text for y = x0 * x1 by hand, as a check on what step 26 will write. The package
has a drawing program of its own, dezero.graph, which needs no other. Its pictures are SVG files, which every web
browser shows.

New: the DOT language, dezero.graph, show
Look at: the text, an arrow for every line with `->`, and the same graph as a picture.
"""

import shutil
import subprocess
from road import read_options, show

import numpy as np

import dezero
from dezero.core_simple import Variable

DOT = """digraph g {
1 [label="x0", shape=ellipse]
2 [label="x1", shape=ellipse]
3 [label="Mul", shape=box]
4 [label="y", shape=ellipse]
1 -> 3
2 -> 3
3 -> 4
}"""

# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
print(DOT)
print(f"nodes = {DOT.count('label')}")
print(f"arrows = {DOT.count('->')}")

if shutil.which("dot"):  # Graphviz is here: it reads the text and answers with a picture, itself a text
    picture = subprocess.run(["dot", "-Tsvg"], input=DOT, capture_output=True, text=True, check=True).stdout
    print(f"Graphviz draws it, ellipses = {picture.count('<ellipse')}")
else:
    print("Graphviz is not installed; the road does without it")

x0 = Variable(np.array(2.0), name="x0")
x1 = Variable(np.array(3.0), name="x1")
y = x0 * x1
y.name = "y"
print(f"dezero draws {dezero.graph(y)}")
show("step25_graph", dezero.graph(y))

# Exercise: write the text for z = x * x + y by hand. How many arrows go from x to Mul?
# Hint: as many as Mul has inputs.
