"""Step 1. A box around a number.

Question: Where can a program keep a number together with what it learns about it?

A derivative says how strongly a result moves when a number moves a little. The first steps lead to a program that
finds derivatives by itself. Such a program has to keep more than the number: where the number came from, and one day
its derivative. A bare number has no room for either. A box has: an object with the number inside, to which other
things can be attached later. The box is called Variable.

The number inside is an array of NumPy, even when it is one number alone. What is built for single numbers now will
then work for whole images later, without a change.

New: Variable
Look at: the same box with other numbers inside, and the number of axes (ndim) of each array.
"""

import numpy as np


class Variable:
    """A box around one array."""

    def __init__(self, data):
        self.data = data


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(1.0))
print(f"x.data = {x.data}")

x.data = np.array(2.0)  # the box stays, what is inside is exchanged
print(f"x.data after the exchange = {x.data}")

same = x  # a second name for the same box, not a second box
same.data = np.array(3.0)
print(f"x.data after a change under its other name = {x.data}")

number = np.array(1.0)
row = np.array([1.0, 2.0, 3.0])
table = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print(f"ndim of one number = {Variable(number).data.ndim}")
print(f"ndim of a row of numbers = {Variable(row).data.ndim}")
print(f"ndim of a table of numbers = {Variable(table).data.ndim}")

# Exercise: put the ages of four people into a Variable, and print the age of the oldest.
# Hint: what is inside the box is an array like any other, so `x.data` has a method `max`.
