"""Step 4. The numerical gradient.

Question: How can the derivative of a function be found when nothing is known about it but its values?

Move x a little and see how far y moves. The derivative is y's move divided by x's, for smaller and smaller moves.
With a small number eps that gives an estimate, the numerical gradient:

    forward difference     (f(x + eps) - f(x)) / eps
    central difference     (f(x + eps) - f(x - eps)) / (2 * eps)

The second looks to both sides, so most of the error of one side cancels that of the other. Smaller is not always
better: f is calculated to about 16 digits, the two values agree in the first of them, and what is left after the
subtraction is the last few, which are rounded.

The estimate needs no knowledge of f, which makes it a good judge of cleverer methods. But it is never exact, and it
needs two calculations for every number that goes in. A network of a million parameters would need two million.

New: numerical_grad
Look at: how the errors fall with eps, and where they rise again.
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


class Exp(Function):
    def forward(self, x):
        return np.exp(x)


def numerical_grad(f, x, eps=1e-4):
    """Estimate dy/dx from two values of f, a little below x and a little above."""
    below = Variable(x.data - eps)
    above = Variable(x.data + eps)
    return (f(above).data - f(below).data) / (2 * eps)


# Demonstration --------------------------------------------------------------------------------------------------------


def composed(x):
    return Exp()(Square()(Exp()(x)))


x = Variable(np.array(3.0))
print(f"estimate for Square at 3 = {numerical_grad(Square(), x):.6f}")

x = Variable(np.array(0.0))
exact = 2 * np.e  # step 5 shows why
print(f"estimate for exp(exp(x) ** 2) at 0 = {numerical_grad(composed, x):.6f}")
print(f"exact derivative = {exact:.6f}")

print("eps      error, forward    error, central")
for power in range(1, 12, 2):
    eps = 10.0**-power
    forward = (composed(Variable(x.data + eps)).data - composed(x).data) / eps
    central = numerical_grad(composed, x, eps)
    print(f"1e-{power:02}    {abs(forward - exact):.1e}           {abs(central - exact):.1e}")

# Exercise: estimate the derivative of x ** 2 * exp(x) at x = 1, which is 3 * e.
# Hint: `numerical_grad` takes any Python function that turns a Variable into a Variable. This one may open the box,
# and put a box around what it calculates.
