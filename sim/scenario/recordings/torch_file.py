"""The tensors of a file of `torch.save`, as NumPy arrays, without PyTorch and without running anything of the file.

Model
-----
The file is a ZIP archive: `data.pkl` is a pickle of dicts, lists and scalars with tensors, and `data/KEY` the bytes of
each storage. The pickle is interpreted here, opcode by opcode, over the few opcodes that `torch.save` writes for such
data. The only callables are names: a tensor is a shape, strides and an offset in a storage. Anything else is refused.

References
----------
PyTorch `torch/serialization.py` (`_save`, zip format), `torch/_utils.py` (`_rebuild_tensor_v2`).
"""

import pickletools
import warnings
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from sim.scenario.recordings.numpy_file import UNREADABLE, check_unpacked, open_archive
from sim.scenario.recordings.recording import refusal

__all__ = ["torch_file_data"]

_MAX_PICKLE_BYTES: Final = 1 << 24
_DTYPES: Final = {
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
}
"""Storage of PyTorch -> type of NumPy."""
_HINT: Final = "Write its tensors as NPZ: numpy.savez('routing.npz', logical_count=data['logical_count'].numpy())."


class _Name(NamedTuple):
    """A callable of the pickle, by its name."""

    name: str


class _Storage(NamedTuple):
    """A storage, by the name of its member in the archive."""

    dtype: str
    member: str


class _Tensor(NamedTuple):
    """A tensor that has not been read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK: Final = object()


def torch_file_data(path: Path, content: bytes) -> Any:  # noqa: ANN401  # dicts, lists, scalars and arrays
    """Return the data of a file of `torch.save`, tensors as arrays.

    Raises
    ------
    InvalidValueError
        The file is damaged, holds other objects than tensors, or unpacks to too much.
    """
    try:
        archive = open_archive(path, content)
        (member,) = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if archive.getinfo(member).file_size > _MAX_PICKLE_BYTES:
            raise refusal(path, "have a data.pkl of at most 16 MiB", "a larger one", _HINT)
        with warnings.catch_warnings(action="ignore"):  # on escapes in damaged names
            data = _Machine(member.rpartition("/")[0]).interpret(archive.read(member))
        tensors = list(_tensors_of(data))
        check_unpacked(path, sum(prod(tensor.shape) * np.dtype(tensor.storage.dtype).itemsize for tensor in tensors))
        sizes = {tensor.storage: archive.getinfo(tensor.storage.member).file_size for tensor in tensors}
        check_unpacked(path, sum(sizes.values()))
        storages = {storage: np.frombuffer(archive.read(storage.member), storage.dtype) for storage in sizes}
        return _with_arrays(data, storages)
    except InvalidValueError:
        raise
    except (*UNREADABLE, AttributeError, zipfile.LargeZipFile):
        raise refusal(path, "be a file of torch.save with tensors of numbers", "something else", _HINT) from None


# ---- private -----------------------------------------------------------------------------------------------------


class _Machine:
    """The stack and the memo of a pickle that is interpreted, with a method for each kind of opcode."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def interpret(self, pickled: bytes) -> Any:  # noqa: ANN401  # dicts, lists, scalars and tensors
        """Return what a pickle describes, with tensors as `_Tensor`."""
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _SCALARS:
                self._stack.append(argument)
            elif opcode.name not in _IGNORED:
                getattr(self, _METHODS[opcode.name])(argument)
        raise ValueError("no end")

    def put(self, key: int) -> None:
        """Remember the top of the stack."""
        self._memo[key] = self._stack[-1]

    def get(self, key: int) -> None:
        """Push what was remembered."""
        self._stack.append(self._memo[key])

    def name(self, name: str) -> None:
        """Push a callable by its name."""
        self._stack.append(_Name(name))

    def make_tuple(self, _: object) -> None:
        """Replace the items down to the mark by their tuple."""
        self._stack.append(tuple(self._popped_to_mark()))

    def make_tuple_1(self, _: object) -> None:
        """Replace the top item by its tuple."""
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def make_tuple_2(self, _: object) -> None:
        """Replace the top two items by their tuple."""
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def make_tuple_3(self, _: object) -> None:
        """Replace the top three items by their tuple."""
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def append(self, _: object) -> None:
        """Append the top item to the list below it."""
        item = self._stack.pop()
        self._stack[-1].append(item)

    def extend(self, _: object) -> None:
        """Append the items down to the mark to the list below it."""
        items = self._popped_to_mark()
        self._stack[-1].extend(items)

    def set_item(self, _: object) -> None:
        """Put the top two items, a key and its value, into the dict below them."""
        value, key = self._stack.pop(), self._stack.pop()
        self._stack[-1][key] = value

    def set_items(self, _: object) -> None:
        """Put the keys and values down to the mark into the dict below it."""
        items = self._popped_to_mark()
        self._stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def storage(self, _: object) -> None:
        """Replace the top item, the key of a storage, by the storage."""
        _, storage_type, key, *_ = self._stack.pop()
        dtype = _DTYPES[storage_type.name.split()[-1]]
        self._stack.append(_Storage(dtype, f"{self._folder}/data/{key}".lstrip("/")))

    def call(self, _: object) -> None:
        """Replace the top two items, a callable and its arguments, by what the callable makes."""
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(_called(function, arguments))

    def _popped_to_mark(self) -> list[Any]:
        at = max(i for i, item in enumerate(self._stack) if item is _MARK)
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items


_IGNORED: Final = frozenset({"PROTO", "FRAME"})
_SCALARS: Final = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"})
_CONSTANTS: Final[Mapping[str, Callable[[], object]]] = {
    "MARK": lambda: _MARK,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_METHODS: Final = {
    "BINPUT": "put",
    "LONG_BINPUT": "put",
    "BINGET": "get",
    "LONG_BINGET": "get",
    "GLOBAL": "name",
    "TUPLE": "make_tuple",
    "TUPLE1": "make_tuple_1",
    "TUPLE2": "make_tuple_2",
    "TUPLE3": "make_tuple_3",
    "APPEND": "append",
    "APPENDS": "extend",
    "SETITEM": "set_item",
    "SETITEMS": "set_items",
    "BINPERSID": "storage",
    "REDUCE": "call",
}
"""Opcode of a pickle -> method of `_Machine`."""


def _called(function: _Name, arguments: tuple[Any, ...]) -> object:
    """Return what a callable of the pickle makes: a tensor, or an empty dict of its hooks."""
    if function.name == "collections OrderedDict" and not arguments:
        return {}
    if function.name == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides, *_ = arguments
        numbers = (offset, *shape, *strides)
        is_whole = all(isinstance(number, int) and number >= 0 for number in numbers)
        if isinstance(storage, _Storage) and is_whole and len(shape) == len(strides) < 8:
            return _Tensor(storage, offset, tuple(shape), tuple(strides))
    raise ValueError(function)


def _tensors_of(data: object, depth: int = 0) -> Any:  # noqa: ANN401  # an iterator of tensors
    """Yield the tensors of nested dicts, lists and tuples."""
    if depth > 8:
        raise ValueError("too deep")
    if isinstance(data, _Tensor):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _tensors_of(value, depth + 1)
    elif type(data) in {list, tuple}:
        for value in data:  # type: ignore[attr-defined]  # a list or a tuple
            yield from _tensors_of(value, depth + 1)


def _with_arrays(data: Any, storages: dict[_Storage, NDArray[Any]]) -> Any:  # noqa: ANN401  # of any type
    """Return nested data whose tensors are arrays."""
    if isinstance(data, _Tensor):
        values, last = storages[data.storage], data.offset
        if 0 in data.shape:
            return np.zeros(data.shape, values.dtype)
        last += sum((size - 1) * stride for size, stride in zip(data.shape, data.strides, strict=True))
        if last >= values.size:
            raise ValueError("a tensor beyond its storage")
        strides = [stride * values.itemsize for stride in data.strides]
        return np.lib.stride_tricks.as_strided(values[data.offset :], data.shape, strides, writeable=False)
    if isinstance(data, dict):
        return {key: _with_arrays(value, storages) for key, value in data.items()}
    if type(data) in {list, tuple}:
        return [_with_arrays(value, storages) for value in data]
    return data
