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

    def _tensor(self, array: np.ndarray) -> bytes:
        self.storages.append(array)
        key = str(len(self.storages) - 1)
        reference = (
            b"(" + self._value("storage") + self._name(f"torch {STORAGES[array.dtype.name]}")
        )
        reference += self._value(key) + self._value("cpu") + self._value(array.size)
        reference += (b"N" if self.old else b"") + b"tQ"
        strides = tuple(step // array.itemsize for step in array.strides)
        rest = [self._value(part) for part in (0, array.shape, strides, False)]
        hooks = self._value(Call("collections OrderedDict"))
        head = self._name("torch._utils _rebuild_tensor_v2") + b"("
        return head + reference + b"".join(rest) + hooks + b"tR"


def save_zip(path: Path, value: Any, code: dict[str, str] | None = None) -> Path:
    """Writes a zip archive; with `code` a TorchScript archive."""
    writer = Writer()
    data = writer.pickle(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data)
        for key, array in enumerate(writer.storages):
            archive.writestr(f"x/data/{key}", array.tobytes("A"))
        if code is not None:
            archive.writestr("x/constants.pkl", b"\x80\x02).")
        for name, source in (code or {}).items():
            archive.writestr(f"x/code/{name}", source, zipfile.ZIP_DEFLATED)
        archive.writestr("x/version", "3\n")
    return path


def save_old(path: Path, value: Any) -> Path:
    """Writes the format from before torch 1.6."""
    writer = Writer(old=True)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = [0x1950A86A20F9469CFC6C, 1001, system]
    with open(path, "wb") as file:
        for part in head:
            file.write(pickle.dumps(part, protocol=2))
        file.write(writer.pickle(value))
        file.write(pickle.dumps([str(i) for i in range(len(writer.storages))], protocol=2))
        for array in writer.storages:
            file.write(array.size.to_bytes(8, "little") + array.tobytes("A"))
    return path


class Payload:
    """Unpickled by Python, this writes a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return open, (str(self.target), "w")
