"""Weights on disk: there and back, also into layers never called; nothing by halves, in a layer or in a file."""

import os
import pickle
import stat
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from dezero import files, serializers
from dezero import layers as L
from dezero.core import Parameter, test_mode
from dezero.models import MLP, Sequential


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Net(L.Layer):
    def __init__(self):
        super().__init__()
        self.conv = L.Conv2d(2, 3)
        self.bn = L.BatchNorm()
        self.blocks = [L.Linear(4), L.Linear(4, nobias=True)]
        self.lstm = L.LSTM(3)

    def forward(self, x):
        x = self.bn(self.conv(x))
        return self.lstm(self.blocks[1](self.blocks[0](x.reshape(len(x), -1))))


X = randn(2, 1, 5, 5)


def trained_net():
    net = Net()
    for _ in range(2):
        net(X)
    net.lstm.reset_state()
    return net


def values(layer):
    return {name: None if p.data is None else p.data.copy() for name, p in layer.named_params()}


def assert_same_values(a, b):
    a, b = values(a), values(b)
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# ----------------------------------------------------------------------------------------------------------------------
# There and back
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", [True, False], ids=["into a called model", "into one never called"])
def test_what_is_saved_comes_back(tmp_path, called):
    net, other = trained_net(), Net()
    if called:
        other(3 * X)
        other.lstm.reset_state()
    net.save_weights(tmp_path / "net.npz")
    other.load_weights(tmp_path / "net.npz")
    assert_same_values(other, net)
    with test_mode():
        np.testing.assert_array_equal(other(X).data, net(X).data)


@pytest.mark.parametrize("layer", [L.RNN(3, in_size=4), L.EmbedID(3, 2), L.Deconv2d(2, 3, in_channels=1)])
def test_other_layers_come_back_too(tmp_path, layer):
    before = values(layer)
    layer.save_weights(tmp_path / "w.npz")
    for p in layer.params():
        p.data = np.zeros_like(p.data)
    layer.load_weights(tmp_path / "w.npz")
    for name, p in layer.named_params():
        np.testing.assert_array_equal(p.data, before[name])


def test_the_file_holds_an_array_for_each_name(tmp_path):
    net = trained_net()
    net.save_weights(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        assert set(file.files) == set(values(net))
        assert {"conv/W", "bn/avg_mean", "blocks.0/b", "lstm/h2u/W"} <= set(file.files)
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float32)}


def test_a_file_of_plain_numpy_loads(tmp_path):
    np.savez(tmp_path / "w.npz", **{"l0/W": np.eye(2), "l0/b": np.ones(2)})
    model = Sequential(L.Linear(2))
    model.load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(model(np.array([[1.0, 2.0]])).data, [[2.0, 3.0]])


def test_a_model_never_called_has_nothing_whole_to_save(tmp_path):
    with pytest.raises(
        ValueError, match=r"^save_weights: Sequential was never called: l0/W are made at the first call"
    ):
        Sequential(L.Linear(3)).save_weights(tmp_path / "w.npz")
    with pytest.raises(ValueError, match=r"^save_weights: Sequential has no parameters"):
        Sequential().save_weights(tmp_path / "w.npz")
    assert os.listdir(tmp_path) == []


def test_a_part_never_called_does_not_stand_in_the_way(tmp_path):
    def model():
        layer = Sequential(L.RNN(3))
        layer.unused = L.Linear(3)
        return layer

    saved, loaded = model(), model()
    y = saved(np.ones((2, 4), np.float32))  # one step: h2h waits for the second
    saved.save_weights(tmp_path / "w.npz")
    loaded.load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(loaded(np.ones((2, 4), np.float32)).data, y.data)
    assert loaded.unused.W.data is None


@pytest.mark.parametrize(
    ("saved", "made"),
    [
        (L.Conv2d(4, 5, in_channels=1), L.Conv2d(4, 3)),
        (L.Deconv2d(4, 3, in_channels=1, nobias=True), L.Deconv2d(5, 3, nobias=True)),
        (L.Linear(7, nobias=True, in_size=2), L.Linear(9, nobias=True)),
        (L.Linear(7, nobias=True, in_size=2), L.Linear(7, nobias=True, in_size=3)),
    ],
)
def test_a_layer_not_yet_called_knows_which_shapes_do_not_fit(tmp_path, saved, made):
    saved.save_weights(tmp_path / "w.npz")
    before = made.W.data
    with pytest.raises(ValueError, match=r"W has shape .* in the file but .* here"):
        made.load_weights(tmp_path / "w.npz")
    assert made.W.data is before


@pytest.mark.parametrize("bad", [np.array(["x"] * 7), np.ones(7, complex)])
def test_what_is_no_real_number_is_refused_and_nothing_is_changed(tmp_path, bad):
    np.savez(tmp_path / "w.npz", W=np.ones((3, 7)), b=bad)
    layer = L.Linear(7, in_size=3)
    before = layer.W.data.copy()
    with pytest.raises(ValueError, match=r"b has dtype .* in the file"):
        layer.load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(layer.W.data, before)


def test_weights_take_the_dtype_of_the_layer_that_was_never_called(tmp_path):
    np.savez(tmp_path / "w.npz", W=np.ones((3, 7)), b=np.zeros(7, int))
    layer = L.Linear(7)
    layer.load_weights(tmp_path / "w.npz")
    assert (layer.W.dtype, layer.b.dtype) == (np.float32, np.float32)


def test_a_folder_is_no_file_for_weights(tmp_path):
    with pytest.raises(ValueError, match="expected the name of a file"):
        L.Linear(7, in_size=3).save_weights(f"{tmp_path}/")


def test_a_tied_parameter_is_saved_once_and_stays_tied(tmp_path):
    model = MLP((2, 2))
    model(np.ones((1, 2), np.float32))
    model.l1.W = model.l0.W
    model.save_weights(tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as file:
        assert sorted(file.files) == ["l0/W", "l0/b", "l1/b"]
    model.load_weights(tmp_path / "w.npz")
    assert model.l1.W is model.l0.W


@pytest.mark.parametrize("name", ["file", "args", "allow_pickle", "arr_0", "self"])
def test_a_parameter_may_have_any_name(tmp_path, name):
    layer = L.Layer()
    setattr(layer, name, Parameter(np.arange(3.0)))
    layer.save_weights(tmp_path / "w.npz")
    setattr(layer, name, Parameter(np.zeros(3)))
    layer.load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(getattr(layer, name).data, np.arange(3.0))


def test_loaded_values_take_the_parameters_dtype_and_are_writable(tmp_path):
    np.savez(tmp_path / "w.npz", W=np.ones((2, 3)), b=np.zeros(3))
    layer = L.Linear(3, in_size=2)
    layer.load_weights(tmp_path / "w.npz")
    assert (layer.W.dtype, layer.b.dtype) == (np.float32, np.float32)
    layer.W.data += 1
    assert layer.W.data.flags.c_contiguous


def test_saving_leaves_the_layer_as_it_is(tmp_path):
    net = trained_net()
    arrays = [p.data for p in net.params()]
    net.save_weights(tmp_path / "w.npz")
    assert all(p.data is array for p, array in zip(net.params(), arrays, strict=True))


# ----------------------------------------------------------------------------------------------------------------------
# The name of the file
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "written"), [("w", "w.npz"), ("w.npz", "w.npz"), ("w.v1", "w.v1.npz"), ("a b;c", "a b;c.npz")]
)
def test_npz_is_added_on_save_and_found_on_load(tmp_path, given, written):
    layer = L.Linear(2, in_size=2)
    layer.save_weights(tmp_path / given)
    assert os.listdir(tmp_path) == [written]
    for name in (given, written):
        other = L.Linear(2)
        other.load_weights(str(tmp_path / name))
        assert_same_values(other, layer)


def test_a_folder_of_that_name_is_no_obstacle(tmp_path):
    layer = L.Linear(2, in_size=2)
    (tmp_path / "w").mkdir()
    layer.save_weights(tmp_path / "w")
    other = L.Linear(2)
    other.load_weights(tmp_path / "w")
    assert_same_values(other, layer)


@pytest.mark.parametrize("name", ["none", "none.npz"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"load_weights: there is no file .*none\.npz"):
        L.Linear(2).load_weights(tmp_path / name)


# ----------------------------------------------------------------------------------------------------------------------
# What does not fit
# ----------------------------------------------------------------------------------------------------------------------


MISFITS = {
    "missing": ({"W": np.ones((2, 3))}, "missing in the file: b"),
    "left over": ({"W": np.ones((2, 3)), "b": np.ones(3), "c": np.ones(3), "d": np.ones(1)}, "not in the layer: c, d"),
    "shape": ({"W": np.ones((3, 2)), "b": np.ones(3)}, r"W has shape \(3, 2\) in the file but \(2, 3\) here"),
    "all at once": (
        {"W": np.ones((3, 2)), "c": np.ones(3)},
        r"missing in the file: b; not in the layer: c; W has shape \(3, 2\) in the file but \(2, 3\) here",
    ),
    "nothing": ({}, "missing in the file: W, b"),
}


@pytest.mark.parametrize(("arrays", "message"), MISFITS.values(), ids=MISFITS)
def test_misfits_are_listed_and_nothing_is_changed(tmp_path, arrays, message):
    np.savez(tmp_path / "w.npz", **arrays)
    layer = L.Linear(3, in_size=2)
    held = [p.data for p in layer.params()]
    before = values(layer)
    with pytest.raises(ValueError, match=r"w\.npz does not fit Linear: " + message):
        layer.load_weights(tmp_path / "w.npz")
    assert all(p.data is array for p, array in zip(layer.params(), held, strict=True))
    assert all(np.array_equal(p.data, before[name]) for name, p in layer.named_params())


def test_a_misfit_late_in_the_file_leaves_a_model_never_called_as_it_is(tmp_path):
    net = trained_net()
    arrays = values(net)
    arrays["lstm/h2u/W"] = np.zeros((7, 7), np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    other = Net()
    before = values(other)
    with pytest.raises(ValueError, match="lstm/h2u/W has shape"):
        other.load_weights(tmp_path / "w.npz")
    for name, value in values(other).items():
        np.testing.assert_array_equal(value, before[name])


def broken_text(path):
    path.write_bytes(b"not an archive at all")


def broken_empty(path):
    path.write_bytes(b"")


def broken_npy(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def broken_pickle(path):
    path.write_bytes(pickle.dumps({"W": np.zeros(3)}))


def broken_truncated(path):
    L.Linear(30, in_size=20).save_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def broken_inside(path):
    L.Linear(30, in_size=20).save_weights(path)
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 3, len(content) // 3 + 64):
        content[i] ^= 0xFF
    path.write_bytes(content)


def broken_zip_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W.npy", "no array")


@pytest.mark.parametrize(
    "damage",
    [broken_text, broken_empty, broken_npy, broken_pickle, broken_truncated, broken_inside, broken_zip_of_text],
)
def test_what_is_no_npz_of_arrays_is_a_value_error_that_names_the_file(tmp_path, damage):
    path = tmp_path / "w.npz"
    damage(path)
    layer = L.Linear(30, in_size=20)
    W = layer.W.data.copy()
    with pytest.raises(ValueError, match=r"load_weights: .*w\.npz"):
        layer.load_weights(path)
    np.testing.assert_array_equal(layer.W.data, W)


def test_a_byte_damaged_anywhere_is_a_value_error_or_does_no_harm(tmp_path):
    path = tmp_path / "w.npz"
    L.Linear(3, in_size=2).save_weights(path)
    content = path.read_bytes()
    said = []
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x91]) + content[i + 1 :])
        layer = L.Linear(3, in_size=2)
        try:
            layer.load_weights(path)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 200
    assert all("w.npz" in text for text in said)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB_WENT_OFF"],)


def test_pickled_objects_are_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB_WENT_OFF", str(tmp_path / "boom"))
    np.savez(tmp_path / "w.npz", W=np.array([Bomb()], dtype=object), b=np.zeros(3))
    with pytest.raises(ValueError, match=r"w\.npz is not an npz file of arrays"):
        L.Linear(3).load_weights(tmp_path / "w.npz")
    assert not (tmp_path / "boom").exists()


def test_no_file_stays_open(tmp_path):
    broken_truncated(tmp_path / "w.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(ValueError, match="not an npz"):
            L.Linear(3).load_weights(tmp_path / "w.npz")
    os.remove(tmp_path / "w.npz")


def test_a_complete_file_has_what_waits_for_a_first_call_too(tmp_path):
    np.savez(tmp_path / "w.npz", b=np.ones(3))
    layer = L.Linear(3)
    with pytest.raises(ValueError, match="does not fit Linear: missing in the file: W"):
        serializers.load_weights(layer, tmp_path / "w.npz", complete=True)
    assert not layer.b.data.any()
    layer.load_weights(tmp_path / "w.npz")
    assert layer.W.data is None
    assert layer.b.data.all()


def test_what_does_not_fit_is_refused_before_it_takes_memory(tmp_path):
    huge = np.broadcast_to(np.float32(0), (1 << 24, 3))  # 200 MB, of which a compressed file shows nothing
    np.savez_compressed(tmp_path / "w.npz", W=huge, b=np.ones(3))
    layer = L.Linear(3, in_size=2)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"W has shape \(16777216, 3\) in the file but \(2, 3\) here"):
            layer.load_weights(tmp_path / "w.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_in_fortran_order_in_the_file_is_in_c_order_here(tmp_path):
    np.savez(tmp_path / "w.npz", W=np.asfortranarray(randn(2, 3)), b=np.zeros(3))
    layer = L.Linear(3)
    layer.load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(layer.W.data, randn(2, 3))
    assert layer.W.data.flags.c_contiguous


# ----------------------------------------------------------------------------------------------------------------------
# Files whole, or not at all
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_save_leaves_the_old_file_whole_and_nothing_else(tmp_path, monkeypatch, error):
    layer = L.Linear(3, in_size=2)
    layer.save_weights(tmp_path / "w.npz")
    content = (tmp_path / "w.npz").read_bytes()
    plain_open = zipfile.ZipFile.open
    opened = []

    def interrupted(archive, name, *arguments, **options):
        opened.append(name)
        if len(opened) == 2:
            raise error("in the middle")
        return plain_open(archive, name, *arguments, **options)

    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted)
    layer.W.data += 1
    with pytest.raises(error):
        layer.save_weights(tmp_path / "w.npz")
    assert len(opened) == 2
    assert os.listdir(tmp_path) == ["w.npz"]
    assert (tmp_path / "w.npz").read_bytes() == content


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "f"
    with files.open_whole(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert os.listdir(tmp_path) == ["f"]


def test_two_parameters_of_one_name_are_an_error(tmp_path):
    model = L.Layer()
    model.parts = {1: L.Linear(2, in_size=3)}
    model.save_weights(tmp_path / "w.npz")
    model.parts["1"] = L.Linear(2, in_size=3)
    for operation in ("save_weights", "load_weights"):
        with pytest.raises(ValueError, match=rf"{operation}: two parameters of Layer have one name, parts.1/W; change"):
            getattr(model, operation)(tmp_path / "w.npz")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none to write w.npz to; make it first"):
        L.Linear(3, in_size=2).save_weights(tmp_path / "none" / "w.npz")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_what_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        L.Linear(3, in_size=2).save_weights(tmp_path / "w.npz")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.npz").stat().st_mode) == mode
