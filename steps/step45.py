"""Step 45. Layers made of layers.

Question: How can a whole network be handled as one thing?

By making it a layer too. A layer may have other layers among its attributes, and those may have others. params()
then has two cases: a Parameter is handed out, and a Layer is asked for its own. It calls itself one level down, which
is as deep as any nest of layers needs. cleargrads() does not change at all: it asks params().

On the way down the names of the attributes are put together: l0/W is W of the layer l0. A name tells one parameter
from another when they are saved (step 53) and when an error speaks of one.

A network as a whole is called a model. Its class says which layers there are, in __init__, and how a sample goes
through them, in forward. Where layers only follow each other, the class can be written once for all numbers of
layers: MLP takes the sizes. The letters stand for multilayer perceptron, the old name of such networks.

New: Layer.named_params, Model, MLP, dezero.models.Sequential
Changed: Layer.params
Look at: the names of the parameters, and a picture of the graph behind a model's answer.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import Parameter, Variable, models


class Layer:
    """Something with parameters that can be called. A subclass writes `forward`."""

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def named_params(self, prefix=""):
        """Yield (name, Parameter), also of the layers within."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
            elif isinstance(value, Layer):
                yield from value.named_params(f"{prefix}{name}/")

    def params(self):
        """Yield every Parameter, also of the layers within."""
        for _, param in self.named_params():
            yield param

    def cleargrads(self):
        """Forget all gradients."""
        for param in self.params():
            param.cleargrad()


class Linear(Layer):
    """y = x W + b. W is made at the first call, when x tells how many numbers a sample has."""

    def __init__(self, out_size):
        self.out_size = out_size
        self.W = Parameter(None, name="W")
        self.b = Parameter(np.zeros(out_size, np.float32), name="b")

    def forward(self, x):
        if self.W.data is None:
            D = x.shape[1]
            scale = np.float32(np.sqrt(1 / D))
            self.W.data = np.random.randn(D, self.out_size).astype(np.float32) * scale
        return F.linear(x, self.W, self.b)


class Model(Layer):
    """A whole network."""


class MLP(Model):
    """Linear layers, l0, l1 and so on, with an activation between them: what bends, like the sigmoid."""

    def __init__(self, sizes, activation=F.sigmoid):
        self.activation = activation
        self.layers = []
        for i, size in enumerate(sizes):
            layer = Linear(size)
            setattr(self, f"l{i}", layer)  # an attribute, for named_params to find
            self.layers.append(layer)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
np.random.seed(0)
x = (2 * np.random.rand(100, 1)).astype(np.float32)
t = (np.sin(4 * x) + x / 2 + 0.1 * np.random.randn(100, 1)).astype(np.float32)

# What dezero has, under the same names: a model can be written as a class of its own ...


class TwoLayers(models.Model):
    """(N, 1) -> (N, 10) -> (N, 1)."""

    def __init__(self):
        super().__init__()
        self.l0 = L.Linear(10)
        self.l1 = L.Linear(1)

    def forward(self, x):
        return self.l1(F.sigmoid(self.l0(x)))


# ... or taken as it is: by the sizes of its layers, or part by part. All four are the same network.
kinds = {
    "MLP of this step": lambda: MLP((10, 1)),
    "TwoLayers": TwoLayers,
    "models.MLP": lambda: models.MLP((10, 1)),
    "models.Sequential": lambda: models.Sequential(L.Linear(10), F.sigmoid, L.Linear(1)),  # l1 is the sigmoid
}
answers = []
for kind, make in kinds.items():
    np.random.seed(0)
    model = make()
    answers.append(model(x).data)
    print(f"{kind}: parameters = {[name for name, _ in model.named_params()]}")
print(f"all four give the same = {all(np.array_equal(answer, answers[0]) for answer in answers)}")

np.random.seed(0)
model = TwoLayers()
points = x, t
x, t = Variable(x, name="x"), Variable(t, name="t")
if options.gpu:
    for v in (x, t, model):
        v.to_gpu()

lr = 0.1
for i in range(5001):
    loss = F.mean_squared_error(model(x), t)
    if i % 1000 == 0:
        print(f"iteration {i:4}: loss = {float(loss.data):.4f}")
    model.cleargrads()
    loss.backward()
    for param in model.params():
        param.data -= lr * param.grad.data
print(f"final loss = {float(loss.data):.4f}")

show("step45_model", dezero.graph(model(x)))

# Exercise: put an MLP into a model of your own that first multiplies x by 2, and print the names of its parameters.
# Hint: an MLP is a layer; self.mlp = models.MLP((10, 1)).
