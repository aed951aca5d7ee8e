"""Images, tars and prepared sets for the tests of ingest."""

import contextlib
import io
import signal
import tarfile

import pytest
from PIL import Image

from unclip_jax.data import builder
from unclip_jax.data.sources import load_source


def image_bytes(color, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), color).save(buffer, format=form)
    return buffer.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def read_all(out):
    splits = "+".join(builder.split_sizes(out))
    source = load_source(out, splits)
    return {source.info(i)["key"]: source[i] for i in range(len(source))}


def pairs(count, start=0):
    """Members of a tar: `count` samples of an image and a caption each."""
    members = {}
    for i in range(start, start + count):
        members |= {
            f"{i:04}.png": image_bytes((i % 256, 9, 9)),
            f"{i:04}.txt": f"shade {i}".encode(),
        }
    return members


@contextlib.contextmanager
def within(seconds):
    """Fails a block that waits; not by an Exception, which a reader might take for damage."""

    def stop(signum, frame):
        pytest.fail(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
