"""Step 2. A function that makes boxes.

Question: How does a calculation get from one box to the next?

It opens the box it is given, calculates with the array inside, and puts the result into a new box. Opening and
closing are the same for every calculation, so they are written once, in the class Function. What differs is the
calculation itself: a subclass writes it in the method `forward`, from array to array, and knows nothing of boxes.

    x (Variable)  ->  x.data  ->  forward  ->  y.data  ->  y (Variable)

Because all calculations pass through this one place, whatever they should have in common later, such as remembering
what went in, can be added here.

New: Function, Square
Look at: what goes in and what comes out are both of the type Variable.
"""

import numpy as np


class Variable:
    """A box around one array."""

    def __init__(self, data):
        self.data = data


class Function:
    """An operation on Variables; each subclass is one."""

    def __call__(self, input):
        y = self.forward(input.data)
        output = Variable(y)
        return output

    def forward(self, x):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")


class Square(Function):
    def forward(self, x):
        return x**2


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(10.0))
f = Square()
y = f(x)  # Python turns this into f.__call__(x)
print(f"type of y = {type(y).__name__}")
print(f"y.data = {y.data}")
print(f"x.data is left as it was = {x.data}")

row = Variable(np.array([1.0, 2.0, 3.0]))
print(f"squares of a row = {Square()(row).data}")

try:
    Function()(x)  # no calculation of its own
except NotImplementedError as error:
    print(f"NotImplementedError: {error}")

# Exercise: write a Function Half that divides by two, and apply it to 10.
# Hint: copy Square, and change the name and one line.
