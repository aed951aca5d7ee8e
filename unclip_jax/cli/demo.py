"""`unclip demo`: a web page to sample and manipulate images with."""

import contextlib
import os
import sys
import webbrowser

import click

from unclip_jax.cli import common
from unclip_jax.cli.progress import Progress, warn

IMAGES = 4
"""Images that the page makes at once, as it is when it opens."""

LOCAL = ("127.0.0.1", "localhost", "::1")


@click.command()
@common.model_option
@click.option(
    "--port", default=7860, show_default=True, type=click.IntRange(1, 65535), help="Port."
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all."
)
@click.option("--root-path", help="Path under which a proxy shows the page, such as /unclip.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def demo(model: str, port: int, host: str, root_path: str | None, no_browser: bool) -> None:
    """Serve a web page that samples and manipulates images.

    Needs the extra demo: pip install ".[demo]" in a checkout. Ctrl-C ends it.

    Example: unclip demo --model emoji --port 7860
    """
    from unclip_jax.demo import server

    server.require_gradio()  # before the warning, and before the bundle is loaded
    server.check_address(host, port)
    if host not in LOCAL:
        warn(f"whoever reaches {host} can use the page, and with it this machine")

    with contextlib.ExitStack() as loading:
        loading.enter_context(Progress()).phase(f"loading {model}")

        def tell(address: str) -> None:
            loading.close()
            click.echo(address)
            if not no_browser and has_screen():
                webbrowser.open(address)

        common.use_compile_cache()
        common.use_cores([model], images=IMAGES)
        server.serve(model, host=host, port=port, root_path=root_path, tell=tell)


def has_screen() -> bool:
    """Whether a browser could be seen."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return not os.environ.get("SSH_CONNECTION")
