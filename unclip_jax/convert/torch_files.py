"""Reads PyTorch checkpoints as NumPy arrays, one tensor at a time, without torch.

Reads safetensors, and the files of torch.save and torch.jit.save (.bin, .ckpt, .th, .pt, .pth),
including TorchScript archives such as OpenAI's CLIP. Nothing in a file is unpickled or executed.
Shards have an index, "*.index.json".
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unclip_jax.checkpoint.tensors import READABLE, opened
from unclip_jax.convert.torch_archive import open_archive
from unclip_jax.convert.torch_pickle import Refused, TensorRecord
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping

PICKLED = (".bin", ".ckpt", ".th", ".pt", ".pth")
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
REFETCH = "fetch it again"


class TensorFile:
    """The tensors of one component, in one or several files.

    Attributes:
        files: that it was read from.
        shapes: of every tensor, by key.
        dtypes: "float32", "float16" or "bfloat16" by key; other types have their format's name.
    """

    def __init__(
        self,
        files: Iterable[Path],
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, str],
        read: Callable[[str], np.ndarray],
    ):
        """Stores the tensors' shapes and dtypes, and the function that reads one of them."""
        self.files, self.shapes, self.dtypes = tuple(files), dict(shapes), dict(dtypes)
        self._read = read

    def __getitem__(self, key: str) -> np.ndarray:
        """Reads one tensor."""
        return self._read(key)

    @property
    def dtype(self) -> str:
        """The common dtype of all float tensors; float32 if they differ."""
        found = {self.dtypes[key] for key in self.dtypes if self.dtypes[key] in FLOATS.values()}
        return found.pop() if len(found) == 1 else "float32"

    def shape(self, key: str, rank: int) -> tuple[int, ...]:
        """Returns the shape of a required tensor of `rank` non-empty axes."""
        if key not in self.shapes:
            raise UserError(f"{self.files[0]} has no tensor {key}; is it the right file?")
        shape = self.shapes[key]
        if len(shape) != rank or 0 in shape:
            raise UserError(f"{self.files[0]}: {key} has shape {shape} instead of {rank} axes")
        return shape

    def count(self, pattern: str) -> int:
        """Returns the number of keys with 0, 1, … in place of {}."""
        number = 0
        while pattern.format(number) in self.shapes:
            number += 1
        return number

    def only(self, keep: Callable[[str], bool]) -> "TensorFile":
        """Returns the tensors whose key satisfies `keep`."""
        shapes = {key: shape for key, shape in self.shapes.items() if keep(key)}
        dtypes = {key: self.dtypes[key] for key in shapes}
        return TensorFile(self.files, shapes, dtypes, self._read)


def joined(parts: Mapping[str, TensorFile]) -> TensorFile:
    """Returns the tensors of several files as one, with a prefix for the keys of each."""
    place = {prefix + key: (part, key) for prefix, part in parts.items() for key in part.shapes}
    return TensorFile(
        [file for part in parts.values() for file in part.files],
        {name: part.shapes[key] for name, (part, key) in place.items()},
        {name: part.dtypes[key] for name, (part, key) in place.items()},
        lambda name: place[name][0][place[name][1]],
    )


def open_tensors(path: Path) -> TensorFile:
    """Opens a weights file, or the shards that an index file lists."""
    if not path.is_file():
        raise UserError(f"{path} is {'not a file' if path.exists() else 'missing'}")
    if ".index." in path.name and path.suffix == ".json":
        return _open_shards(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if path.suffix in PICKLED:
        return _open_pickled(path)
    raise UserError(f"{path} is not a weights file: its name does not end in .safetensors or .bin")


def find_weights(folder: Path, *stems: str) -> Path:
    """Returns a component's weights: safetensors before .bin, a single file before shards.

    Files of a variant ("STEM.fp16.safetensors") are used if there are no others.
    """
    for suffix in (".safetensors", ".bin"):
        for name in (f"{stem}{suffix}{index}" for stem in stems for index in ("", ".index.json")):
            if (folder / name).is_file():
                return folder / name
        patterns = [
            f"{stem}{end}" for stem in stems for end in (f".*{suffix}", f"{suffix}.index.*")
        ]
        variants = sorted({path for pattern in patterns for path in folder.glob(pattern)})
        variants = [path for path in variants if "-of-" not in path.name]
        if len(variants) == 1:
            return variants[0]
        if variants:
            names = ", ".join(path.name for path in variants)
            raise UserError(f"{folder} has several variants ({names}); keep one of them")
    raise UserError(f"{folder} has neither {stems[0]}.safetensors nor {stems[-1]}.bin")


def _open_shards(path: Path) -> TensorFile:
    place = read_mapping(path, remedy=REFETCH).get("weight_map")
    if not isinstance(place, dict) or not all(map(_is_plain_name, place.values())):
        raise UserError(f"{path}: its weight_map does not map keys to files next to it; {REFETCH}")
    shards = {name: open_tensors(path.with_name(name)) for name in sorted(set(place.values()))}
    absent = [key for key, name in place.items() if key not in shards[name].shapes]
    if absent:
        raise UserError(f"{path}: {place[absent[0]]} lacks {', '.join(absent)}")
    return TensorFile(
        [path, *(file for shard in shards.values() for file in shard.files)],
        {key: shards[name].shapes[key] for key, name in place.items()},
        {key: shards[name].dtypes[key] for key, name in place.items()},
        lambda key: shards[place[key]][key],
    )


def _is_plain_name(name: Any) -> bool:
    """Whether this is the name of a weights file in the same folder, and not an index."""
    is_name = isinstance(name, str) and Path(name).name == name and name.isprintable()
    return is_name and Path(name).suffix in (".safetensors", *PICKLED)


def _open_safetensors(path: Path) -> TensorFile:
    with opened(path) as file:
        slices = {key: file.get_slice(key) for key in file.keys()}
        shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
        kinds = {key: part.get_dtype() for key, part in slices.items()}

    def read(key: str) -> np.ndarray:
        if kinds[key] not in READABLE:
            raise UserError(f"{path}: {key} is stored as {kinds[key]}, which is not supported")
        with opened(path) as file:  # not kept open, so that nothing stays mapped
            return file.get_tensor(key)

    return TensorFile([path], shapes, {k: FLOATS.get(v, v) for k, v in kinds.items()}, read)


def _open_pickled(path: Path) -> TensorFile:
    try:
        state, read = open_archive(path)
    except Refused as error:
        raise _refusal(path, error) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if isinstance(state, tuple | list):  # ViT-L-14_stats.th is (mean, std)
        state = {str(i): tensor for i, tensor in enumerate(state)}
    pairs = state.items() if isinstance(state, Mapping) else ()
    tensors = {str(key): value for key, value in pairs if isinstance(value, TensorRecord)}
    if not tensors:
        raise UserError(f"{path} has no tensors; {REFETCH}")

    def read_key(key: str) -> np.ndarray:
        try:
            return read(tensors[key])
        except Refused as error:
            raise _refusal(path, error) from error

    return TensorFile(
        [path],
        {key: tensor.shape for key, tensor in tensors.items()},
        {key: tensor.storage.dtype.name for key, tensor in tensors.items()},
        read_key,
    )


def _refusal(path: Path, error: Refused) -> UserError:
    return UserError(
        f"{path}: refused, because it cannot be read safely: {error}; fetch it again, or use the "
        "weights as .safetensors"
    )
