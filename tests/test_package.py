"""The package as a whole: what `import dezero` gives and does not do, who imports whom, and what is never written."""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dezero
from dezero import core

PACKAGE = Path(dezero.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))


def words(text):
    return text.split()


# From the ground up: a module imports only those that stand before it.
ORDER = words("""
    cuda files random random_items core_simple
    kernels.sizes kernels.threads kernels.memory kernels.scratch kernels.winograd kernels.reference
    kernels.gpu.slots kernels.gpu.launch kernels.gpu.channels kernels.gpu.windows kernels.gpu.libraries
    kernels.gpu.elementwise kernels.gpu.recurrent kernels.gpu.cudnn kernels.gpu.cublas kernels.gpu.product
    kernels.gpu.conv kernels.gpu.pool kernels.gpu.norm kernels.gpu.softmax kernels.gpu.rows kernels.gpu.update
    kernels.gpu.dropout kernels.gpu
    kernels.blocked.layout kernels.blocked.activation kernels.blocked.winograd kernels.blocked.conv kernels.blocked.norm
    kernels.blocked.pool kernels.blocked.recurrent kernels.blocked.rows kernels.blocked.update kernels.blocked
    kernels.compiled.compile kernels.compiled.simd kernels.compiled.layout kernels.compiled.product
    kernels.compiled.winograd kernels.compiled.elementwise kernels.compiled.activation kernels.compiled.conv
    kernels.compiled.norm kernels.compiled.recurrent kernels.compiled.pool kernels.compiled.rows kernels.compiled
    kernels core
    functions_elementwise functions_shape functions_product functions_reduction functions_activation functions_norm
    functions_recurrent functions_sequence functions_attention functions_conv functions_resize functions_loss functions
    derivatives anomaly precision capture serializers download layout drawing
    testing transforms_base transforms_random transforms datasets_base datasets_parts datasets_drawn datasets_files
    datasets_images datasets_text datasets workers dataloaders
    optimizers_base optimizers_rules optimizers_hooks optimizers schedules
    summary initializers layers_base layers_linear layers_norm layers_recurrent layers_sequence
    layers_attention layers models_base models_vision models utils gpu_report
""")


def module_name(path):
    """The name of a module within the package: "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def trees():
    return [pytest.param(path, id=module_name(path) or "__init__") for path in FILES]


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


# ----------------------------------------------------------------------------------------------------------------------
# import dezero
# ----------------------------------------------------------------------------------------------------------------------


NAMES = words("""
    Variable Parameter Function Config using_config no_grad test_mode as_array as_variable setup_variable Layer Model
    Dataset DataLoader SeqDataLoader __version__ is_simple_core
    core core_simple functions functions_conv layers models optimizers datasets dataloaders transforms utils cuda
    serializers testing seed detect_anomaly autocast GradScaler graph checkpoint grad hessian hvp jacobian jvp vjp
    anomaly derivatives download drawing files initializers kernels layout precision random schedules
""")
ELSEWHERE = words("tqdm matplotlib PIL cupy numba torch scipy urllib.request http.client IPython")

# What `import dezero` leaves to the moment when it is asked for, and what these would bring along.
LATER = words("""
    dezero.anomaly dezero.core_simple dezero.dataloaders dezero.datasets dezero.download dezero.drawing dezero.layout
    dezero.precision dezero.schedules dezero.testing dezero.transforms dezero.utils gzip hashlib html dataclasses
    urllib.parse
""")

QUESTIONS = f"""
import json, sys
import numpy as np
np.random.seed(3)
before = np.random.get_state()[1].tolist()
modules = set(sys.modules)
import dezero
modules = set(sys.modules) - modules
unseen = set({NAMES!r}) - set(dir(dezero))
everything = {{}}
exec("from dezero import *", everything)
print(json.dumps({{
    "too early": [name for name in {LATER!r} if name in modules],
    "not in dir": sorted(unseen),
    "not in *": [name for name in dezero.__all__ if name not in everything],
    "missing": [name for name in {NAMES!r} if not hasattr(dezero, name)],
    "imported": [name for name in {ELSEWHERE!r} if name in sys.modules],
    "drawn": before != np.random.get_state()[1].tolist(),
    "errors": np.geterr() != {{"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}},
    "simple": dezero.is_simple_core,
    "module of core": dezero.core.__name__,
}}))
"""


@pytest.fixture(scope="module")
def bare_import(tmp_path_factory):
    """What is so after a bare `import dezero` in a fresh interpreter, in another folder, with warnings as errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", QUESTIONS]
    folder = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(folder) == []
    return json.loads(done.stdout)


def test_every_name_is_there_after_a_bare_import(bare_import):
    assert bare_import["missing"] == []
    assert bare_import["simple"] is False


def test_what_not_every_program_needs_is_imported_when_it_is_asked_for(bare_import):
    assert bare_import["too early"] == []


def test_names_that_come_later_are_seen_all_the_same(bare_import):
    assert (bare_import["not in dir"], bare_import["not in *"]) == ([], [])
    with pytest.raises(AttributeError, match=r"^module 'dezero' has no attribute 'dataset'$"):
        _ = dezero.dataset


def test_type_checkers_are_shown_every_name():
    (block,) = (node for node in parse(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    shown = {alias.name for node in block.body for alias in node.names}
    assert shown == {*dezero._LATER, *(dezero._MODULES_LATER & {*dezero.__all__})}
    names = {alias.asname or alias.name for node in parse(PACKAGE / "__init__.py").body for alias in imports(node)}
    assert {*dezero.__all__} <= {*names, *shown, "is_simple_core"}


def imports(node):
    return node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []


@pytest.mark.parametrize("statement", ["dezero.datasets.MNIST", "dezero.drawing.get_dot_graph", "dezero.DataLoader"])
def test_what_comes_later_is_there_after_a_bare_import(statement):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "-c", f"import dezero; {statement}"], env=environment, check=True)


def test_a_bare_import_needs_numpy_alone(bare_import):
    assert bare_import["imported"] == []


def test_a_bare_import_changes_nothing_of_numpys(bare_import):
    assert (bare_import["drawn"], bare_import["errors"]) == (False, False)


def test_names_at_the_top_are_those_of_the_rooms():
    assert dezero.Variable is dezero.core.Variable
    assert dezero.Layer is dezero.layers.Layer
    assert dezero.Model is dezero.models.Model
    assert dezero.DataLoader is dezero.dataloaders.DataLoader
    assert set(dezero.__all__) <= set(dir(dezero))


# ----------------------------------------------------------------------------------------------------------------------
# Who imports whom
# ----------------------------------------------------------------------------------------------------------------------


def imported_modules(tree):
    """Yield the package's own modules that a module imports, anywhere in it, as names within the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "dezero":
                    yield alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "dezero":
                yield from (alias.name for alias in node.names)
            elif node.module.startswith("dezero."):
                room = node.module.partition(".")[2]
                for alias in node.names:
                    yield f"{room}.{alias.name}" if f"{room}.{alias.name}" in ORDER else room


def test_every_module_has_its_place_in_the_order():
    assert sorted(ORDER) == sorted(name for path in FILES if (name := module_name(path)))


@pytest.mark.parametrize("path", [p for p in FILES if module_name(p)], ids=[n for p in FILES if (n := module_name(p))])
def test_imports_point_down_only(path):
    place = ORDER.index(module_name(path))
    above = [name for name in imported_modules(parse(path)) if name not in ORDER[:place]]
    assert above == []


def test_the_order_test_can_see_an_import_that_points_up():
    text = "def f():\n    from dezero import layers\n    import dezero.models\n    from dezero.optimizers import SGD\n"
    assert list(imported_modules(ast.parse(text))) == ["layers", "models", "optimizers"]


OUTSIDE = {"numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", trees())
def test_only_numpy_and_the_standard_library_are_imported_at_the_top(path):
    found = set()
    for node in parse(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    compiled = "kernels/compiled" in path.as_posix()  # a folder that is imported where Numba is
    assert found - OUTSIDE <= ({"dezero", "numba", "llvmlite"} if compiled else {"dezero"})


# ----------------------------------------------------------------------------------------------------------------------
# What is never written
# ----------------------------------------------------------------------------------------------------------------------


def forbidden(tree):
    """Yield what has no place in the package, and the line where it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield "bare except", node.lineno
        if isinstance(node, ast.Assert):
            yield "assert", node.lineno
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if {m.split(".")[0] for m in modules} & {"pickle", "marshal", "shelve", "dill"}:
                yield "pickle", node.lineno
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in ("eval", "exec", "system", "popen"):
                yield name, node.lineno
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else "not plain"
                if keyword.arg in ("shell", "allow_pickle") and value is not False:
                    yield keyword.arg, node.lineno


@pytest.mark.parametrize("path", trees())
def test_nothing_is_evaluated_unpickled_or_given_to_a_shell(path):
    assert list(forbidden(parse(path))) == []


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept:\n    pass",
        "assert x",
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "os.system('dot')",
        "subprocess.run('dot', shell=True)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(text):
    assert len(list(forbidden(ast.parse(text)))) == 1


# ----------------------------------------------------------------------------------------------------------------------
# Docstrings
# ----------------------------------------------------------------------------------------------------------------------


# Beside the classes of Functions: there the function tells.
def is_function_class(module, name):
    kind = getattr(module, name)
    return isinstance(kind, type) and issubclass(kind, (core.Function, dezero.core_simple.Function))


@pytest.mark.parametrize("path", trees())
def test_public_functions_and_classes_have_docstrings(path):
    name = module_name(path)
    if name.startswith("kernels.compiled"):
        pytest.importorskip("numba")
    module = importlib.import_module(f"dezero.{name}" if name else "dezero")
    bare = [
        node.name
        for node in parse(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not is_function_class(module, node.name)
    ]
    assert ast.get_docstring(parse(path)), "a module begins with what it is for"
    assert bare == []


# ----------------------------------------------------------------------------------------------------------------------
# Names and arguments that programs rely on
# ----------------------------------------------------------------------------------------------------------------------


SIGNATURES = {
    "core": """
        Variable(data, name=None) using_config(name, value) no_grad() test_mode() as_variable(obj) setup_variable()
        as_array(x, array_module=np) add(x0, x1) mul(x0, x1) neg(x) sub(x0, x1) rsub(x0, x1) div(x0, x1) rdiv(x0, x1)
        pow(x, c)
        Variable.backward(self, retain_grad=False, create_graph=False) Variable.cleargrad(self) Variable.unchain(self)
        Variable.unchain_backward(self) Variable.set_creator(self, func) Variable.reshape(self, *shape)
        Variable.transpose(self, *axes) Variable.sum(self, axis=None, keepdims=False) Variable.to_cpu(self)
        Variable.to_gpu(self)
    """,
    "functions": """
        sin(x) cos(x) tanh(x) exp(x) log(x) reshape(x, shape) transpose(x, axes=None) get_item(x, slices)
        expand_dims(x, axis) flatten(x) sum(x, axis=None, keepdims=False) sum_to(x, shape) broadcast_to(x, shape)
        average(x, axis=None, keepdims=False) mean(x, axis=None, keepdims=False) matmul(x, W) linear(x, W, b=None)
        linear_simple(x, W, b=None) sigmoid_simple(x) sigmoid(x) relu(x) softmax_simple(x, axis=1) softmax(x, axis=1)
        log_softmax(x, axis=1) leaky_relu(x, slope=0.2) mean_squared_error_simple(x0, x1) mean_squared_error(x0, x1)
        softmax_cross_entropy_simple(x, t) softmax_cross_entropy(x, t) sigmoid_cross_entropy(x, t)
        binary_cross_entropy(p, t) accuracy(y, t) dropout(x, dropout_ratio=0.5)
        batch_nrom(x, gamma, beta, mean, var, decay=0.9, eps=2e-05) embed_id(x, W) max(x, axis=None, keepdims=False)
        min(x, axis=None, keepdims=False) clip(x, x_min, x_max)
        add(x0, x1) sub(x0, x1) rsub(x0, x1) mul(x0, x1) div(x0, x1) rdiv(x0, x1) neg(x) pow(x, c)
        Variable(data, name=None) as_variable(obj) as_array(x, array_module=np)
    """,
    "functions_conv": """
        im2col(x, kernel_size, stride=1, pad=0, to_matrix=True)
        col2im(x, input_shape, kernel_size, stride=1, pad=0, to_matrix=True)
        im2col_array(img, kernel_size, stride, pad, to_matrix=True)
        col2im_array(col, img_shape, kernel_size, stride, pad, to_matrix=True)
        conv2d_simple(x, W, b=None, stride=1, pad=0) conv2d(x, W, b=None, stride=1, pad=0)
        deconv2d(x, W, b=None, stride=1, pad=0, outsize=None) pooling_simple(x, kernel_size, stride=1, pad=0)
        pooling(x, kernel_size, stride=1, pad=0) average_pooling(x, kernel_size, stride=1, pad=0)
    """,
    "layers": """
        Layer() Layer.params(self) Layer.cleargrads(self) Layer.to_cpu(self) Layer.to_gpu(self)
        Layer.save_weights(self, path) Layer.load_weights(self, path)
        Linear(out_size, nobias=False, dtype=np.float32, in_size=None)
        Conv2d(out_channels, kernel_size, stride=1, pad=0, nobias=False, dtype=np.float32, in_channels=None)
        Deconv2d(out_channels, kernel_size, stride=1, pad=0, nobias=False, dtype=np.float32, in_channels=None)
        RNN(hidden_size, in_size=None) RNN.reset_state(self) LSTM(hidden_size, in_size=None) LSTM.reset_state(self)
        EmbedID(in_size, out_size) BatchNorm() Parameter(data, name=None)
    """,
    "models": """
        Model() Model.plot(self, *inputs, to_file='model.png') Sequential(*layers)
        MLP(fc_output_sizes, activation=F.sigmoid) VGG16(pretrained=False)
        VGG16.preprocess(image, size=..., dtype=np.float32) ResNet(n_layers=152, pretrained=False)
        ResNet50(pretrained=False) ResNet101(pretrained=False) ResNet152(pretrained=False) SqueezeNet(pretrained=False)
        BottleneckA(in_channels, mid_channels, out_channels, stride=2, downsample_fb=False)
        BottleneckB(in_channels, mid_channels)
    """,
    "optimizers": """
        Optimizer() Optimizer.setup(self, target) Optimizer.update(self) Optimizer.update_one(self, param)
        Optimizer.add_hook(self, f) WeightDecay(rate) ClipGrad(max_norm) FreezeParam(*layers) SGD(lr=0.01)
        MomentumSGD(lr=0.01, momentum=0.9) AdaGrad(lr=0.001, eps=1e-08) AdaDelta(rho=0.95, eps=1e-06)
        Adam(alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-08)
    """,
    "datasets": """
        Dataset(train=True, transform=None, target_transform=None) get_spiral(train=True)
        Spiral(train=True, transform=None, target_transform=None)
        SinCurve(train=True, transform=None, target_transform=None)
        MNIST(train=True, transform=..., target_transform=None)
        MiniMNIST(train=True, transform=..., target_transform=None) MNIST.show(self, row=10, col=10) MNIST.labels()
        CIFAR10(train=True, transform=..., target_transform=None) CIFAR10.show(self, row=10, col=10) CIFAR10.labels()
        CIFAR100(train=True, transform=..., target_transform=None, label_type='fine') CIFAR100.labels(label_type='fine')
        Shakespear(train=True, transform=None, target_transform=None) ImageNet.labels()
    """,
    "dataloaders": """
        DataLoader(dataset, batch_size, shuffle=True, gpu=False) SeqDataLoader(dataset, batch_size, gpu=False)
        DataLoader.reset(self) DataLoader.next(self) DataLoader.to_cpu(self) DataLoader.to_gpu(self)
    """,
    "transforms": """
        Compose(transforms=()) Convert(mode='RGB') Resize(size, mode=...) CenterCrop(size) ToArray(dtype=np.float32)
        ToPIL() RandomHorizontalFlip() Normalize(mean=0, std=1) Flatten() AsType(dtype=np.float32) ToFloat() ToInt()
    """,
    "cuda": "get_array_module(x) as_numpy(x) as_cupy(x)",
    "core_simple": """
        Variable(data, name=None) Function() using_config(name, value) no_grad() as_array(x) as_variable(obj)
        setup_variable()
    """,
}

CLASSES = {
    "functions": """
        Sin Cos Tanh Exp Log Reshape Transpose GetItem GetItemGrad Sum SumTo BroadcastTo MatMul Linear Sigmoid ReLU
        Softmax LogSoftmax LeakyReLU MeanSquaredError SoftmaxCrossEntropy BatchNorm Max Min Clip Function
    """,
    "functions_conv": """
        Conv2d Deconv2d Conv2DGradW Pooling Pooling2DGrad Pooling2DWithIndexes AveragePooling Im2col Col2im
    """,
    "core": "Add Mul Neg Sub Div Pow Function",
}


def expected_signatures():
    for module, text in SIGNATURES.items():
        for call in re.findall(r"[\w.]+\([^()]*(?:\(\))?[^()]*\)", text):
            name, _, arguments = call.partition("(")
            yield pytest.param(module, name, arguments[:-1], id=f"{module}.{name}")


@pytest.mark.parametrize(("module", "name", "arguments"), list(expected_signatures()))
def test_arguments_have_their_names_order_and_defaults(module, name, arguments):
    thing = importlib.import_module(f"dezero.{module}")
    for part in name.split("."):
        thing = getattr(thing, part)
    found = list(inspect.signature(thing).parameters.values())
    wanted = [a.strip() for a in arguments.split(", ") if a.strip()]
    assert len(found) >= len(wanted)
    for parameter, text in zip(found, wanted, strict=False):
        name, has_default, default = text.partition("=")
        assert name.lstrip("*") == parameter.name
        if name.startswith("*"):
            assert parameter.kind is inspect.Parameter.VAR_POSITIONAL
        elif not has_default:
            assert parameter.default is inspect.Parameter.empty
        elif default == "...":
            assert parameter.default is not inspect.Parameter.empty
        else:
            known = {"np": np, "np.float32": np.float32, "F.sigmoid": dezero.functions.sigmoid}
            assert parameter.default == (known[default] if default in known else ast.literal_eval(default))
    for parameter in found[len(wanted) :]:  # what is new comes after, and may be left out
        optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        assert parameter.default is not inspect.Parameter.empty or parameter.kind in optional


def test_the_table_of_signatures_was_read_whole():
    assert sum(1 for _ in expected_signatures()) == sum(text.count("(") for text in SIGNATURES.values()) - 1


@pytest.mark.parametrize(("module", "names"), CLASSES.items())
def test_primitives_are_function_classes(module, names):
    room = importlib.import_module(f"dezero.{module}")
    for name in names.split():
        assert issubclass(getattr(room, name), core.Function), name


def test_functions_offers_the_convolutions_names():
    for name in [*re.findall(r"(\w+)\(", SIGNATURES["functions_conv"]), *CLASSES["functions_conv"].split()]:
        assert getattr(dezero.functions, name) is getattr(dezero.functions_conv, name)


def test_attributes_that_programs_read():
    assert dezero.cuda.gpu_enable in (True, False)
    assert (dezero.Config.enable_backprop, dezero.Config.train) == (True, True)
    x = dezero.Variable(np.zeros((2, 3)))
    assert all(
        hasattr(x, name) for name in words("data name grad creator generation shape ndim size dtype T dot max min")
    )
    loader = dezero.DataLoader(dezero.datasets.Spiral(), 30)
    assert (loader.data_size, loader.max_iter) == (300, 10)


# ----------------------------------------------------------------------------------------------------------------------
# Packaging
# ----------------------------------------------------------------------------------------------------------------------


needs_checkout = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the package is installed, without setup.py"
)


@needs_checkout
def test_setup_imports_nothing_of_the_package():
    assert list(imported_modules(parse(ROOT / "setup.py"))) == []


def run_setup(monkeypatch):
    """Return what setup.py gives to setuptools, without running it."""
    setuptools = pytest.importorskip("setuptools")
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: given.update(options))
    monkeypatch.chdir(ROOT)
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    exec(compile(text, "setup.py", "exec"), {"__file__": str(ROOT / "setup.py"), "__name__": "__main__"})
    return given


@needs_checkout
def test_setup_agrees_with_the_package(monkeypatch):
    given = run_setup(monkeypatch)
    assert (given["name"], given["version"]) == ("dezero", dezero.__version__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", dezero.__version__)
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES}
    assert set(given["packages"]) == folders
    assert {re.split("[<>=]", need)[0] for need in given["install_requires"]} == {"numpy", "tqdm"}


@needs_checkout
def test_every_file_that_the_package_carries_is_packed(monkeypatch):
    patterns = run_setup(monkeypatch)["package_data"]["dezero"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    carried = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert PACKAGE / "data" / "mini_mnist.npz" in packed
    assert packed >= carried
