"""Progress on a terminal: bars on stderr, the same pictures, nothing of it on stdout."""

import io
import sys

import numpy as np
from PIL import Image


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_bars_change_no_pixel(toy_folder, tmp_path, unclip, monkeypatch):
    quiet = tmp_path / "quiet"
    code, _, err = unclip(
        "sample", "a red heart", "--model", toy_folder, "--num", 1, "--out", quiet
    )
    assert (code, err) == (0, "")
    watched, terminal = tmp_path / "watched", Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    args = ("sample", "a red heart", "--model", toy_folder, "--num", 1, "--out", watched)
    assert unclip(*args)[0] == 0
    shown = terminal.getvalue()
    for stage in ("prior_diffusion", "decoder", "upsampler_256"):
        assert f"{stage}:" in shown
    assert "/4" in shown and "step/s" in shown
    name = "000-a-red-heart-00.png"
    with Image.open(quiet / name) as a, Image.open(watched / name) as b:
        # Chunks of the same scan; other programs may round the last bit otherwise.
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 2
