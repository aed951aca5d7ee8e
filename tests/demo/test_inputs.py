"""Uploads are decoded within limits, and what is painted is found."""

import io

import numpy as np
import pytest
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.data import images
from unclip_jax.demo.inputs import painting_of, pixels_of


class Blobs(dict):
    """Stands for gradio's record of what an editor's page has sent ahead."""

    def model_dump(self):
        return dict(self)


def encoded(image):
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_an_upload_is_decoded_on_white(tmp_path):
    path = tmp_path / "upload.png"
    path.write_bytes(encoded(Image.new("RGBA", (9, 8), (0, 0, 0, 0))))
    pixels = pixels_of({"path": str(path)})
    assert pixels.shape == (8, 9, 3) and (pixels == 255).all()
    assert pixels_of(None) is None


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"no image", "not a readable image"),
        (encoded(Image.new("RGB", (20, 7))), "too small"),
        ({"path": None}, "upload it as a file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable image"),
    ],
)
def test_what_is_no_image_is_one_line(sent, words):
    with pytest.raises(UserError, match=words):
        pixels_of(sent)


def test_large_images_are_refused_before_they_take_memory(monkeypatch):
    monkeypatch.setattr(images, "PIXEL_LIMIT", 99)
    with pytest.raises(UserError, match="10 x 10 pixels"):
        pixels_of(encoded(Image.new("RGB", (10, 10))))


def test_what_is_painted_on_any_layer_is_the_mask():
    layers = []
    for box in ((0, 0, 2, 1), (5, 5, 6, 7)):
        layer = Image.new("RGBA", (10, 8), (0, 0, 0, 0))
        layer.paste((255, 0, 255, 255), box)
        layers.append(encoded(layer))
    background = encoded(Image.new("RGB", (10, 8), (1, 2, 3)))
    blobs = {"x": Blobs(background=background, layers=[*layers, None], composite=None)}
    pixels, mask = painting_of({"id": "x"}, blobs)
    assert (pixels == (1, 2, 3)).all() and blobs == {}
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(0, 0), (0, 1), (5, 5), (6, 5)]
    assert painting_of({"id": "x"}, blobs) is None and painting_of(None, {}) is None
    other = encoded(Image.new("RGBA", (9, 9)))
    with pytest.raises(UserError, match="differ in size"):
        painting_of({"id": None, "background": background, "layers": [other]}, {})
