"""The page as a whole: tabs that the bundle can do, its look, its refusals in one line."""

from typing import Any

import gradio as gr
from gradio.exceptions import ComponentProcessingError

from unclip_jax.demo import tabs
from unclip_jax.demo.refusals import is_url, reason, refusal
from unclip_jax.demo.studio import KEPT, Studio

WRONG = (ComponentProcessingError, ValueError, TypeError, LookupError, AttributeError, OSError)
SWEEP = 600  # seconds between removals of old uploads and results
CSS = """
footer { display: none !important; }
.gradio-container { max-width: min(1200px, 100%) !important; margin: auto; overflow-x: clip; }
.whole .grid-wrap { max-height: none !important; overflow-y: visible !important; }
"""


class Page(gr.Blocks):
    """Blocks that refuse whatever values they are sent in one line, without a traceback."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **named: Any):
        """Decodes the values of an event, as gr.Blocks does."""
        if any(map(is_url, inputs)):
            raise refusal("images must be uploaded, not given by address")
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **named)
        except gr.Error as error:
            raise refusal(error.message) from None
        except WRONG as error:
            raise refusal(reason(error)) from None


def theme() -> gr.Theme:
    """Returns a theme with the fonts of the visitor's system: none is loaded."""
    fonts = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Default(primary_hue="indigo", font=fonts[0], font_mono=fonts[1])


def build(studio: Studio) -> Page:
    """Builds the page of a bundle: the tabs that it can do, and a line on those that it cannot."""
    page = Page(
        title=f"unclip_jax: {studio.model.name}",
        analytics_enabled=False,
        delete_cache=(SWEEP, int(KEPT)),
    )
    with page:
        gr.Markdown(f"# {studio.model.name}\n\nText to image, and images to images, with unCLIP.")
        shown, missing = tabs.split(studio)
        tabs.place_all(shown, studio)
        if missing:
            lacking = "; ".join(f"{tab.title} ({lack})" for tab, lack in missing)
            gr.Markdown(f"Not shown, for this bundle lacks what they need: {lacking}.")
    return page
