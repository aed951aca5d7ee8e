"""Bringing other people's sets into our form: webdataset tars, image+txt folders, tfds sets.

A reader yields Items; `ingest` checks every picture once, leaves out what is broken or has no
caption, and writes the rest as array_record with the pictures' own bytes. Pickled members are never
opened. No tfds code is downloaded or run: a tfds set must be prepared, as array_record.
"""

import dataclasses
import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from unclip_jax.core.errors import UserError
from unclip_jax.data import builder, images
from unclip_jax.data.prepare import refuse_existing

IMAGE_ENDS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_CAPTION_KEYS = ("captions", "caption", "text", "sentences", "title", "txt")


@dataclasses.dataclass(frozen=True)
class Item:
    """One picture as found: its bytes, captions, and a name for it."""

    key: str
    image: bytes
    captions: tuple[str, ...]
    concept: str = ""


Reader = Callable[[], Iterator[Item]]


def ingest(
    source: str,
    out: Path,
    *,
    test_share: float = 0.02,
    licence: str = "unknown",
    overwrite: bool = False,
    report: Callable[[int], None] | None = None,
) -> dict:
    """Reads `source` and writes it into `out`; returns what was kept and what was left out.

    Args:
        source: a tar, a folder of tars or of pictures with .txt beside them, a prepared tfds
            folder, or "tfds:NAME", "tfds:NAME:SPLIT".
        test_share: share held out as split "test", by hash of the key; 0 holds nothing out.
        licence: what the set may be used for, kept in its metadata.
        report: called with the number of items looked at.
    """
    refuse_existing(out, overwrite)
    reader = open_reader(source)
    counts, keys = _check(reader, report)
    if not keys:
        left = ", ".join(f"{n} {why}" for why, n in sorted(counts.items())) or "nothing at all"
        raise UserError(f"no usable captioned picture in {source}: {left}")
    splits: dict[str, frozenset[str]] = {
        "train": frozenset(k for k in keys if _share(k) >= test_share)
    }
    splits["test"] = frozenset(keys) - splits["train"]
    makers = {s: _records(reader, wanted) for s, wanted in splits.items() if wanted}
    credit = {"part": "all", "licence": licence, "credit": source, "url": ""}
    builder.write(
        out,
        makers,
        about=f"Captioned pictures from {source}.",
        licences=[credit],
        encoding=None,
        overwrite=overwrite,
    )
    sizes = {s: len(wanted) for s, wanted in splits.items() if wanted}
    return {"folder": str(out), "images": sizes, "left_out": dict(sorted(counts.items()))}


def open_reader(source: str) -> Reader:
    """Recognises what `source` is."""
    if source.startswith("tfds:"):
        name, _, split = source[len("tfds:") :].partition(":")
        return lambda: read_tfds(name, split)
    path = Path(source).expanduser()
    if path.is_file() and path.name.endswith((".tar", ".tar.gz", ".tgz")):
        return lambda: read_tar(path)
    if not path.is_dir():
        raise UserError(f"{source} is no tar, no folder and no tfds:NAME; check the path")
    if builder.find(path) is not None:
        return lambda: read_tfds(str(builder.find(path)), "")
    tars = sorted(path.glob("*.tar"))
    if tars:
        return lambda: (item for tar in tars for item in read_tar(tar))
    return lambda: read_folder(path)


def read_folder(folder: Path) -> Iterator[Item]:
    """Yields each picture below `folder` with the lines of NAME.txt as captions."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_ENDS or not path.is_file():
            continue
        beside = path.with_suffix(".txt")
        text = beside.read_bytes() if beside.exists() else b""
        key = path.relative_to(folder).as_posix()
        yield Item(key, path.read_bytes(), _lines(text))


def read_tar(path: Path) -> Iterator[Item]:
    """Yields the samples of a webdataset tar: members that share the name up to the first dot."""
    try:
        with tarfile.open(path) as archive:
            name, members = None, {}
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, end = base.partition(".")
                sample = f"{folder}/{stem}" if folder else stem
                if sample != name:
                    yield from _sample(path, name, members)
                    name, members = sample, {}
                end = f".{end.lower()}"
                if end.endswith((*IMAGE_ENDS, ".txt", ".json", ".caption")):
                    members[end] = archive.extractfile(member).read()
            yield from _sample(path, name, members)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def read_tfds(name: str, split: str) -> Iterator[Item]:
    """Yields a prepared tfds set: its image feature with its texts, or its class names."""
    from tensorflow_datasets import builder as make_builder
    from tensorflow_datasets import builder_from_directory, decode, features

    try:
        build = builder_from_directory(name) if Path(name).is_dir() else make_builder(name)
        build_features, splits = dict(build.info.features.items()), list(build.info.splits)
    except Exception as error:  # tfds raises its own and its registry's kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot open tfds set {name}: {reason}") from error
    pictures = [k for k, f in build_features.items() if isinstance(f, features.Image)]
    if not pictures or not splits:
        raise UserError(f"tfds set {name} has no image feature or no prepared split")
    if split and split not in splits:
        raise UserError(f"tfds set {name} has no split {split!r}; it has {', '.join(splits)}")
    label = next((k for k, f in build_features.items() if isinstance(f, features.ClassLabel)), None)
    for part in [split] if split else splits:
        try:
            data = build.as_data_source(split=part, decoders={pictures[0]: decode.SkipDecoding()})
        except (NotImplementedError, ValueError) as error:
            raise UserError(f"tfds set {name} is not array_record: prepare it so") from error
        for index in range(len(data)):
            record = data[index]
            names = build_features[label].names if label else None
            concept = names[int(record[label])].replace("_", " ") if names else ""
            captions = _texts(record) or ((concept,) if concept else ())
            yield Item(f"{part}/{index}", bytes(record[pictures[0]]), captions, concept)


def _texts(record: dict) -> tuple[str, ...]:
    """Finds captions in a record: under a usual name, as text, list of texts, or nested."""
    for key in _CAPTION_KEYS:
        if key not in record:
            continue
        value = record[key]
        if isinstance(value, dict):
            return _texts(value)
        many = [value] if isinstance(value, str | bytes) else list(value)
        return tuple(filter(None, (builder.text(v).strip() for v in many)))
    return ()


def _sample(path: Path, name: str | None, members: dict[str, bytes]) -> Iterator[Item]:
    picture = next((members[e] for e in members if e.endswith(IMAGE_ENDS)), None)
    if name is None or picture is None:
        return
    captions = tuple(c for e in (".txt", ".caption") for c in _lines(members.get(e, b"")))
    if not captions and ".json" in members:
        try:
            found = json.loads(members[".json"])
        except ValueError:
            found = {}
        captions = _texts(found) if isinstance(found, dict) else ()
    yield Item(f"{path.name}/{name}", picture, captions)


def _check(reader: Reader, report: Callable[[int], None] | None) -> tuple[Counter, list[str]]:
    """Looks at every item once; returns how many were left out and why, and the keys to keep."""
    counts, keys = Counter(), {}
    for seen, item in enumerate(reader(), start=1):
        if report is not None:
            report(seen)
        if item.key in keys:
            counts["duplicate keys"] += 1
        elif not item.captions:
            counts["without caption"] += 1
        else:
            try:
                images.decode(item.image)
                keys[item.key] = None
            except UserError:
                counts["broken pictures"] += 1
    return counts, list(keys)


def _records(reader: Reader, wanted: frozenset[str]) -> Callable[[], Iterator[builder.Record]]:
    def make() -> Iterator[builder.Record]:
        left = set(wanted)
        for item in reader():
            if item.key in left:
                left.discard(item.key)
                texts = {"concept": item.concept or item.captions[0], "style": "", "category": ""}
                yield {
                    "image": item.image,
                    "captions": list(item.captions),
                    "key": item.key,
                    **texts,
                }

    return make


def _lines(text: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in text.decode("utf-8", "replace").splitlines())
    return tuple(line for line in lines if line)


def _share(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
