"""PyTorch's files of all three kinds, the pickles in them, and the index of shards."""

import functools
import json
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.framework import Target, kept_folder
from tests.fuzz.hostile import damaged, hostile_json, hostile_names
from tests.torch_files import Call, Module, Writer, save_old, save_zip

STATE = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a.bias": np.ones(3, np.float16),
    "input_resolution": np.array(224, np.int64),
}
SOURCE = 'class M(Module):\n  __parameters__ = ["a", ]\n  __buffers__ = ["b", ]\n'
MODULE = Module("__torch__ M", {"training": True, "a": STATE["a.weight"]})
OPCODES = [
    *(b"(", b")", b".", b"0", b"1", b"2", b"N", b"}", b"]", b"R", b"b", b"t", b"u", b"s", b"a"),
    *(b"Q", b"e", b"\x81", b"\x85", b"\x86", b"\x87", b"\x88", b"\x93", b"\x94", b"d", b"l", b"o"),
    *(
        b"cos\nsystem\n",
        b"c__torch__\nM\n",
        b"ctorch\nFloatStorage\n",
        b"ccollections\nOrderedDict\n",
    ),
    *(
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"X\x01\x00\x00\x00x",
        b"K\x01",
        b"J\xff\xff\xff\xff",
    ),
    *(b"q\x00", b"h\x00", b"r\xff\xff\xff\xff", b"\x8a\x04\xff\xff\xff\x7f", b"G" + b"\x7f" * 8),
    *(
        b"\x8d" + b"\xff" * 8,
        b"B\xff\xff\xff\x7f",
        b"I99999\n",
        b"L" + b"9" * 5000 + b"L\n",
        b"P1\n",
    ),
]


@functools.cache
def sample(kind: str) -> bytes:
    folder = kept_folder("torch")
    path = folder / kind
    match kind:
        case "zip":
            save_zip(path, {"state_dict": STATE, "epoch": 1})
        case "old":
            save_old(path, {"state_dict": STATE, "epoch": 1})
        case "script":
            value = Module("__torch__ M", {**MODULE.state, "sub": MODULE, "n": 7})
            save_zip(path, value, {"__torch__.py": SOURCE})
        case "pickle":
            call = Call("torch._utils _rebuild_parameter", (STATE["a.bias"], True, {}))
            return Writer().pickle({**STATE, "p": call, "m": MODULE})
    return path.read_bytes()


def read(path: Path) -> None:
    from unclip_jax.convert.torch_files import open_tensors

    found = open_tensors(path)
    for key in found.shapes:
        found[key]


def feed_file(case: bytes, folder: Path) -> None:
    (folder / "x.pt").write_bytes(case)
    read(folder / "x.pt")


def feed_pickle(case: bytes, folder: Path) -> None:
    with zipfile.ZipFile(folder / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", case)
        for key in range(4):
            archive.writestr(f"x/data/{key}", bytes(48))
    read(folder / "x.pt")


def feed_index(case: bytes, folder: Path) -> None:
    save_zip(folder / "x.bin", STATE)
    (folder / "x.bin.index.json").write_bytes(case)
    read(folder / "x.bin.index.json")


def archives() -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(sample("zip")), damaged(sample("script")))


def pickles() -> st.SearchStrategy[bytes]:
    made = st.lists(st.sampled_from(OPCODES), max_size=20).map(
        lambda parts: b"\x80\x02" + b"".join(parts)
    )
    whole = sample("pickle")
    spliced = st.builds(
        lambda at, part: whole[:at] + part[2:] + whole[at:], st.integers(0, len(whole)), made
    )
    return st.one_of(damaged(whole), made, spliced)


def indexes() -> st.SearchStrategy[bytes]:
    place = {"metadata": {}, "weight_map": dict.fromkeys(STATE, "x.bin")}
    named = hostile_names().map(lambda name: json.dumps({"weight_map": {"a.bias": name}}).encode())
    return st.one_of(hostile_json(place), named)


TARGETS = [
    Target("torch: zip and TorchScript", st.deferred(archives), feed_file, ms=1.5),
    Target("torch: before 1.6", st.deferred(lambda: damaged(sample("old"))), feed_file),
    Target("torch: data.pkl", st.deferred(pickles), feed_pickle, ms=1.5),
    Target("torch: index of shards", st.deferred(indexes), feed_index, ms=1.5),
]
