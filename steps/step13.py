"""Step 13. Several inputs and outputs, backward.

Question: Which gradients come back from a Function with several inputs?

One for each. The chain rule asks how strongly the result answers to x0 while x1 stands still, and the other way
round. For a sum both answers are 1, whatever the numbers are, so the gradient that arrives is handed on to both:

    y = x0 + x1        dy/dx0 = 1        dy/dx1 = 1

On the way back everything is mirrored: `backward` gets as many gradients as there were outputs, and returns as many
as there were inputs. The walk pairs them with the inputs. With strict=True, zip raises an error when `backward`
returns too few or too many. Of several outputs each has to be used, or there is no gradient for it yet (step 33).

New: Add.backward
Changed: Variable.backward, Function.backward
Look at: the gradients of z = x ** 2 + y ** 2, which are 2 * x and 2 * y.
"""

import numpy as np


class Variable:
    """A box around one array."""

    def __init__(self, data):
        if data is not None and not isinstance(data, np.ndarray):
            raise TypeError(
                f"Variable: data must be an array, got {type(data).__name__}; write Variable(np.array({data!r:.60}))"
            )
        self.data = data
        self.grad = None
        self.creator = None

    def set_creator(self, func):
        self.creator = func

    def backward(self):
        if self.creator is None:
            raise ValueError("backward: no graph leads to this Variable; compute it from a Variable")
        if self.grad is None:
            self.grad = np.ones_like(self.data)

        queue = [self.creator]
        while queue:
            func = queue.pop()
            gys = [y.grad for y in func.outputs]
            gxs = func.backward(*gys)
            for x, gx in zip(func.inputs, gxs if isinstance(gxs, tuple) else (gxs,), strict=True):
                x.grad = gx
                if x.creator is not None:
                    queue.append(x.creator)


def as_array(x):
    """Return a number as a 0-dimensional array, an array as it is."""
    return np.array(x) if np.isscalar(x) else x


class Function:
    """An operation on Variables; each subclass is one."""

    def __call__(self, *inputs):
        ys = self.forward(*(x.data for x in inputs))
        outputs = [Variable(as_array(y)) for y in (ys if isinstance(ys, tuple) else (ys,))]
        for y in outputs:
            y.set_creator(self)
        self.inputs = inputs
        self.outputs = outputs
        return outputs if len(outputs) > 1 else outputs[0]

    def forward(self, *xs):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def backward(self, *gys):
        raise NotImplementedError(f"{type(self).__name__} has no backward method")


class Add(Function):
    def forward(self, x0, x1):
        return x0 + x1

    def backward(self, gy):
        return gy, gy


def add(x0, x1):
    """y = x0 + x1."""
    return Add()(x0, x1)


class Square(Function):
    def forward(self, x):
        return x**2

    def backward(self, gy):
        (x,) = self.inputs
        return 2 * x.data * gy


def square(x):
    """y = x ** 2."""
    return Square()(x)


class Exp(Function):
    def forward(self, x):
        return np.exp(x)

    def backward(self, gy):
        (x,) = self.inputs
        return np.exp(x.data) * gy


def exp(x):
    """y = e ** x."""
    return Exp()(x)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(2.0))
y = Variable(np.array(3.0))
z = add(square(x), square(y))
z.backward()
print(f"x ** 2 + y ** 2: z = {z.data}, dz/dx = {x.grad}, dz/dy = {y.grad}")

x = Variable(np.array(2.0))
y = Variable(np.array(3.0))
z = square(add(x, y))  # (x + y) ** 2: both gradients are 2 * (x + y)
z.backward()
print(f"(x + y) ** 2: z = {z.data}, dz/dx = {x.grad}, dz/dy = {y.grad}")

# Exercise: give the Function Mul of step 12 its `backward`, and check it at 6 times 7.
# Hint: when x1 stands still, x0 * x1 moves x1 times as far as x0. So the gradients are gy * x1 and gy * x0.
