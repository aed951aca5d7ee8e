"""The page as it is served: its tabs, its refusals, its line, and what it does not tell."""

import io
import json
import re
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.demo.serve import begin, end, free_port, refused, running, upload
from unclip_jax.core.errors import UserError
from unclip_jax.demo import server
from unclip_jax.demo.tabs import TABS

# In the order of the page: a dictionary's is the endpoint's.
SAMPLE = {
    **{"prompt": "gray 9", "num": 2, "prior": "diffusion", "prior_guidance": 2.0, "steps": 4},
    **{"size": 16, "guidance": 3.0, "seed": "3"},
}
VARY = {"image": None, "eta": 1.0, "num": 2, "invert_steps": 20, "size": 16, "guidance": 1.0}
VARY |= {"seed": "3"}
BAD = [
    *({"num": v} for v in (0, 3, 10**9, None, "4", True, [2], {"a": 1})),
    *({"steps": v} for v in (0, 5, 10**6, 4.5, None)),
    *({"size": v} for v in (17, -16, "16")),
    *({"guidance": v} for v in (-1, 1e9, "x", True)),
    *({"seed": v} for v in ("-1", 2**40, "1e9", "<b>")),
    *({"prompt": v} for v in ("", " ", None, 5, "x" * 2001)),
    *({"prior": v} for v in ("none", "", None, 3)),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:40])
def test_whatever_is_out_of_range_is_refused(page, bad):
    (name,) = bad
    message = refused(page, "sample", {**SAMPLE, "prompt": "a red heart", **bad})
    assert name.replace("_", " ") in message and "<b>" not in message


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "the image is missing; upload one"),
        ("x", "Image: the value has the wrong form"),
        (5, "Image: the value has the wrong form"),
        ({"path": "/etc/passwd"}, "not an upload"),
        ({"path": "https://127.0.0.1:1/a.png"}, "must be uploaded"),
        ({"url": "data:,", "path": None}, "upload it as a file"),
    ],
)
def test_images_that_are_no_uploads_are_refused(page, image, words):
    if isinstance(image, dict):
        image = {**image, "meta": {"_type": "gradio.FileData"}}
    message = refused(page, "vary", {**VARY, "image": image})
    assert words in message and "/" not in message


def test_an_upload_that_is_no_image_is_refused(page):
    sent = upload(page[0], b"\x89PNG\r\n\x1a\n damaged")
    message = refused(page, "vary", {**VARY, "image": sent})
    assert message.startswith("not a readable image") and str(page[1]) not in message


def image_of(page, answer):
    """Fetches the first image of an answer, as a visitor's browser does."""
    kind, (images, *_) = answer
    assert kind == "complete"
    url = f"{page[0]}/gradio_api/file={images[0]['image']['path']}"
    with urllib.request.urlopen(url, timeout=30) as file:
        return Image.open(io.BytesIO(file.read()))


def test_what_comes_back_is_the_file_with_its_facts(page):
    answer = end(begin(page[0], "sample", list(SAMPLE.values())))
    image = image_of(page, answer)
    assert (np.asarray(image) == 9).all()
    _, status, seed, archive, *_ = answer[1]
    assert image.text["seed"] == seed == "7" and status.startswith("1 image in")
    assert archive["path"].endswith("fake-a-caption.zip")


def test_a_line_that_is_full_says_so_and_loses_nobody(page):
    """One runs, three wait, the fifth is told; those that wait get their own images."""
    address, folder, _ = page
    prompts = [f"gray {shade} waits" for shade in range(1, 6)]
    asks = [list({**SAMPLE, "prompt": prompt}.values()) for prompt in prompts]
    listening = ThreadPoolExecutor(4)
    waiting = [listening.submit(end, begin(address, "sample", asks[0]))]
    end_of_patience = time.monotonic() + 30
    while not (folder / "begun").exists():
        assert time.monotonic() < end_of_patience
        time.sleep(0.02)
    waiting += [listening.submit(end, begin(address, "sample", ask)) for ask in asks[1:4]]
    with pytest.raises(urllib.error.HTTPError) as told:
        begin(address, "sample", asks[4])
    with told.value:
        assert told.value.code == 503 and b"3 requests wait already" in told.value.read()
    (folder / "go").touch()
    shades = [np.asarray(image_of(page, told.result(60))).max() for told in waiting]
    assert shades == [1, 2, 3, 4]


def test_a_page_that_is_closed_ends_its_request(page):
    """As a browser does it: the events of a session are read, and then no longer."""
    address, folder, _ = page
    session = {"session_hash": "closed"}
    ask = list({**SAMPLE, "prompt": "gray 1 reports"}.values())
    with urllib.request.urlopen(f"{address}/config", timeout=30) as file:
        events = json.load(file)["dependencies"]
    (number,) = [e["id"] for e in events if e["api_name"] == "sample"]
    data = json.dumps({"data": ask, "fn_index": number, **session}).encode()
    headers = {"Content-Type": "application/json"}
    join = urllib.request.Request(f"{address}/gradio_api/queue/join", data, headers)
    urllib.request.urlopen(join, timeout=30).close()
    with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=closed") as lines:
        assert any(b"decoder" in line for line in lines)
        assert not (folder / "stopped").exists()
    end_of_patience = time.monotonic() + 30
    while not (folder / "stopped").exists():
        assert time.monotonic() < end_of_patience
        time.sleep(0.05)
    assert end(begin(address, "sample", list(SAMPLE.values())))[0] == "complete"


@pytest.mark.parametrize("path", ["/etc/passwd", "http://127.0.0.1:1/x", __file__])
def test_files_that_are_no_results_are_not_served(page, path):
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(f"{page[0]}/gradio_api/file={path}")
    with told.value:
        assert told.value.code in (403, 404)


def parts(page):
    """Lists the components of the page, each as its kind and its settings."""
    with urllib.request.urlopen(f"{page[0]}/config", timeout=30) as file:
        return [(b["type"], b["props"]) for b in json.load(file)["components"]]


def test_the_page_says_what_the_model_draws_as_plain_text(page):
    """A bundle's README may come from anybody: no markup, no address is loaded from it."""
    said = next(props["value"] for kind, props in parts(page) if kind == "markdown")
    plain = said.replace("\\", "")
    assert "What it draws: <b>Gray</b> [squares](http://x.invalid)" in plain
    assert plain.rstrip().endswith("nothing else. What it cannot draw: Circles.")
    assert re.findall(r"(?<!\\)[][<>()!*#`_:]", said[len("# toy") :]) == []  # each is escaped


def test_every_tab_says_what_it_is_for(page):
    titles = [props["label"] for kind, props in parts(page) if kind == "tabitem"]
    assert titles == [tab.title for tab in TABS]
    said = {props["value"] for kind, props in parts(page) if kind == "markdown"}
    assert all(tab.about in said and tab.about.endswith(".") for tab in TABS)


def event(page, name):
    """Returns the first event that is called so."""
    with urllib.request.urlopen(f"{page[0]}/config", timeout=30) as file:
        events = json.load(file)["dependencies"]
    return next(e for e in events if str(e["api_name"]).startswith(name))


def test_progress_is_shown_in_one_place(page):
    found = event(page, "sample")
    assert len(found["show_progress_on"]) == 1 < len(found["outputs"])


def called(page, name, values):
    """Calls an event that has no name for others, as the page does."""
    call = {"data": values, "fn_index": event(page, name)["id"], "session_hash": name}
    headers = {"Content-Type": "application/json"}
    url = f"{page[0]}/gradio_api/queue/join"
    urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(call).encode(), headers), timeout=30
    ).close()
    url = f"{page[0]}/gradio_api/queue/data?session_hash={name}"
    with urllib.request.urlopen(url, timeout=60) as lines:
        answers = [json.loads(line[6:]) for line in lines if b"process_completed" in line]
    return answers[0]["output"]


def test_an_upload_that_is_no_image_is_told_at_once(page):
    sent = upload(page[0], b"no image")
    assert "not a readable image" in called(page, "check", [sent])["error"]
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "PNG")
    assert "error" not in called(page, "check", [upload(page[0], data.getvalue())])


def test_only_a_finished_image_is_put_into_another_tab(page):
    assert "no image yet; generate one" in called(page, "put", [None, 0])["error"]
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "PNG")
    preview = {"image": upload(page[0], data.getvalue()), "caption": None}
    assert "not finished" in called(page, "put", [[preview], 0])["error"]
    _, (images, *_) = end(begin(page[0], "sample", list(SAMPLE.values())))
    taken, tabs = called(page, "put", [images, 0])["data"]
    assert taken["path"] == images[0]["image"]["path"] and tabs["selected"]


def test_the_fonts_are_those_of_the_system(page):
    with urllib.request.urlopen(f"{page[0]}/theme.css", timeout=30) as file:
        look = file.read().decode()
    assert "system-ui" in look and "@font-face" not in look and "@import" not in look


def test_tabs_without_what_they_need_are_not_shown_and_nothing_stays_behind(tmp_path):
    """All files lie in one folder for temporary files, which goes with the process."""
    args = ("tests.demo.serve", str(port := free_port()), str(tmp_path), "bare")
    with running(tmp_path, port, *args) as (address, process, log):
        with urllib.request.urlopen(f"{address}/config", timeout=30) as file:
            parts = [(b["type"], b["props"]) for b in json.load(file)["components"]]
        titles = [props["label"] for kind, props in parts if kind == "tabitem"]
        assert titles[:2] == ["Text to image", "Variations"] and len(titles) > 4
        assert not {"What CLIP sees", "Priors"} & set(titles)
        said = [props["value"] for kind, props in parts if kind == "markdown"]
        assert any("What CLIP sees (no PCA); Priors (no prior)" in t for t in said)
        ask = {**SAMPLE, "prior": "text"}
        assert end(begin(address, "sample", list(ask.values())))[0] == "complete"
        upload(address, b"x")
        (folder,) = [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()]
        assert folder.name.startswith("unclip-demo-")
        process.terminate()
        process.wait(30)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["README.md", "log", "tmp", "work"]
    assert log.read_text() in ("", "\nunclip: interrupted\n")


def test_a_missing_gradio_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r'pip install "\.\[demo\]" in a checkout'):
        server.require_gradio()
