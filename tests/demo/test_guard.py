"""Hostile calls over HTTP: refused with 4xx or one line, without a traceback, and forgotten."""

import asyncio
import io
import json
import time
import urllib.error
import urllib.request

import pytest
from PIL import Image

from tests.demo.serve import begin, end, refused, upload
from tests.demo.test_page import SAMPLE, VARY
from unclip_jax.demo import guard

NO_UPLOAD = "the image is not an upload of this page; upload it as a file"
INPAINT = {
    **{"drawing": None, "prompt": "a red heart", "num": 2, "resamples": 1, "prior": "text"},
    **{"prior_guidance": 1.0, "steps": 4, "size": 16, "guidance": 3.0, "seed": "3"},
}


def events(page):
    """Lists the events of the page's configuration."""
    with urllib.request.urlopen(f"{page[0]}/config", timeout=30) as file:
        return json.load(file)["dependencies"]


def numbered(page, name):
    """Returns the number of the first event that is called so."""
    return next(e["id"] for e in events(page) if str(e["api_name"]).startswith(name))


def posted(page, data, route="queue/join"):
    """Posts a body; returns the status and the answer."""
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{page[0]}/gradio_api/{route}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def told(page, session):
    """Reads a session's events until one is complete; returns its output."""
    url = f"{page[0]}/gradio_api/queue/data?session_hash={session}"
    with urllib.request.urlopen(url, timeout=60) as lines:
        for line in lines:
            if b"process_completed" in line:
                return json.loads(line[len("data: ") :])["output"]
    raise AssertionError("no answer")


@pytest.fixture
def picture(tmp_path):
    """Returns an image of the server's, outside of the page's folder."""
    path = tmp_path / "private.png"
    Image.new("RGB", (16, 16), (255, 0, 0)).save(path)
    return path


@pytest.mark.parametrize("form", ["bare", "marked"])
def test_images_of_the_server_are_not_read(page, picture, form):
    """A record without gradio's mark is not checked by gradio."""
    mark = {"meta": {"_type": "gradio.FileData"}} if form == "marked" else {}
    for path in (picture, picture.with_name("missing.png"), picture.parent, "/proc/kmsg"):
        sent = {"path": str(path), **mark}
        assert refused(page, "vary", {**VARY, "image": sent}) == NO_UPLOAD
        drawing = {"background": sent, "layers": [], "composite": None}
        assert refused(page, "inpaint", {**INPAINT, "drawing": drawing}) == NO_UPLOAD


def test_layers_of_the_server_are_not_read(page, picture):
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "PNG")
    own = upload(page[0], data.getvalue())
    drawing = {"background": own, "layers": [{"path": str(picture)}], "composite": None}
    assert refused(page, "inpaint", {**INPAINT, "drawing": drawing}) == NO_UPLOAD
    drawing = {"background": own, "layers": [], "composite": {"path": str(picture)}}
    assert refused(page, "inpaint", {**INPAINT, "drawing": drawing}) == NO_UPLOAD


def test_images_of_the_server_are_not_put_into_a_tab(page, picture):
    before = page[2].read_text()
    for record in ({"path": str(picture)}, {"path": str(picture), "meta": {"_type": "x"}}):
        gallery = [{"image": record, "caption": None}]
        call = {"data": [gallery, 0], "fn_index": numbered(page, "put"), "session_hash": "put"}
        assert posted(page, call)[0] == 200
        assert told(page, "put")["error"] == NO_UPLOAD
    assert page[2].read_text() == before


SURROGATE = rb'{"data": [], "fn_index": 1, "session_hash": "\ud800x"}'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (SURROGATE, 400),
        (b'{"data": ["\\udfff"], "fn_index": 1, "session_hash": "s"}', 400),
        (b'{"data": ["\xff"]}', 400),
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"data": [' + b"1" * 5000 + b"]}", 400),
        (b" " * (2**20 + 1), 413),
        *(({"data": [], "fn_index": i, "session_hash": "s"}, 404) for i in (-1, 9999, None, "1")),
        *(({"data": [], "fn_index": 1, "session_hash": s}, 400) for s in ("", "a b", "x" * 65, 3)),
        ({"fn_index": 1, "session_hash": "s"}, 400),
        ({"data": [0] * 65, "fn_index": 1, "session_hash": "s"}, 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_calls_of_a_wrong_form_are_refused(page, body, status):
    before = page[2].read_text()
    found, answer = posted(page, body)
    assert found == status and "\n" not in answer["detail"]
    time.sleep(0.1)
    assert page[2].read_text() == before


@pytest.mark.parametrize("body", [SURROGATE, b'{"data": ["\\ud800"]}'])
def test_text_that_is_no_unicode_is_not_handed_on(page, body):
    assert posted(page, body) == (400, {"detail": "the call is not valid JSON"})


def test_events_without_a_function_or_without_their_data_are_refused(page):
    before = page[2].read_text()
    silent = next(e["id"] for e in events(page) if not e["backend_fn"])
    chosen = numbered(page, "chosen")
    for index, more in ((silent, {}), (chosen, {}), (chosen, {"event_data": {"index": "x"}})):
        call = {"data": [None] * 9, "fn_index": index, "session_hash": "e", **more}
        assert posted(page, call)[0] in (400, 404)
    for route in ("call/nothing", "call/chosen", "run/chosen", "run/nothing", "call/v2/nothing"):
        assert posted(page, {"data": []}, route)[0] in (400, 404)
    assert posted(page, {"session_hash": "s"}, "component_server")[0] == 400
    assert posted(page, b'{"event_id": 5}', "cancel")[0] == 422
    assert layer_sent(page, 10**9) == 400
    assert page[2].read_text() == before


def layer_sent(page, index):
    """Sends a layer of a painting ahead; returns the status."""
    with urllib.request.urlopen(f"{page[0]}/config", timeout=30) as file:
        editor = next(b for b in json.load(file)["components"] if b["type"] == "imageeditor")
    fields = {"component_id": editor["id"], "session_hash": "l", "fn_name": "accept_blobs"}
    fields |= {"type": "layer", "index": index, "id": "x"}
    parts = [
        f'--m\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
        for k, v in fields.items()
    ]
    file = '--m\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--m--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=m"}
    url = f"{page[0]}/gradio_api/component_server"
    request = urllib.request.Request(url, "".join([*parts, file]).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_layers_are_sent_ahead_within_bounds(page):
    assert layer_sent(page, 0) == 200 and layer_sent(page, 8) == 400


def test_nobody_is_told_of_a_call_that_is_not_there(page):
    before = page[2].read_text()
    for route in ("queue/data?session_hash=nobody", "queue/data", "call/sample/nothing"):
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(f"{page[0]}/gradio_api/{route}", timeout=30)
        with told.value:
            assert told.value.code == 404
    assert page[2].read_text() == before


def test_calls_that_nobody_listens_to_are_not_worked_on(page):
    address, folder, log = page
    before = log.read_text()
    (folder / "begun").unlink(missing_ok=True)
    (folder / "go").touch()  # so that nothing hangs if it is worked on
    ask = list({**SAMPLE, "prompt": "gray 1 waits"}.values())
    number = numbered(page, "sample")
    assert posted(page, {"data": ask, "fn_index": number, "session_hash": "deaf"})[0] == 200
    url = begin(address, "sample", list({**SAMPLE, "prompt": "gray 2"}.values()))
    assert end(url)[0] == "complete"  # its turn comes after the other's patience
    (folder / "go").unlink()
    assert not (folder / "begun").exists() and log.read_text() == before


def test_too_few_values_are_counted(page):
    assert refused(page, "vary", {"image": None}) == "7 values are needed, not 1"


def test_whoever_comes_late_is_heard_if_the_server_was_late_itself():
    """A loop that was blocked has seen nobody, though the time is over."""
    listeners = guard.Listeners()

    async def called_long_ago():
        waiting = asyncio.create_task(listeners.come(("s",), since=-1e9))
        await asyncio.sleep(0.2)
        listeners.begin("s")
        return await waiting

    assert asyncio.run(called_long_ago())
    assert not asyncio.run(guard.Listeners().come(("s",), since=-1e9))
