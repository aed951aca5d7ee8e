"""Serves pages in processes of their own, and calls them over HTTP.

    python -m tests.demo.serve PORT FOLDER [bare]

serves the toy bundle's page with a line of three. Its prompts "gray 7" are not sampled but give one
image of that gray; "gray 7 waits" begins a file FOLDER/begun and waits until FOLDER/go is there,
and "gray 7 reports" reports progress until it is stopped, which makes a file FOLDER/stopped.
"bare" takes priors and PCA away.
"""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unclip_jax.cli.main import own_signals

ROOT = Path(__file__).resolve().parents[2]
ABOUT = """# toy

A toy.

**What it draws.** <b>Gray</b> [squares](http://x.invalid), ![and](http://x.invalid/x.png)
nothing else:

**What it cannot draw.** Circles. Nor triangles.
"""
PATIENCE = 120.0  # seconds until the page answers; the machine may be busy


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(home: Path, port: int, *args: str) -> Iterator[tuple[str, subprocess.Popen, Path]]:
    """Runs `python -m ARGS` with a home of its own; yields address, process and log."""
    tree = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    unset = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONPATH": tree}
    for name in ("tmp", "work"):
        (home / name).mkdir()
    log = home / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *args],
            cwd=home / "work",
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process, log)
        yield address, process, log
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Waits until a page answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.2)
    raise AssertionError(f"{address} does not answer: {log.read_text()}")


def begin(address: str, name: str, values: list[Any]) -> str:
    """Sends a request to the endpoint `name`; returns what its answer is fetched with."""
    data = json.dumps({"data": values}).encode()
    url, headers = f"{address}/gradio_api/call/{name}", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        return f"{url}/{json.load(answer)['event_id']}"


def end(url: str) -> tuple[str, Any]:
    """Waits for a request's answer: ("complete", its outputs) or ("error", the message)."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        event = ""
        for line in answer:
            kind, _, text = line.decode().rstrip().partition(": ")
            event = text if kind == "event" else event
            if kind == "data" and event in ("complete", "error"):
                return event, json.loads(text)
    raise AssertionError(f"{url} ended with {event!r}")


def refused(page: Sequence[Any], name: str, values: dict[str, Any]) -> str:
    """Sends a request that must be refused in one line, without a traceback; returns the line."""
    before = page[2].read_text()
    kind, answer = end(begin(page[0], name, list(values.values())))
    assert kind == "error"
    assert page[2].read_text() == before
    message = answer["error"]
    assert message and "\n" not in message and len(message) < 1000
    return message


def upload(address: str, data: bytes) -> dict[str, Any]:
    """Uploads a file; returns gradio's record of it."""
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    request = urllib.request.Request(f"{address}/gradio_api/upload", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {"path": json.load(answer)[0], "meta": {"_type": "gradio.FileData"}}


def serve_toy(port: int, folder: Path, bare: bool) -> None:
    """Serves the toy bundle's page until the process is ended."""
    from tests.demo.conftest import Fake
    from tests.toy import toy_bundle, with_prior_ar
    from unclip_jax.demo import requests, server
    from unclip_jax.demo.studio import Job

    def wait(session: Any) -> None:
        (folder / "begun").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)

    def report(session: Any) -> None:
        try:
            while True:
                session.monitor.progress("decoder", 1, 2)
                time.sleep(0.05)
        finally:
            (folder / "stopped").touch()

    sample, works = requests.sample, {"waits": wait, "reports": report}

    def request(choices: Any, given: Any) -> Job:
        words = str(given["prompt"]).split()
        if words[:1] != ["gray"]:
            return sample(choices, given)
        work = [works[word] for word in words[2:]]
        return Job(Fake(int(words[1]), *work), seed=7)

    model = with_prior_ar(toy_bundle())
    if bare:
        stages = {name: s for name, s in model.stages.items() if not name.startswith("prior")}
        model = dataclasses.replace(model, stages=stages, pca=None)
    server.bundle.load = lambda name: model
    server.bundle.resolve = lambda name: folder
    (folder / "README.md").write_text(ABOUT)
    server.LINE = 3
    requests.sample = request
    server.serve("toy", host="127.0.0.1", port=port, root_path=None, tell=lambda address: None)


if __name__ == "__main__":
    own_signals()
    serve_toy(int(sys.argv[1]), Path(sys.argv[2]), bare="bare" in sys.argv)
