"""Files as torch.save and torch.jit.save write them, made by hand: no torch is needed."""

import dataclasses
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}


@dataclasses.dataclass
class Call:
    """A call that unpickling would make."""

    function: str  # "module name"
    arguments: tuple = ()


@dataclasses.dataclass
class Module:
    """An object of a TorchScript class, whose state is a dict unless it is something else."""

    kind: str  # "module name"
    state: Any


@dataclasses.dataclass
class View:
    """A tensor that is a part of a storage; offset and strides count its numbers."""

    storage: np.ndarray
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Writer:
    """Writes one pickle of protocol 2, and keeps the storages that it refers to."""

    def __init__(self, *, old: bool = False):
        self.storages: list[np.ndarray] = []
        self.old = old

    def pickle(self, value: Any) -> bytes:
        return b"\x80\x02" + self._value(value) + b"."

    def _value(self, value: Any) -> bytes:
        match value:
            case np.ndarray():
                strides = tuple(step // value.itemsize for step in value.strides)
                return self._tensor(View(value, 0, value.shape, strides))
            case View():
                return self._tensor(value)
            case Call():
                return self._name(value.function) + self._value(value.arguments) + b"R"
            case Module():
                return self._name(value.kind) + b")\x81" + self._value(value.state) + b"b"
            case dict():
                items = (self._value(k) + self._value(v) for k, v in value.items())
                return b"}(" + b"".join(items) + b"u"
            case tuple():
                return b"(" + b"".join(map(self._value, value)) + b"t"
            case list():
                return b"](" + b"".join(map(self._value, value)) + b"e"
        return pickle.dumps(value, protocol=2)[2:-1]

    def _name(self, name: str) -> bytes:
        module, attribute = name.split(" ")
        return f"c{module}\n{attribute}\n".encode()

    def _tensor(self, view: View) -> bytes:
        array = view.storage
        self.storages.append(array)
        key = str(len(self.storages) - 1)
        reference = (
            b"(" + self._value("storage") + self._name(f"torch {STORAGES[array.dtype.name]}")
        )
        reference += self._value(key) + self._value("cpu") + self._value(array.size)
        reference += (b"N" if self.old else b"") + b"tQ"
        rest = [self._value(part) for part in (view.offset, view.shape, view.strides, False)]
        hooks = self._value(Call("collections OrderedDict"))
        head = self._name("torch._utils _rebuild_tensor_v2") + b"("
        return head + reference + b"".join(rest) + hooks + b"tR"


def save_zip(
    path: Path, value: Any, code: dict[str, str] | None = None, order: str | None = None
) -> Path:
    """Writes a zip archive; with `code` a TorchScript archive; `order` is "little" or "big"."""
    writer = Writer()
    data = writer.pickle(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data)
        for key, array in enumerate(writer.storages):
            archive.writestr(f"x/data/{key}", _ordered(array, order).tobytes("A"))
        if order is not None:
            archive.writestr("x/byteorder", order)
        if code is not None:
            archive.writestr("x/constants.pkl", b"\x80\x02).")
        for name, source in (code or {}).items():
            archive.writestr(f"x/code/{name}", source, zipfile.ZIP_DEFLATED)
        archive.writestr("x/version", "3\n")
    return path


def _ordered(array: np.ndarray, order: str | None) -> np.ndarray:
    return array if order is None else array.astype(array.dtype.newbyteorder(order))


def save_old(path: Path, value: Any, order: str = "little") -> Path:
    """Writes the format from before torch 1.6, as a machine of that byte order does."""
    writer = Writer(old=True)
    little = order == "little"
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    head = [0x1950A86A20F9469CFC6C, 1001, system]
    with open(path, "wb") as file:
        for part in head:
            file.write(pickle.dumps(part, protocol=2))
        file.write(writer.pickle(value))
        file.write(pickle.dumps([str(i) for i in range(len(writer.storages))], protocol=2))
        for array in writer.storages:
            array = array if little else _ordered(array, order)
            file.write(array.size.to_bytes(8, order) + array.tobytes("A"))
    return path


class Payload:
    """Unpickled by Python, this writes a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return open, (str(self.target), "w")
