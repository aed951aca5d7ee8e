"""Uploads are decoded within limits, and what is painted is found."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclip_jax.core.errors import UserError
from unclip_jax.data import images
from unclip_jax.demo.inputs import (
    Paintings,
    is_foreign,
    is_layer,
    is_result,
    painting_of,
    pixels_of,
)


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
    pixels = pixels_of({"path": str(path)}, tmp_path)
    assert pixels.shape == (8, 9, 3) and (pixels == 255).all()
    assert pixels_of(None, tmp_path) is None


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
        pixels_of(sent, Path())


def test_large_images_are_refused_before_they_take_memory(monkeypatch):
    monkeypatch.setattr(images, "PIXEL_LIMIT", 99)
    with pytest.raises(UserError, match="10 x 10 pixels"):
        pixels_of(encoded(Image.new("RGB", (10, 10))), Path())


def test_what_is_painted_on_any_layer_is_the_mask():
    layers = []
    for box in ((0, 0, 2, 1), (5, 5, 6, 7)):
        layer = Image.new("RGBA", (10, 8), (0, 0, 0, 0))
        layer.paste((255, 0, 255, 255), box)
        layers.append(encoded(layer))
    background = encoded(Image.new("RGB", (10, 8), (1, 2, 3)))
    blobs = {"x": Blobs(background=background, layers=[*layers, None], composite=None)}
    pixels, mask = painting_of({"id": "x"}, blobs, Path())
    assert (pixels == (1, 2, 3)).all() and blobs == {}
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(0, 0), (0, 1), (5, 5), (6, 5)]
    assert painting_of({"id": "x"}, blobs, Path()) is None
    assert painting_of(None, {}, Path()) is None
    other = encoded(Image.new("RGBA", (9, 9)))
    with pytest.raises(UserError, match="differ in size"):
        painting_of({"id": None, "background": background, "layers": [other]}, {}, Path())


def places(folder):
    """Names what lies around a page's folder and must not be read, or cannot be."""
    private, picture = folder.parent / "private.png", encoded(Image.new("RGB", (9, 9)))
    private.write_bytes(picture)
    (folder / "sub").mkdir(parents=True)
    (folder / "link.png").symlink_to(private)
    (folder / "linked").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe.png")
    inside = ["link.png", "linked/private.png", "pipe.png", "sub", "missing.png", "x" * 300, "a\0b"]
    outside = [private, "/proc/kmsg", "/dev/zero", "/etc/shadow", "/missing.png", "private.png", ""]
    return [
        *(f"{folder}/{name}" for name in inside),
        f"{folder}/../private.png",
        *map(str, outside),
    ]


def test_only_regular_files_of_the_pages_folder_are_read_and_all_others_are_the_same(tmp_path):
    """No image of the server's is shown, and nothing is learnt of what it has."""
    folder = tmp_path / "page"
    for path in places(folder):
        for sent in ({"path": path}, {"path": path, "meta": {"_type": "gradio.FileData"}}):
            with pytest.raises(UserError) as told:
                pixels_of(sent, folder)
            assert str(told.value) == "the image is not an upload of this page; upload it as a file"
    (folder / "sub" / "own.png").write_bytes(encoded(Image.new("RGB", (9, 9), (1, 2, 3))))
    assert (pixels_of({"path": f"{folder}/sub/own.png"}, folder) == (1, 2, 3)).all()


def test_the_folder_itself_may_be_reached_by_a_link(tmp_path):
    """As folders for temporary files are on some systems."""
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    (tmp_path / "real" / "own.png").write_bytes(encoded(Image.new("RGB", (9, 9))))
    for name in ("real", "named"):
        sent = {"path": f"{tmp_path}/{name}/own.png"}
        assert pixels_of(sent, tmp_path / "named").shape == (9, 9, 3)


@pytest.mark.parametrize("sent", ["/x.png", 5, {"background": "/x.png"}, {"background": 5}])
def test_paintings_of_another_form_are_refused(sent):
    with pytest.raises(UserError, match="not an upload"):
        painting_of(sent, {}, Path())


def test_files_of_elsewhere_are_found_in_any_value(tmp_path):
    own, foreign = {"path": f"{tmp_path}/a.png"}, {"path": "/etc/passwd"}
    assert not is_foreign([own, {"image": own, "caption": None}, "/etc/passwd", 3], tmp_path)
    assert is_foreign([[{"image": foreign, "caption": None}]], tmp_path)
    assert is_foreign({"background": own, "layers": [own, foreign]}, tmp_path)
    assert is_foreign({"composite": {"path": 5}}, tmp_path)


def test_only_finished_images_are_results(tmp_path):
    assert is_result(f"{tmp_path}/run-x/a.png", tmp_path)
    for path in ("run-x", "hash/a.png", "run-x/deep/a.png", "run-x/../../a.png", "../run-x/a.png"):
        assert not is_result(f"{tmp_path}/{path}", tmp_path)


def test_large_images_are_shrunk_as_they_are_decoded():
    large = Image.new("RGB", (2500, 1200), (200, 100, 0))
    large.paste((0, 0, 0), (0, 0, 2, 2))
    layer = Image.new("RGBA", large.size, (0, 0, 0, 0))
    layer.paste((255, 0, 255, 255), (100, 100, 200, 200))
    sent = {"id": None, "background": encoded(large), "layers": [encoded(layer)]}
    pixels, mask = painting_of(sent, {}, Path())
    assert pixels.shape == (600, 1250, 3) and mask.shape == (600, 1250)  # 2500 // 1024 is 2
    assert (pixels[0, 0] == 0).all() and (pixels[0, 1] == (200, 100, 0)).all()
    assert mask[50:100, 50:100].all() and mask.sum() == 50 * 50


def test_what_is_sent_ahead_is_bounded():
    kept = Paintings()
    for number in range(100):
        kept[str(number)] = b""
    assert list(kept) == [str(n) for n in range(92, 100)]
    assert all(map(is_layer, (None, "null", "", "0", "7", 3)))
    assert not any(map(is_layer, ("8", "1000000000", "-1", "x", [0])))
