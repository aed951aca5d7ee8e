"""The page as a whole: tabs that the bundle can do, its look, its refusals in one line."""

import re
import time
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction

from unclip_jax.core.errors import one_line
from unclip_jax.demo import tabs
from unclip_jax.demo.guard import Desk, Listeners
from unclip_jax.demo.inputs import NO_UPLOAD, is_foreign
from unclip_jax.demo.refusals import WRONG, is_url, reason, refusal
from unclip_jax.demo.studio import KEPT, Studio
from unclip_jax.sampling.prompts import is_of_emoji

SWEEP = 600  # seconds between removals of old uploads and results
CSS = """
footer { display: none !important; }
.gradio-container { max-width: min(1200px, 100%) !important; width: 100%; margin: auto; }
.gradio-container { overflow-x: clip; }
.whole .grid-wrap { max-height: none !important; overflow-y: visible !important; }
"""


class Page(gr.Blocks):
    """Blocks that refuse whatever values they are sent in one line, without a traceback."""

    def __init__(self, studio: Studio, **settings: Any):
        """Begins an empty page.

        Args:
            settings: of gr.Blocks.
        """
        super().__init__(**settings)
        self.studio, self.listeners = studio, Listeners()

    def desk(self) -> Desk:
        """Returns what the guard knows of the page."""
        line = self._queue
        return Desk(self.fns, self.listeners, line.__len__, line.max_size or 0, self._is_known)

    def _is_known(self, name: str) -> bool:
        """Whether a session or an event has an answer to read."""
        line = self._queue
        of_sessions = line.pending_event_ids_session.values()
        known = name in line.pending_messages_per_session or name in line.event_ids_to_events
        return known or any(name in events for events in of_sessions)

    async def process_api(
        self, block_fn: BlockFunction | int, inputs: list[Any], **named: Any
    ) -> dict[str, Any]:
        """Runs an event, as gr.Blocks does, unless nobody listens for its answer."""
        event = named.get("event_id")
        if event is not None and named.get("iterator") is None:
            waiting = self._queue.event_ids_to_events.get(event)
            since = time.monotonic() if waiting is None else waiting.enqueue_time
            names = (event, named.get("session_hash") or event)
            if not await self.listeners.come(names, since):
                raise refusal("nobody listens for the answer")
        return await super().process_api(block_fn, inputs, **named)

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], *args: Any, **named: Any
    ) -> list[Any]:
        """Decodes the values of an event, as gr.Blocks does."""
        if any(map(is_url, inputs)):
            raise refusal("images must be uploaded, not given by address")
        if is_foreign(inputs, self.studio.folder):
            raise refusal(NO_UPLOAD)
        try:
            return await super().preprocess_data(block_fn, inputs, *args, **named)
        except gr.Error as error:
            raise refusal(error.message) from None
        except WRONG as error:
            raise refusal(reason(error) or misfit(block_fn, inputs)) from None


def misfit(block_fn: BlockFunction, inputs: list[Any]) -> str:
    """Says which value of an event has the wrong form."""
    if len(inputs) < len(block_fn.inputs):
        return f"{len(block_fn.inputs)} values are needed, not {len(inputs)}"
    for block, value in zip(block_fn.inputs, inputs, strict=False):
        model = getattr(block, "data_model", None)
        try:
            if model is not None and value is not None:
                model.model_validate(value, context={"validate_meta": True})
        except WRONG:
            return f"{getattr(block, 'label', None) or 'a value'}: the value has the wrong form"
    return "a value has the wrong form"


def theme() -> gr.Theme:
    """Returns a theme with the fonts of the visitor's system: none is loaded."""
    fonts = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Default(primary_hue="indigo", font=fonts[0], font_mono=fonts[1])


def plain(text: str) -> str:
    """Returns Markdown that shows a text as it is: a bundle may come from anybody."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&$:-])", r"\\\1", one_line(text))


def build(studio: Studio, about: str = "") -> Page:
    """Builds the page of a bundle: the tabs that it can do, and a line on those that it cannot.

    Args:
        about: what the bundle draws.
    """
    page = Page(
        studio,
        title=f"unclip_jax: {studio.model.name}",
        analytics_enabled=False,
        delete_cache=(SWEEP, int(KEPT)),
    )
    with page:
        told = plain(about) or "Text to image, and images to images, with unCLIP."
        english = " Prompts are in English." if is_of_emoji(studio.model) else ""
        gr.Markdown(f"# {plain(studio.model.name)}\n\n{told}{english}")
        shown, missing = tabs.split(studio)
        tabs.place_all(shown, studio)
        if missing:
            lacking = "; ".join(f"{tab.title} ({lack})" for tab, lack in missing)
            gr.Markdown(f"Not shown, for this bundle lacks what they need: {lacking}.")
    return page
