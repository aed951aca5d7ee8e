"""Reads PyTorch checkpoints a tensor at a time, as NumPy arrays; knows nothing of models.

Takes safetensors, and the files of torch.save and torch.jit.save (.bin, .ckpt, .th, .pt, .pth),
TorchScript archives included, as OpenAI publishes CLIP. Needs no torch, and neither unpickles nor
executes anything in a file. Shards come with an index, "*.index.json".
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from unclip_jax.checkpoint.tensors import READABLE
from unclip_jax.convert.torch_archive import open_archive
from unclip_jax.convert.torch_pickle import Refused, TensorRecord
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping

PICKLED = (".bin", ".ckpt", ".th", ".pt", ".pth")
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
REFETCH = "fetch it again"


class TensorFile:
    """The tensors of one component, perhaps over several files.

    Attributes:
        files: what it was read from.
        shapes: of every tensor, by key.
        dtypes: "float32", "float16" or "bfloat16" by key; another type keeps its own name.
    """

    def __init__(
        self,
        files: Iterable[Path],
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, str],
        read: Callable[[str], np.ndarray],
    ):
        """Keeps what is known of the tensors, and the function that reads one of them."""
        self.files, self.shapes, self.dtypes = tuple(files), dict(shapes), dict(dtypes)
        self._read = read

    def __getitem__(self, key: str) -> np.ndarray:
        """Reads one tensor."""
        return self._read(key)

    @property
    def dtype(self) -> str:
        """The dtype that holds every tensor without loss; float32 where they differ."""
        found = {self.dtypes[key] for key in self.dtypes if self.dtypes[key] in FLOATS.values()}
        return found.pop() if len(found) == 1 else "float32"

    def shape(self, key: str, rank: int) -> tuple[int, ...]:
        """Returns the shape of a tensor that must be there, with `rank` axes of some length."""
        if key not in self.shapes:
            raise UserError(f"{self.files[0]}: it has no {key}; is it what its name says?")
        shape = self.shapes[key]
        if len(shape) != rank or 0 in shape:
            raise UserError(f"{self.files[0]}: {key} has shape {shape} instead of {rank} axes")
        return shape

    def count(self, pattern: str) -> int:
        """Returns how many numbers, from 0 on, can stand for {} in the key."""
        number = 0
        while pattern.format(number) in self.shapes:
            number += 1
        return number

    def only(self, keep: Callable[[str], bool]) -> "TensorFile":
        """Returns the tensors whose key passes."""
        shapes = {key: shape for key, shape in self.shapes.items() if keep(key)}
        dtypes = {key: self.dtypes[key] for key in shapes}
        return TensorFile(self.files, shapes, dtypes, self._read)


def joined(parts: Mapping[str, TensorFile]) -> TensorFile:
    """Returns the tensors of several files as one; a part's name goes before its keys."""
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
        raise UserError(f"{path} is missing")
    if ".index." in path.name and path.suffix == ".json":
        return _open_shards(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if path.suffix in PICKLED:
        return _open_pickled(path)
    raise UserError(f"{path} is no weights file: it ends neither in .safetensors nor {PICKLED[0]}")


def find_weights(folder: Path, *stems: str) -> Path:
    """Finds a component's weights in its folder: safetensors before .bin, whole before shards.

    Files of a variant ("STEM.fp16.safetensors") are taken where no plain one is.
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
            raise UserError(f"{folder} holds several variants ({names}); keep one of them")
    raise UserError(f"{folder} holds no {stems[0]}.safetensors and no {stems[-1]}.bin")


def _open_shards(path: Path) -> TensorFile:
    place = read_mapping(path, remedy=REFETCH).get("weight_map")
    if not isinstance(place, dict) or not all(map(_is_plain_name, place.values())):
        raise UserError(f"{path}: it has no weight_map of keys to files beside it; {REFETCH}")
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
    """Whether this names a weights file of the same folder, and no other index."""
    is_name = isinstance(name, str) and Path(name).name == name and name.isprintable()
    return is_name and Path(name).suffix in (".safetensors", *PICKLED)


def _open_safetensors(path: Path) -> TensorFile:
    try:
        with safe_open(path, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}
            shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            kinds = {key: part.get_dtype() for key, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error

    def read(key: str) -> np.ndarray:
        if kinds[key] not in READABLE:
            raise UserError(f"{path}: {key} is stored as {kinds[key]}, which is not supported")
        with safe_open(path, framework="np") as file:  # opened anew: nothing stays mapped
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
        raise UserError(f"{path}: it holds no tensors; {REFETCH}")

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
        f"{path}: not read, for its tensors cannot be told from the rest: {error}; fetch it again, "
        "or take the weights as .safetensors"
    )
