"""`unclip demo`: what it says before it serves, and what it hands on."""

import socket
import sys

import pytest

from tests.demo.serve import free_port
from unclip_jax.cli import demo
from unclip_jax.demo import server


@pytest.fixture
def served(monkeypatch):
    """Lists what would be served; the page's address is told at once."""
    calls = []

    def serve(model, *, host, port, root_path, tell):
        calls.append((model, host, port, root_path))
        tell(f"http://{host}:{port}/")

    opened = []
    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(server, "check_address", lambda host, port: None)
    monkeypatch.setattr(demo.webbrowser, "open", opened.append)
    return calls, opened


@pytest.mark.parametrize(
    ("screen", "args", "opens"), [(1, (), 1), (0, (), 0), (1, ("--no-browser",), 0)]
)
def test_it_prints_its_address_and_opens_a_browser_where_one_is_seen(
    unclip, served, monkeypatch, screen, args, opens
):
    monkeypatch.setattr(demo, "has_screen", lambda: bool(screen))
    code, out, err = unclip("demo", *args)
    assert (code, out) == (0, "http://127.0.0.1:7860/\n") and "warning" not in err
    assert served[0] == [("emoji", "127.0.0.1", 7860, None)]
    assert len(served[1]) == opens


def test_another_host_than_loopback_is_warned_of(unclip, served):
    args = ("--host", "0.0.0.0", "--port", 80, "--root-path", "/x", "--model", "m", "--no-browser")
    code, _, err = unclip("demo", *args)
    assert code == 0 and served[0] == [("m", "0.0.0.0", 80, "/x")]
    assert sum("warning: whoever reaches 0.0.0.0" in line for line in err.splitlines()) == 1


def test_the_warning_is_not_silenced(unclip, served):
    for flag in ("-q", "--quiet"):
        code, _, err = unclip("demo", "--host", "0.0.0.0", "--no-browser", flag)
        assert code == 0 and err.startswith("unclip: warning: whoever reaches 0.0.0.0")
    assert unclip("demo", "--no-browser", "-q")[2] == ""


def test_without_gradio_one_line_names_the_extra(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert 'pip install ".[demo]" in a checkout' in refused("demo")


def test_bundles_that_cannot_draw_are_one_line(refused):
    port = str(free_port())
    assert "emojii" in refused("demo", "--model", "emojii", "--port", port)
    assert "--port" in refused("demo", "--port", "70000")


def test_an_address_that_cannot_be_served_on_is_told_before_anything_is_loaded(
    refused, monkeypatch
):
    monkeypatch.setattr(server.bundle, "load", lambda name: pytest.fail("loaded"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot serve on 127.0.0.1, port {port}" in refused("demo", "--port", port)
    for host in ("no.such.host.invalid", "192.0.2.1", "a..b", "x" * 300):
        line = refused("demo", "--host", host, "--port", port)
        assert "cannot serve on" in line and "--host" in line
