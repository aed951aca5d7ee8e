"""The parts that the tabs are made of: inputs, buttons, outputs, and what goes on between them."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.components.image_editor import AcceptBlobs

from unclip_jax.core.errors import UserError
from unclip_jax.demo import choices as offered
from unclip_jax.demo.choices import Choices
from unclip_jax.demo.inputs import Paintings, is_layer, is_result, pixels_of
from unclip_jax.demo.refusals import refusal
from unclip_jax.demo.studio import Result, Step
from unclip_jax.sampling.prompts import PROMPT_LIMIT

QUEUE = "sampling"  # all requests of the page wait in one line
# What the visitor's browser does by itself. Gradio makes a component anew for every change of one
# that a server's function returns, and keeps it with the session: so those return values only.
FRAME = """(place, frames) => {
  const frame = (frames || [])[Math.round(place * ((frames || []).length - 1))];
  return frame ? frame.image : null;
}"""
EXAMPLE = "(row) => {}[Array.isArray(row) ? row[0] : row]"


def switch(*, is_busy: bool, uses: int) -> str:
    """Returns JavaScript that turns the button, the one that stops, and `uses` others on or off."""
    states = [not is_busy, is_busy, *[not is_busy] * uses]
    updates: list[dict[str, Any]] = [{"__type__": "update", "interactive": s} for s in states]
    updates[0]["value"] = "Working…" if is_busy else "Generate"
    return f"() => ({json.dumps(updates)})"


def prompt(label: str, examples: Sequence[str]) -> gr.Textbox:
    """Places a field for a caption, with examples to click."""
    box = gr.Textbox(label=label, placeholder="a strawberry", max_length=PROMPT_LIMIT)
    if examples:
        shown = gr.Dataset(label="Examples", components=[box], samples=[[t] for t in examples])
        shown.click(None, shown, box, js=EXAMPLE.format(json.dumps(list(examples))))
    return box


def radio(label: str, options: Sequence[Any], value: Any, info: str | None = None) -> gr.Radio:
    """Places a choice among a few values."""
    return gr.Radio(sorted(options), value=value, label=label, info=info)


def photo(label: str, folder: Path, height: int = 256) -> gr.Image:
    """Places an upload of an image, which is checked at once.

    Args:
        folder: that all uploads lie in.
    """
    image = gr.Image(
        label=label,
        height=height,
        sources=["upload", "clipboard"],
        buttons=[],
        placeholder="Drop or click",
    )

    def check(sent: Any) -> None:
        try:
            pixels_of(sent, folder)
        except UserError as error:
            raise refusal(str(error)) from None

    image.upload(
        *(check, image, None),
        preprocess=False,
        concurrency_id="uploads",
        concurrency_limit=1,
        show_progress="hidden",
        api_visibility="private",
    )
    return image


def painted(label: str) -> gr.ImageEditor:
    """Places an upload of an image to paint a mask on; what its page sends ahead is bounded."""
    editor = gr.ImageEditor(
        label=label,
        sources=["upload", "clipboard"],
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=["#ff00ff"], color_mode="fixed", default_size=32),
        buttons=[],
        canvas_size=(256, 256),
        height=420,
    )
    accept = editor.accept_blobs

    def accept_few(data: AcceptBlobs) -> None:
        if not is_layer(data.data.get("index")):
            raise ValueError("no such layer")
        accept(data)

    accept_few._is_server_fn = True  # gradio's mark of what a browser may call
    editor.accept_blobs, editor.blob_storage = accept_few, Paintings()
    return editor


def settings() -> gr.Accordion:
    """Places the folded part of a tab."""
    return gr.Accordion("Settings", open=False)


def _guidance(label: str, own: float) -> gr.Slider:
    return gr.Slider(*(0, offered.MOST_GUIDANCE), value=own, step=0.1, label=label, info="1 is off")


def _common(choices: Choices, guidance: float) -> dict[str, Component]:
    return {
        "size": radio("Size in pixels", choices.sizes, choices.sizes[0]),
        "guidance": _guidance("Guidance of the decoder", guidance),
        "seed": gr.Textbox(label="Seed", placeholder="empty: a new one each time", max_length=10),
    }


def decoding(choices: Choices) -> dict[str, Component]:
    """Places the settings of the decoder."""
    steps = radio("Steps of the decoder", choices.steps, choices.steps[0])
    return {"steps": steps, **_common(choices, choices.guidance)}


def drawing(choices: Choices) -> dict[str, Component]:
    """Places the settings of text to image."""
    prior = gr.Radio(list(choices.priors), value=choices.priors[0], label="Prior")
    own = choices.prior_guidance
    guidance = _guidance("Guidance of the prior", own.get(choices.priors[0], 1.0))
    prior.change(
        lambda name: gr.Slider(value=own.get(name, 1.0), interactive=name in own),
        *(prior, guidance),
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return {"prior": prior, "prior_guidance": guidance, **decoding(choices)}


def inverting(choices: Choices) -> dict[str, Component]:
    """Places the settings of what begins with the inversion of an image."""
    steps = radio("Steps of the inversion", choices.inversions, choices.inversions[0])
    return {"invert_steps": steps, **_common(choices, 1.0)}


def buttons() -> tuple[gr.Button, gr.Button]:
    """Places the button that runs a request and the one that stops it."""
    with gr.Row():
        run = gr.Button("Generate", variant="primary", min_width=120)
        return run, gr.Button("Stop", interactive=False, min_width=80)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a tab shows.

    Attributes:
        frame: one image of a path, chosen by `slider`; None where the images are no path.
        chosen: number of the image that the visitor has clicked.
        uses: a button for each tab that can take the chosen image, by the tab's name.
    """

    gallery: gr.Gallery
    status: gr.Textbox
    seed: gr.Textbox
    archive: gr.DownloadButton
    frame: gr.Image | None
    slider: gr.Slider | None
    chosen: gr.State
    uses: dict[str, gr.Button]

    @property
    def components(self) -> list[Component]:
        """In the order of what a request yields."""
        path = [] if self.frame is None else [self.frame, self.slider]
        return [self.gallery, self.status, self.seed, self.archive, *path, self.chosen]


def outputs(columns: int, is_path: bool, takers: dict[str, str]) -> Outputs:
    """Places the outputs of a tab.

    Args:
        takers: titles of the tabs that can take an image, by name.
    """
    status = gr.Textbox(label="Status", interactive=False, lines=1, max_lines=6)
    frame = slider = None
    if is_path:
        frame = gr.Image(label="Frame", height=280, interactive=False, buttons=[], format="png")
        slider = gr.Slider(0, 1, value=0, step=0.01, label="Place on the path", interactive=True)
    gallery = gr.Gallery(
        label="Images",
        columns=columns,
        height="auto",
        object_fit="contain",
        buttons=["download", "fullscreen"],
        interactive=False,
        type="filepath",
        preview=False,
        elem_classes="whole",
    )
    with gr.Row():
        seed = gr.Textbox(label="Seed used", interactive=False)
        archive = gr.DownloadButton("Download all")
    used = "Use an image in (click one to choose it, else it is the first)"
    with gr.Accordion(used, open=True), gr.Row():
        uses = {name: gr.Button(title, size="sm", min_width=80) for name, title in takers.items()}
    made = Outputs(gallery, status, seed, archive, frame, slider, gr.State(0), uses)
    gallery.select(chosen, None, made.chosen, queue=False, api_visibility="private")
    if is_path:
        slider.change(None, [slider, gallery], frame, js=FRAME)
    return made


def chosen(event: gr.SelectData) -> int:
    """Returns the number of the image that was clicked."""
    return event.index


def going_on(step: Step, seed: int, is_path: bool, *, clear: bool) -> tuple[Any, ...]:
    """Returns the outputs while a request is worked on.

    A preview is sent once: gradio writes an image that it is given again over the file that a
    browser may be loading.

    Args:
        clear: whether the images of the request before are still shown.
    """
    kept = [] if clear else gr.skip()
    preview = kept if step.preview is None else list(step.preview)
    first = 0 if clear else gr.skip()
    return preview, step.text, str(seed), None, *((None, 0) if is_path else ()), first


def finished(result: Result, is_path: bool) -> tuple[Any, ...]:
    """Returns the outputs of a request that is done."""
    plural = "" if len(result.images) == 1 else "s"
    said = [f"{len(result.images)} image{plural} in {result.seconds:.1f} s", *result.notes]
    images = [(str(path), caption) for path, caption in result.images]
    shown = (images, "\n".join(said), str(result.seed), str(result.archive))
    return (*shown, images[0][0], 0, gr.skip()) if is_path else (*shown, gr.skip())


def run_with(
    run: Callable[..., Any],
    name: str,
    triggers: Sequence[Callable[..., Any]],
    inputs: dict[str, Component],
    outputs: Outputs,
    buttons: tuple[gr.Button, gr.Button],
) -> None:
    """Runs a request on any of the triggers; the button is off until it is done.

    A request that comes while another one of the same visitor runs waits in the line.
    """
    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    changed = [*buttons, *outputs.uses.values()]
    busy, idle = (switch(is_busy=busy, uses=len(outputs.uses)) for busy in (True, False))
    gr.on(triggers, None, None, changed, js=busy, **quiet)
    running = gr.on(
        triggers,
        run,
        inputs_kwargs=inputs,
        outputs=outputs.components,
        show_progress="minimal",
        show_progress_on=outputs.status,
        api_name=name,
        concurrency_id=QUEUE,
        concurrency_limit=1,
        trigger_mode="multiple",
        preprocess=False,  # values are checked by requests.py, images decoded by inputs.py
    )
    running.then(None, None, changed, js=idle, **quiet)
    # `then` alone does not run what is only JavaScript after a failure.
    running.failure(None, None, changed, js=idle, **quiet)
    stopped = buttons[1].click(None, None, None, cancels=[running], **quiet)
    stopped.then(None, None, changed, js=idle, **quiet)


def use_in(source: Outputs, name: str, taker: Component, bar: gr.Tabs, folder: Path) -> None:
    """Lets the chosen image of `source` be put into the input `taker` of the tab `name`.

    Args:
        folder: of all results.
    """

    def put(images: list[tuple[str, str | None]] | None, index: int) -> tuple[Any, Any]:
        if not images:
            raise refusal("there is no image yet; generate one first")
        path = images[max(0, min(index, len(images) - 1))][0]
        if not is_result(path, folder):
            raise refusal("the image is not finished; generate one first")
        return path, gr.Tabs(selected=name)

    source.uses[name].click(
        *(put, [source.gallery, source.chosen], [taker, bar]),
        concurrency_id="uses",  # in a line of its own: of calls without one no error is shown
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
    )
