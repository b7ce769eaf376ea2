"""steps/beyond/: each script runs, prints what it should, saves pictures, and has the form of a step."""

import ast
import functools
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from test_steps import FOLDER, MARK, ROOT, Step, at_least, below, check_picture, environment, printed

import dezero
from dezero import datasets, files
from dezero import functions as F
from dezero.transforms import Compose, Normalize, ToFloat

FILES = {path.stem: path for path in sorted((FOLDER / "beyond").glob("*.py"))}

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the package is installed, without the steps")

SCRIPTS = {
    "grad_cam": Step(
        {"test accuracy": at_least(0.965)},
        says=(
            r"^epoch 3: training loss = 0\.0\d{3}$",
            r"^mistakes = \d+ of 1000$",
            r"^nothing hidden: probability of the right class = 0\.9\d\d, right answers = 1\.000$",
        ),
        pictures=("grad_cam_right.png", "grad_cam_wrong.png"),
    ),
    "resnet_on_digits": Step(
        {
            "mean of a channel": below(1e-3),
            "its variance": 1,
            "layers": 20,
            "test accuracy of the ResNet": at_least(0.90),
        },
        says=(
            r"^L\.BatchNorm gives the same = True\nL\.BatchNorm gives the same gradient = True$",
            r"^L\.BatchNorm gives the same in test mode = True$",
            r"^neither: difference of two digits .+ = \d\.\de-0[5-9], first gradient = \d\.\de-0[67]$",
            r"^both, a ResNet: difference of two digits .+ = \d\.\de[-+]0[01], first gradient = \d\.\de-0[12]$",
            r"^neither: last training loss = 2\.[23]\d+, accuracy = 0\.[01]\d\d$",
            r"^batch norm: last training loss = 0\.\d+, accuracy = 0\.[89]\d\d$",
        ),
        pictures=("resnet_block.svg", "resnet_curves.png"),
    ),
    "transformer": Step(
        {
            "loss of guesses by how frequent characters are": at_least(2.5),
            "loss before training": at_least(3.0),
            "loss per character of the two new lines": at_least(1.0),
            "loss per character of the others": below(0.1),
            "loss per character of the last verse": below(0.9),
        },
        says=(
            r"^characters to train on = 1926, to test with = 414, different ones = 27$",
            r"^L\.MultiHeadAttention gives the same = True$",
            r"^written before training: 'T.{40,}'$",
            r"^iteration 400: training loss = 0\.(0\d|1[0-4])\d\d, test loss = 0\.\d{4}$",
            r"^written after training:\nTh[\s\S]+^That (ate|killed|worried|tossed|milked|kissed|waked|kept|lay) ",
        ),
        pictures=("transformer_attention.png", "transformer_verse.png"),
    ),
    "your_own_operation": Step(
        {"gradient at the origin": 0, "distance from the ship": 0},
        says=(
            r"^hypot\(x0, x1\) = \[ 5\. 13\.\], dy/dx0 = \[ 0\.6 +-0\.38461538\], dy/dx1 = \[0\.8 +0\.923077\]$",
            r"^of squares, in float32 = inf, hypot = 4\.242641e\+20$",
            r"^check_grads finds the gradients of three orders right = True$",
            r"^the wrong version: check_grads: order 2: backward gives slope -1\.366\d+, finite .+ -1\.419\d+$",
            r"^ValueError: hypot: shapes \(2, 3\) and \(2,\) cannot broadcast; aligned at the right",
            r"^TypeError: hypot: expected Variables, arrays or numbers, got list \[3\.0\]$",
            r'^the row: binary\("hypot", np\.hypot, torch="hypot"\)$',
            r"^tests that follow from the row = [12]\d, cases passed = 1\d\d, failed = 0$",
            r"^the wrong version, test_gradients_are_the_slopes_of_small_steps: failed = 6 of 7$",
            r"^iteration 4: place = \(6\.000000, 4\.500000\), misfit = \d\.\de-1\d$",
        ),
        pictures=("own_operation_lighthouses.png",),
    ),
}


def start(folder, name, *options):
    """Run a script in another folder, without a display and the network; compiled kernels are kept where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "error", str(FILES[name]), *map(str, options)]
    settings = environment(folder, DEZERO_HOME=files.cache_folder())
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=300, check=False)


def said_on_the_side(done):
    """Return what a run wrote to stderr, but for the line that numba's first compilation is announced with."""
    return re.sub(r"^dezero: compiling kernels, .+\n", "", done.stderr)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A function that runs a script once, and returns the run and the folder of its pictures."""

    @functools.cache
    def run(name):
        folder = tmp_path_factory.mktemp(name)
        return start(folder, name, "--save", folder / "pictures"), folder / "pictures"

    return run


def test_every_script_has_a_row():
    assert sorted(SCRIPTS) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_it_prints_what_it_should(runs, name):
    done, _ = runs(name)
    assert (done.returncode, said_on_the_side(done)) == (0, "")
    for what, wanted in SCRIPTS[name].values.items():
        value = printed(done.stdout, what)
        assert wanted(value) if callable(wanted) else np.isclose(value, wanted, rtol=1e-5, atol=1e-6), (
            f"{what}: {value}"
        )
    for pattern in SCRIPTS[name].says:
        assert re.search(pattern, done.stdout, re.MULTILINE), f"{pattern!r} is not in\n{done.stdout}"
    assert 5 <= len(done.stdout.splitlines()) <= 30


@pytest.mark.parametrize("name", FILES)
def test_its_pictures_have_something_on_them(runs, name):
    done, folder = runs(name)
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    assert sorted(path.name for path in folder.iterdir()) == sorted(SCRIPTS[name].pictures)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["pictures", "start"]
    for path in folder.iterdir():
        assert f"picture {path.stem}: " in done.stdout
        check_picture(path)


@pytest.mark.parametrize("name", FILES)
def test_it_has_the_form_of_a_step(name):
    text = FILES[name].read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text))
    assert re.match(r"Beyond\. [A-Z][^\n]+\.\n\nQuestion: .+\?\n\n", doc)
    assert re.search(r"^New: .+\nLook at: ", doc, re.MULTILINE)
    assert len(doc.splitlines()) <= 45
    assert text.count(MARK) == 1
    assert not re.search(r"print\(|read_options\(|show\(", text.partition(MARK)[0].partition(doc[-40:])[2])
    assert re.search(r"\n# Exercise: .+(\n# .+)*\n# Hint: .+(\n# .+)*\n\Z", text)


def column(out, line, name):
    """Return the number of that name in the line that begins so."""
    return float(re.search(rf"^{re.escape(line)}: .*\b{re.escape(name)} = ([-+.\de]+)", out, re.MULTILINE)[1])


def test_ink_that_faithful_maps_mark_counts_more_than_other_ink(runs):
    out = runs("grad_cam")[0].stdout
    left = {
        what: column(out, f"{what} hidden", "probability of the right class")
        for what in ("nothing", "any ink", "any patches", "what saliency marks", "what it marks place by place")
    }
    assert left["any patches"] < left["any ink"] < left["nothing"]
    assert left["what saliency marks"] < left["any patches"] - 0.05
    assert left["what it marks place by place"] < left["any patches"] - 0.05


class Known:
    """A network whose score of class c is the mean over all places of care * (sum of W[k, c] * A[k])."""

    def __init__(self, W, care):
        self.W, self.care = W, care

    def find(self, x):
        x = dezero.as_variable(x)
        return F.pooling(F.concat([x, 1 - x], axis=1), kernel_size=2, stride=2)

    def judge(self, found):
        return F.linear(F.global_average_pooling(found * self.care), self.W)

    def __call__(self, x):
        return self.judge(self.find(x))


def taught_by(name):
    """Return what the upper half of a script defines."""
    defined = {"__file__": str(FILES[name]), "__name__": name}
    before = [*sys.path]
    exec(compile(FILES[name].read_text(encoding="utf-8").partition(MARK)[0], str(FILES[name]), "exec"), defined)
    sys.path[:] = before
    return types.SimpleNamespace(**defined)


def test_maps_of_a_network_with_known_gradients_are_what_its_weights_say():
    """What it finds in a window is its largest pixel, and how white its smallest is, so saliency is known, too."""
    step = taught_by("grad_cam")
    random = np.random.default_rng(0)
    x, labels = random.random((3, 1, 28, 28)), np.array([2, 0, 1])
    care = random.standard_normal((14, 14)) + 1
    network = Known(random.standard_normal((2, 3)), care)
    found = network.find(x).data
    slopes = network.W[:, labels].T[:, :, None, None] * care / 14**2  # d score / d A
    for place_by_place, w in ((False, slopes.mean(axis=(2, 3), keepdims=True)), (True, slopes)):
        heat = np.maximum((w * found).sum(axis=1, keepdims=True), 0)
        wanted = F.upsample(heat, size=(28, 28), mode="bilinear").data[:, 0]
        assert wanted.max() > 0
        np.testing.assert_allclose(step.grad_cam(network, x, labels, place_by_place), wanted, atol=1e-12)
    windows = x.reshape(3, 14, 2, 14, 2)
    largest, smallest = (pick(windows, axis=(2, 4), keepdims=True) for pick in (np.max, np.min))
    w0, w1 = (slopes[:, k, :, None, :, None] for k in (0, 1))
    wanted = abs(w0 * (windows == largest) - w1 * (windows == smallest)).reshape(3, 28, 28)
    np.testing.assert_allclose(step.saliency(network, x, labels), wanted, atol=1e-12)


def test_as_much_ink_is_hidden_as_is_asked_for_and_where_the_map_is_high():
    hide = taught_by("grad_cam").hide
    x = np.zeros((1, 1, 28, 28))
    x[0, 0, 10, :20] = 0.5
    hidden = hide(x, np.arange(784.0).reshape(1, 28, 28), share=0.3)
    assert [*np.flatnonzero(hidden[0, 0, 10])] == [*range(14)]
    assert x.sum() == 10  # the image given is left as it was


def test_deep_networks_learn_with_batch_norm_and_shortcuts(runs):
    out = runs("resnet_on_digits")[0].stdout
    loss = [
        column(out, kind, "last training loss") for kind in ("both, a ResNet", "batch norm", "shortcuts", "neither")
    ]
    assert loss == sorted(loss)
    assert loss[1] < 0.5 < 1 < loss[2]


def test_weights_of_the_main_job_are_looked_through(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    network = pytest.importorskip("train_cnn", reason="the main job needs tqdm").CNN()
    test_set = datasets.MiniMNIST(train=False, transform=Compose([ToFloat(), Normalize(0, 255)]))
    x, t = test_set.batch(range(1000))
    np.random.seed(3)
    with dezero.test_mode(), dezero.no_grad():
        network(x[:1])
        mistakes = 1000 - round(1000 * float(F.accuracy(network(x), t.astype(int)).data))
    network.save_weights(tmp_path / "weights.npz")
    done = start(tmp_path / "here", "grad_cam", "--weights", tmp_path / "weights.npz")
    assert (done.returncode, said_on_the_side(done)) == (0, "")
    assert re.match(rf"mistakes = {mistakes} of 1000\n", done.stdout)  # not trained before


def test_without_the_tests_or_pytest_the_operation_still_shows_its_numbers(tmp_path):
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "pytest.py").write_text("raise ImportError('as if there were none')\n")
    done = start(tmp_path, "your_own_operation")
    assert (done.returncode, said_on_the_side(done)) == (0, "")
    message = 'the row runs with the tests of a checkout alone (as if there were none); pip install -e ".[test]"'
    assert message in done.stdout.splitlines()
    assert printed(done.stdout, "distance from the ship") == 0


SMALLER = {
    "grad_cam": {},
    "resnet_on_digits": {"max_epoch = 2": "max_epoch = 1", "range(200)": "range(20)"},
    "transformer": {
        "E=64, heads=4, blocks=2": "E=16, heads=2, blocks=1",
        "max_iter = 400": "max_iter = 2",
        "warm_up=20": "warm_up=1",
        "places = 64": "places = 12",
        "new + 34": "new + 12",
    },
}


@pytest.mark.parametrize("name", SMALLER)
def test_it_trains_on_a_gpu(simulated, monkeypatch, capsys, name):
    """The whole script on a simulated device, with a handful of digits or two iterations."""

    def few(self, prepare=datasets.MiniMNIST.prepare):
        prepare(self)
        self.data, self.label = self.data[:20], self.label[:20]

    monkeypatch.setattr(datasets.MiniMNIST, "prepare", few)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--gpu"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = FILES[name].read_text(encoding="utf-8")
    for large, small in SMALLER[name].items():
        assert large in text
        text = text.replace(large, small)
    moved = []
    monkeypatch.setattr(
        dezero.Model, "to_gpu", lambda self, to_gpu=dezero.Model.to_gpu: (moved.append(1), to_gpu(self))
    )
    exec(compile(text, str(FILES[name]), "exec"), {"__file__": str(FILES[name]), "__name__": "__main__"})
    assert moved
    assert "= nan" not in capsys.readouterr().out
