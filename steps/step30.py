"""Step 30. The second derivative, first part: what is missing.

Question: The core finds dy/dx. Why can it not find the derivative of dy/dx in the same way?

The core finds the derivative of whatever was calculated with Variables, because such a calculation leaves a graph. In
the core of step 22 three places work together:

    Function.__call__    calculates forward on arrays, wraps the result, and records: creator, inputs, outputs
    Variable.backward    walks back along what was recorded, and calls each Function's backward
    Function.backward    calculates gradients: gy * x1.data, and so on

The third one calculates as well. For y = x ** 3 it works out 3 * x ** 2 * gy. But it does so on bare arrays, which go
through no Function and leave nothing behind. The gradient arrives in x.grad as a number with no past, and there is
nothing to walk back along.

dezero.core, the full core, keeps the past of its gradients when it is asked to. This step looks at the difference.
Steps 31 and 32 make it.

New: dezero.Variable, create_graph
Look at: what kind of thing the gradient is in either core, and whether it has a creator.
"""

from road import read_options, show

import numpy as np

import dezero
from dezero import core, core_simple

# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x = core_simple.Variable(np.array(2.0), name="x")
y = x**3
y.backward()
print(f"core_simple: dy/dx = {x.grad}")
print(f"core_simple: the gradient is a Variable = {isinstance(x.grad, core_simple.Variable)}")
try:
    x.grad.backward()
except AttributeError as error:
    print(f"AttributeError: {error}")

x = core.Variable(np.array(2.0), name="x")
y = x**3
y.backward(create_graph=True)
gx = x.grad
print(f"core: dy/dx = {gx.data}")
print(f"core: the gradient is a Variable = {isinstance(gx, core.Variable)}")
print(f"core: its creator = {type(gx.creator).__name__}")
print(f"Functions behind y = {dezero.graph(y).counts[0]}")
print(f"Functions behind dy/dx = {dezero.graph(gx).counts[0]}")
y.name, gx.name = "y", "gx"
show("step30_past_of_a_gradient", dezero.graph([y, gx]))

# Exercise: which lines of step 22 calculate gradients on bare arrays? Count them.
# Hint: look at every `backward` in it for `.data`, and at the one place in Variable.backward that makes an array.
