"""Tensors of PyTorch's files are read without torch, and without doing what the files say."""

import pickle
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tests.torch_files import Call, Module, Payload, View, Writer, save_old, save_zip
from unclip_jax.convert import torch_pickle
from unclip_jax.convert.torch_files import find_weights, joined, open_tensors
from unclip_jax.core.errors import UserError

RNG = np.random.default_rng(0)
STATE = {
    "a.weight": RNG.standard_normal((3, 4)).astype(np.float32),
    "a.bias": RNG.standard_normal(3).astype(np.float16),
    "b": RNG.standard_normal((2, 2, 2)).astype(ml_dtypes.bfloat16),
    "input_resolution": np.array(224, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}
SOURCE = """class M(Module):
  __parameters__ = ["p", ]
  __buffers__ = ["input_resolution", ]
  p : Tensor
  mask : Tensor
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
    return torch.add(x, self.mask)
"""


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def check(tensors, state):
    assert tensors.shapes == {key: array.shape for key, array in state.items()}
    assert tensors.dtypes == {key: array.dtype.name for key, array in state.items()}
    for key, array in state.items():
        assert tensors[key].dtype == array.dtype
        np.testing.assert_array_equal(tensors[key], array)


def refused(path, *words):
    with pytest.raises(UserError) as caught:
        tensors = open_tensors(path)
        for key in tensors.shapes:
            tensors[key]
    message = str(caught.value)
    assert str(path) in message
    assert "weights_only" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize("nested", [False, True])
def test_tensors_are_read_without_torch(tmp_path, save, nested):
    value = {"state_dict": STATE, "epoch": 3, "lr": 0.5, "notes": [None, True]} if nested else STATE
    check(open_tensors(save(tmp_path / "x.ckpt", value)), STATE)


def test_a_pair_of_tensors_is_read_by_number(tmp_path):
    pair = (STATE["a.weight"], STATE["a.bias"])
    check(open_tensors(save_old(tmp_path / "stats.th", pair)), {"0": pair[0], "1": pair[1]})


def test_views_of_a_storage_are_read(tmp_path):
    path = save_zip(tmp_path / "x.pt", {"t": STATE["a.weight"].T})  # strides (1, 4)
    np.testing.assert_array_equal(open_tensors(path)["t"], STATE["a.weight"].T)


@pytest.mark.parametrize("save", [save_zip, save_old])
def test_a_part_of_a_storage_is_read_from_its_place(tmp_path, save):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    parts = {
        "rows": (View(base, 6, (2, 6), (6, 1)), base[1:3]),
        "steps": (View(base, 7, (3, 2), (6, 2)), base[1:, 1:5:2]),
        "turned": (View(base, 6, (6, 2), (1, 12)), base[1::2].T),
    }
    path = save(tmp_path / "x.pt", {name: view for name, (view, _) in parts.items()})
    check(open_tensors(path), {name: np.array(array) for name, (_, array) in parts.items()})


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("save", [save_zip, save_old])
def test_either_byte_order_is_read(tmp_path, save, order):
    state = {"a": STATE["a.weight"], "n": np.arange(3)}
    check(open_tensors(save(tmp_path / "x.pt", state, order=order)), state)


def test_a_component_s_weights_are_found_by_preference(tmp_path):
    """As from_pretrained prefers: safetensors, whole before shards, plain before a variant."""
    for name in ("m.bin.index.json", "m.bin", "m.fp16.safetensors", "m.safetensors.index.json"):
        (tmp_path / name).touch()
    assert find_weights(tmp_path, "m").name == "m.safetensors.index.json"
    (tmp_path / "m.safetensors").touch()
    assert find_weights(tmp_path, "m").name == "m.safetensors"
    for name in ("m.safetensors", "m.safetensors.index.json"):
        (tmp_path / name).unlink()
    assert find_weights(tmp_path, "m").name == "m.fp16.safetensors"
    (tmp_path / "m.fp16.safetensors").unlink()
    assert find_weights(tmp_path, "m").name == "m.bin"
    assert find_weights(tmp_path, "other", "m").name == "m.bin"
    with pytest.raises(UserError, match=r"neither n\.safetensors nor n\.bin"):
        find_weights(tmp_path, "n")


def test_files_are_joined_counted_and_of_one_dtype(tmp_path):
    one = open_tensors(save_zip(tmp_path / "a.pt", {"x.0": STATE["a.weight"], "x.1": STATE["b"]}))
    other = open_tensors(save_zip(tmp_path / "b.pt", {"x.0": STATE["a.bias"]}))
    both = joined({"": one, "b/": other})
    check(both, {"x.0": STATE["a.weight"], "x.1": STATE["b"], "b/x.0": STATE["a.bias"]})
    assert [file.name for file in both.files] == ["a.pt", "b.pt"]
    assert (both.count("x.{}"), both.count("b/x.{}"), both.count("y.{}")) == (2, 1, 0)
    # What holds all of float32, float16 and bfloat16; integers do not count.
    assert (one.dtype, other.dtype, both.dtype) == ("float32", "float16", "float32")
    state = {"n": STATE["input_resolution"], "b": STATE["b"]}
    assert open_tensors(save_zip(tmp_path / "c.pt", state)).dtype == "bfloat16"


def test_a_torchscript_archive_gives_parameters_and_buffers(tmp_path):
    mask = np.ones(3, np.float32)  # an attribute that is neither
    inner = {"p": STATE["a.weight"], "input_resolution": STATE["input_resolution"], "mask": mask}
    value = Module("__torch__ M", {"training": True, **inner, "sub": Module("__torch__ M", inner)})
    tensors = open_tensors(save_zip(tmp_path / "x.pt", value, {"__torch__.py": SOURCE}))
    state = {key: inner[key] for key in ("p", "input_resolution")}
    check(tensors, {**state, **{f"sub.{key}": array for key, array in state.items()}})


@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda evil: {**STATE, "evil": evil},
        lambda evil: {"state_dict": STATE, "hyper_parameters": evil},
        lambda evil: evil,
    ],
)
def test_a_payload_is_refused_and_does_nothing(tmp_path, save, wrap):
    target = tmp_path / "owned"
    refused(save(tmp_path / "x.pt", wrap(Payload(target))), "io.open")
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target))).close()  # it would have worked
    assert target.exists()


@pytest.mark.parametrize(
    "value",
    [
        Call("os system", ("touch owned",)),
        Call("builtins eval", ("1",)),
        Call("torch.jit load", ("x.pt",)),
        Call("collections OrderedDict", (((Call("os getpid"), 1),),)),
        Module("os Popen", {"a": 1}),
        Module("__torch__ M", ("state of __setstate__",)),
    ],
)
def test_other_calls_and_objects_are_refused(tmp_path, value):
    refused(save_zip(tmp_path / "x.pt", {**STATE, "x": value}), "use the weights as .safetensors")


def test_a_plain_pickle_of_a_payload_is_refused(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps({**STATE, "evil": Payload(tmp_path / "owned")}))
    refused(path, "not a file of torch.save")
    assert not (tmp_path / "owned").exists()


def rebuilt(size, offset, shape, strides):
    """A data.pkl of one tensor with these numbers, over a storage that has 12 float32."""
    writer = Writer()
    data = writer.pickle({"t": np.zeros(12, np.float32)})
    part = {key: writer._value(value) for key, value in (("n", 12), ("shape", (12,)))}
    assert data.count(part["n"] + b"tQ") == 1
    data = data.replace(part["n"] + b"tQ", writer._value(size) + b"tQ")
    old = writer._value(0) + part["shape"] + writer._value((1,))
    assert data.count(old) == 1
    return data.replace(old, b"".join(map(writer._value, (offset, shape, strides))))


@pytest.mark.parametrize(
    "numbers",
    [
        (12, 1, (12,), (1,)),
        (12, 0, (13,), (1,)),
        (12, 0, (2,), (12,)),
        (12, -1, (2,), (1,)),
        (12, 0, (2,), (-1,)),
        (12, 0, (3, 4), (4,)),
        (13, 0, (13,), (1,)),  # the storage in the file has 12
        (2**60, 0, (2**60,), (1,)),
        (12, 0, (2**40,), (0,)),
        (12, 0, (2**20, 2**20), (0, 0)),
        (12, 0, (True,), (1,)),
        (12, 0, (1,) * 40, (1,) * 40),
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(tmp_path, numbers):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", rebuilt(*numbers))
        archive.writestr("x/data/0", bytes(48))
    refused(path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}r\xff\xff\xff\xff.",  # a memo of four billion places
        b"\x80\x02X\xff\xff\xff\x7f.",  # a text of two gigabytes
        b"\x80\x02" + b"]" * 6000 + b".",
        b"\x80\x02" + b")" + b"\x85" * 4000 + b"}\x86.",  # tuples in tuples
        b"\x80\x02",
        b"",
        b"\x80\x02t.",
        b"\x80\x02}}}s.",
    ],
    ids=range(8),
)
def test_hostile_pickles_are_refused_soon(tmp_path, data, monkeypatch):
    monkeypatch.setattr(torch_pickle, "STEPS", 5000)  # the shape checks of tests are slow
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", data)
    refused(path)


def test_an_archive_of_other_things_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "x.pt", "data.pkl")
    (tmp_path / "y.pt").write_bytes(b"hello")
    refused(tmp_path / "y.pt", "not a file of torch.save")
    save_zip(tmp_path / "z.pt", {"a": 1})
    refused(tmp_path / "z.pt", "no tensors")


def test_compressed_tensors_are_refused_before_they_grow(tmp_path):
    path = save_zip(tmp_path / "x.pt", {"t": np.zeros(1000, np.float32)})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "y.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    refused(tmp_path / "y.pt", "compressed")


def test_every_cut_and_flip_is_read_or_refused(tmp_path):
    path = save_zip(tmp_path / "x.pt", STATE)
    whole = path.read_bytes()
    for at in range(0, len(whole), 37):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]):
            path.write_bytes(data)
            try:
                tensors = open_tensors(path)
                for key in tensors.shapes:
                    tensors[key]
            except UserError as error:
                assert str(path) in str(error)


def huge(path, storage, shape, strides, key="t"):
    """A file of 16 bytes of numbers whose headers claim a storage of so many."""
    writer = Writer()
    data = writer.pickle({key: np.zeros(4, np.float32)})
    old = [writer._value(value) for value in (4, 0, (4,), (1,))]
    new = [writer._value(value) for value in (storage, 0, shape, strides)]
    for before, after in ((old[0] + b"tQ", new[0] + b"tQ"), (b"".join(old[1:]), b"".join(new[1:]))):
        assert data.count(before) == 1
        data = data.replace(before, after)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data)
        archive.writestr("x/data/0", bytes(16))
    return path


def test_a_storage_is_not_believed_to_be_larger_than_the_file(tmp_path):
    """A repeated number would be expanded to as much memory as a header of 500 bytes claims."""
    refused(huge(tmp_path / "x.pt", 2**40, (2**25,), (0,)), "larger than the file")


def test_a_member_is_not_believed_to_be_larger_than_the_file(tmp_path):
    path = huge(tmp_path / "x.pt", 2**44, (2**44,), (1,))
    with zipfile.ZipFile(path, "a") as archive:
        info = archive.getinfo("x/data/0")
        info.file_size = info.compress_size = 2**46
        archive.writestr("x/version", "3\n")  # writes the directory anew
    refused(path, "larger than the file")


def test_an_old_storage_is_not_believed_to_be_larger_than_the_file(tmp_path):
    path = save_old(tmp_path / "x.pt", {"t": np.zeros(2**15 + 5, np.float32)})
    data = path.read_bytes()
    size, claim = 2**15 + 5, 2**44
    old, new = pickle.dumps(size, 2)[2:-1], pickle.dumps(claim, 2)[2:-1]
    assert data.count(old) == 2  # as the shape and as the storage's size
    data = data.replace(old, new).replace(size.to_bytes(8, "little"), claim.to_bytes(8, "little"))
    path.write_bytes(data)
    refused(path, "larger than the file")


def test_a_key_of_thousands_of_digits_is_refused(tmp_path):
    refused(save_zip(tmp_path / "x.pt", {**STATE, 10**6000: STATE["b"]}), "64 bits")
