"""Serves the page: on loopback unless asked otherwise, with nothing sent to anybody else.

Whatever visitors upload and get lies in one temporary folder, which is removed at the end.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from unclip_jax.checkpoint import bundle
from unclip_jax.core import interrupts
from unclip_jax.core.errors import UserError
from unclip_jax.data.images import FILE_LIMIT, without_size_warning
from unclip_jax.workflows.info_card import in_short

LINE = 32  # requests that may wait; more are refused
SESSIONS = 100  # visitors whose state is kept
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@contextlib.contextmanager
def results_folder() -> Iterator[Path]:
    """Yields the folder of all uploads and results; it is removed even if the process is ended."""
    folder = Path(tempfile.mkdtemp(prefix="unclip-demo-"))
    with interrupts.cleared(lambda: shutil.rmtree(folder, ignore_errors=True)):
        yield folder


def require_gradio() -> None:
    """Fails if gradio is not installed; importing it would fix its folder of temporary files."""
    if importlib.util.find_spec("gradio") is None:
        raise UserError('unclip demo needs gradio; run pip install ".[demo]" in a checkout')


def check_address(host: str, port: int) -> None:
    """Fails at once if a host and a port cannot be served on."""
    plain = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no such host"
        raise UserError(
            f"cannot serve on {host}, port {port}: {why}; choose another --host or --port"
        ) from error


@contextlib.contextmanager
def serving(model: str, *, host: str, port: int, root_path: str | None = None) -> Iterator[str]:
    """Serves a bundle's page until the block ends; yields its address.

    Args:
        model: folder of a bundle, or the name of a shipped one.
        root_path: path under which a proxy shows the page.

    Raises:
        UserError: there is no gradio, the bundle cannot draw, or the port is taken.
    """
    require_gradio()
    check_address(host, port)
    loaded = bundle.load(model)
    with results_folder() as folder, without_size_warning():
        own = {"GRADIO_TEMP_DIR": str(folder), "MPLCONFIGDIR": str(folder / "matplotlib")}
        os.environ.update(ENVIRONMENT | own)  # read when gradio is imported
        from starlette.middleware import Middleware

        from unclip_jax.demo.guard import Guard
        from unclip_jax.demo.page import CSS, build, theme
        from unclip_jax.demo.studio import Studio

        page = build(Studio(loaded, model, folder), in_short(bundle.resolve(model)))
        page.queue(max_size=LINE, api_open=False)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                root_path=root_path,
                _frontend=False,  # no second check of the address, which gives up after 3 seconds
                inline=False,
                share=False,
                quiet=True,
                show_error=False,
                prevent_thread_lock=True,
                max_file_size=FILE_LIMIT,
                state_session_capacity=SESSIONS,
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                footer_links=[],
                app_kwargs={"middleware": [Middleware(Guard, desk=page.desk)]},
                theme=theme(),
                css=CSS,
            )
        except OSError as error:
            raise UserError(
                f"cannot serve on {host}, port {port}: it may be in use; choose another --port"
            ) from error
        try:
            yield page.local_url
        finally:
            page.close(verbose=False)


def serve(
    model: str, *, host: str, port: int, root_path: str | None, tell: Callable[[str], None]
) -> None:
    """Serves a bundle's page until the process is ended.

    Args:
        tell: called with the page's address once it answers.
    """
    with serving(model, host=host, port=port, root_path=root_path) as address:
        tell(address)
        threading.Event().wait()
