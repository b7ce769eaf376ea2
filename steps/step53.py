"""Step 53. Saving and loading.

Question: What is left of a training when the program ends?

Nothing, unless it is written to a file. What a model has learned is in its parameters, and they are arrays with
names: l0/W, l0/b and so on (step 45). NumPy writes many arrays with names into one file, of the kind npz. The program
that made the model is not in the file. Whoever loads it makes the model first, and then gives it the arrays.

So the file and the model have to agree, and it pays to be strict: every name in both, every shape the same. A file
that fits only in part is refused before the first array is changed. Otherwise a model is left half old and half new,
and nothing says so.

A file may come from anyone. Python has another way to save objects, pickle, which runs what the file tells it to run.
An npz file of plain arrays cannot tell a program to do anything: allow_pickle=False keeps it so.

To go on with a training, parameters are not enough. Adam remembers a mean of past gradients for each of them (step
46). That is written and read by save_state and load_state of dezero.serializers.

New: save_weights, load_weights, dezero.serializers
Look at: what is in the file, what is said where file and model do not fit, and a training that was interrupted and
ends with the same numbers, to the last bit, as one that was not.
"""

import tempfile
from pathlib import Path
from road import read_options

import numpy as np

import dezero
import dezero.functions as F
from dezero import datasets, models, optimizers, serializers


def save_weights(model, path):
    """Write all parameters of a model to an npz file, under their names."""
    np.savez_compressed(path, **{name: p.data for name, p in model.named_params()})


def load_weights(model, path):
    """Read parameters that `save_weights` wrote: all of them, or none where names or shapes differ."""
    params = dict(model.named_params())
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if arrays.keys() != params.keys():
        differing = ", ".join(sorted(arrays.keys() ^ params.keys()))
        raise ValueError(f"load_weights: in the file or in the model, but not in both: {differing}")
    for name, array in arrays.items():
        if params[name].data is not None and array.shape != params[name].shape:
            raise ValueError(
                f"load_weights: {name} has shape {array.shape} in the file and {params[name].shape} in the model"
            )
    for name, array in arrays.items():  # nothing can go wrong any more
        params[name].data = array


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
x, t = datasets.get_spiral()


def make():
    """Return a new model and its optimizer."""
    model = models.MLP((30, 30, 3), activation=F.relu)
    return model, optimizers.Adam(alpha=0.02).setup(model)


def train(model, optimizer, iterations):
    """Make updates with all points of the spiral at once, and return the last loss."""
    if options.gpu:
        model.to_gpu()
    samples, labels = (dezero.cuda.as_cupy(v) if options.gpu else v for v in (x, t))
    for _ in range(iterations):
        loss = F.softmax_cross_entropy(model(samples), labels)
        model.cleargrads()
        loss.backward()
        optimizer.update()
    model.to_cpu()
    return float(loss.data)


np.random.seed(0)
model, optimizer = make()
train(model, optimizer, 200)
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    save_weights(model, folder / "mine.npz")
    with np.load(folder / "mine.npz") as file:
        print("in the file: " + ", ".join(f"{name} {file[name].shape}" for name in file.files))

    copy, _ = make()  # its weights are made at the first call, and the file gives them before that
    load_weights(copy, folder / "mine.npz")
    print(f"accuracy of the model = {float(F.accuracy(model(x), t).data):.3f}")
    print(f"accuracy of the copy = {float(F.accuracy(copy(x), t).data):.3f}")
    print(f"the copy says the same = {np.array_equal(copy(x).data, model(x).data)}")

    for sizes in ((30, 20, 3), (30, 3)):
        other = models.MLP(sizes, activation=F.relu)
        other(x)
        before = other.l0.W.data.copy()
        try:
            load_weights(other, folder / "mine.npz")
        except ValueError as error:
            print(f"ValueError: {error}")
        print(f"the weights of MLP{sizes} are left as they were = {np.array_equal(other.l0.W.data, before)}")

    # What dezero has: methods of every layer and model, which say all that does not fit at once.
    model.save_weights(folder / "dezero.npz")
    load_weights(copy, folder / "dezero.npz")
    copy.load_weights(folder / "mine.npz")
    print(f"dezero reads this file, and this program dezero's = {np.array_equal(copy(x).data, model(x).data)}")

    # Two hundred iterations more: without a break, and by a program that begins with what lies in the folder.
    serializers.save_state(optimizer, folder / "adam.npz")
    print(f"loss after 400 iterations, without a break = {train(model, optimizer, 200):.6f}")
    again, its_optimizer = make()
    again.load_weights(folder / "mine.npz")
    serializers.load_state(its_optimizer, folder / "adam.npz")
    print(f"loss after 400 iterations, interrupted at 200 = {train(again, its_optimizer, 200):.6f}")
    print(f"the same to the last bit = {np.array_equal(again(x).data, model(x).data)}")
    forgetful, _ = make()
    forgetful.load_weights(folder / "mine.npz")
    forgot = train(forgetful, optimizers.Adam(alpha=0.02).setup(forgetful), 200)
    print(f"loss after 400 iterations, with an optimizer that begins anew = {forgot:.6f}")

# Exercise: let load_weights take a file that lacks some of the model's names, and say which it did not find there.
# Hint: compare the two sets of names with `-` and not with `!=`; what is missing may be printed and passed over.
