"""Interprets the pickles in PyTorch's files without unpickling: nothing in them is executed.

A pickle is a program for a small stack machine; Python's implementation imports and calls whatever
the program names. This one supports the operations that PyTorch's writers emit and builds plain
data: dicts, lists, tuples, numbers and strings, `TensorRecord` for a tensor, `Node` for a
TorchScript module, `Name` for any other global. Only REBUILDS can be called, which are functions of
this file; any other call raises `Refused`.
"""

import dataclasses
import math
import pickletools
import warnings
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

STEPS = 300_000  # operations of one pickle; a published U-Net has 100,000
LONGEST = 32 << 20  # bytes of one pickle
AXES = 16
EXPANDED = 1 << 24  # elements of a tensor that is larger than its storage (broadcast)

STORAGES = {
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Refused(Exception):
    """The pickle is damaged or has something other than tensors; the message says what."""


class Name(NamedTuple):
    """A Python global named by a pickle; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Storage(NamedTuple):
    """A storage in the file, by its key."""

    key: str
    dtype: np.dtype
    size: int


class TensorRecord(NamedTuple):
    """A view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """Number of elements of the storage from the view's first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))


@dataclasses.dataclass
class Node:
    """An object of a TorchScript class."""

    kind: Name
    attributes: Mapping[Any, Any] = dataclasses.field(default_factory=dict)


class _Mark:
    """Marks the beginning of a group of values on the stack."""


class _Bounded:
    """A file that limits the number of bytes read by one pickle."""

    def __init__(self, file: BufferedIOBase):
        self.file, self.left = file, LONGEST

    def read(self, n: int) -> bytes:
        """Reads n bytes, within the limit."""
        if not 0 <= n <= self.left:
            raise Refused("a pickle that is too long or damaged")
        data = self.file.read(n)
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        """Reads a line, within the limit."""
        data = self.file.readline(self.left)
        self.left -= len(data)
        return data


def read_pickle(file: BufferedIOBase) -> Any:
    """Reads one pickle at the file's position, which is then at the end of the pickle.

    Raises:
        Refused: it is damaged, or has more than data, tensors and TorchScript modules.
    """
    stack, memo = [], {}
    try:
        with warnings.catch_warnings():  # of pickletools, about deprecated escapes
            warnings.simplefilter("ignore")
            for step, (operation, argument, _) in enumerate(pickletools.genops(_Bounded(file))):
                if step > STEPS:
                    raise Refused(f"a pickle of more than {STEPS:,} operations")
                if operation.name == "STOP":
                    return stack.pop()
                _do(operation.name, argument, stack, memo)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Refused(f"a damaged pickle ({type(error).__name__})") from error
    raise Refused("a pickle without an end")


def _do(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Executes one operation; a malformed stack is a LookupError or TypeError."""
    if name in ("PROTO", "FRAME"):
        return
    if name in LITERALS:
        stack.append(LITERALS[name](argument))
    elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in GROUPS:
        GROUPS[name](stack, _group(stack))
    elif name in ENDS:
        ENDS[name](stack)
    else:
        raise Refused(f"the operation {name}, which no tensor needs")


def _group(stack: list[Any]) -> list[Any]:
    """Pops everything down to the last mark, and the mark."""
    start = len(stack) - 1
    while not isinstance(stack[start], _Mark):
        start -= 1
        if start < 0:
            raise IndexError
    group = stack[start + 1 :]
    del stack[start:]
    return group


def _text(argument: Any) -> str:
    return argument if isinstance(argument, str) else argument.decode("latin-1")


def _name(argument: str) -> Name:
    module, _, name = argument.partition(" ")  # as pickletools gives it
    return Name(module, name)


LITERALS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"), lambda x: x),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), lambda x: x),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _text),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), lambda x: x),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "MARK": lambda _: _Mark(),
    "GLOBAL": _name,
}
"""Operations that push one value."""


def _set(target: Any, key: Any, value: Any) -> None:
    if isinstance(key, _Mark | bool) or not isinstance(key, str | int):
        raise Refused("a dict whose keys are not strings")
    if isinstance(key, int) and not -(2**63) <= key < 2**63:  # Python refuses to print long ones
        raise Refused("a dict with a key of more than 64 bits")
    _expect(target, dict)[key] = value


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _set_items(stack: list[Any], group: list[Any]) -> None:
    for key, value in zip(group[::2], group[1::2], strict=True):
        _set(stack[-1], key, value)


def _make_dict(stack: list[Any], group: list[Any]) -> None:
    stack.append({})
    _set_items(stack, group)


GROUPS: dict[str, Callable[[list[Any], list[Any]], None]] = {
    "TUPLE": lambda stack, group: stack.append(tuple(group)),
    "LIST": lambda stack, group: stack.append(group),
    "DICT": _make_dict,
    "APPENDS": lambda stack, group: _expect(stack[-1], list).extend(group),
    "SETITEMS": _set_items,
    "POP_MARK": lambda stack, group: None,
}
"""Operations on the values above the last mark."""


def _tuple(size: int) -> Callable[[list[Any]], None]:
    def make(stack: list[Any]) -> None:
        stack.append(tuple([stack.pop() for _ in range(size)][::-1]))

    return make


def _append(stack: list[Any]) -> None:
    value = stack.pop()
    _expect(stack[-1], list).append(value)


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _set(stack[-1], key, value)


def _stack_name(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(Name(_expect(module, str), _expect(name, str)))


def _persistent(stack: list[Any]) -> None:
    """Pushes a storage for ("storage", class, key, device, elements), the only kind supported."""
    kind, storage, key, _, size, *view = _expect(stack.pop(), tuple)
    name = _expect(storage, Name)
    if kind != "storage" or view not in ([], [None]):
        raise Refused("a reference to something other than tensors")
    if name.module not in ("torch", "torch.cuda") or name.name not in STORAGES:
        raise Refused(f"tensors of the type {name}, which is not supported")
    dtype = np.dtype(STORAGES[name.name])
    stack.append(Storage(_expect(key, str), dtype, _count(size)))


def _new(stack: list[Any]) -> None:
    arguments, kind = stack.pop(), _expect(stack.pop(), Name)
    if arguments != () or kind.module.split(".")[0] != "__torch__":
        raise Refused(f"an object of {kind}, which is not a tensor")
    stack.append(Node(kind))


def _build(stack: list[Any]) -> None:
    state, target = stack.pop(), stack[-1]
    if isinstance(target, Node):
        target.attributes = _expect(state, dict)
    elif type(target) is not dict:  # an OrderedDict's attributes (a state dict's _metadata)
        raise Refused("the state of an object that is not a module")


def _call(stack: list[Any]) -> None:
    arguments, function = _expect(stack.pop(), tuple), _expect(stack.pop(), Name)
    stack.append(_rebuild(function, arguments))


def _rebuild(function: Name, arguments: tuple[Any, ...]) -> Any:
    if str(function) not in REBUILDS:
        raise Refused(f"a call of {function}, which no tensor needs")
    return REBUILDS[str(function)](*arguments)


ENDS: dict[str, Callable[[list[Any]], Any]] = {
    **{f"TUPLE{size}": _tuple(size) for size in (1, 2, 3)},
    "APPEND": _append,
    "SETITEM": _set_item,
    "STACK_GLOBAL": _stack_name,
    "BINPERSID": _persistent,
    "NEWOBJ": _new,
    "BUILD": _build,
    "REDUCE": _call,
    "POP": lambda stack: stack.pop(),
    "DUP": lambda stack: stack.append(stack[-1]),
}
"""Operations on the topmost values."""


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise Refused("a tensor with an impossible size")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
    sizes, steps = (tuple(map(_count, _expect(part, tuple))) for part in (shape, strides))
    if len(sizes) != len(steps) or len(sizes) > AXES:
        raise Refused("a tensor whose sizes and strides do not match")
    record = TensorRecord(_expect(storage, Storage), _count(offset), sizes, steps)
    if record.offset + record.span > record.storage.size:
        raise Refused("a tensor that exceeds its storage")
    if math.prod(sizes) > max(record.storage.size, EXPANDED):
        raise Refused("a tensor that is far larger than its storage")
    return record


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for pair in _expect(pairs, list | tuple):
        key, value = pair
        _set(made, key, value)
    return made


def _first(value: Any, *_: Any) -> Any:
    return value


REBUILDS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "torch.Size": lambda sizes=(): tuple(_expect(sizes, list | tuple)),
    "torch.device": lambda *_: None,
}
"""Functions that a pickle may call, and their replacements."""
