"""The tabs of the page, one row each: what it needs, what it asks for, what it shows."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from unclip_jax.core.errors import UserError
from unclip_jax.demo import choices, requests, widgets
from unclip_jax.demo.inputs import painting_of, pixels_of
from unclip_jax.demo.refusals import refusal
from unclip_jax.demo.studio import Result, Step, Studio
from unclip_jax.demo.widgets import Outputs
from unclip_jax.sampling.prompts import PROMPT_LIMIT

Inputs = dict[str, Component]


@dataclasses.dataclass(frozen=True)
class Tab:
    """A row of TABS.

    Attributes:
        name: of the endpoint.
        title: as the visitor reads it.
        about: a plain sentence that says what the tab does.
        request: makes a job of the values.
        ask: places the inputs and returns them by the names that `request` knows them by.
        takes: the input that an image of another tab can be put into.
        columns: of the images.
        is_path: whether the images are a path, to be walked with a slider.
        lacks: what the tab needs and the bundle does not have; "" if nothing is missing.
    """

    name: str
    title: str
    about: str
    request: requests.Request
    ask: Callable[[Studio], Inputs]
    takes: str | None = None
    columns: int = 4
    is_path: bool = False
    lacks: Callable[[Studio], str] = lambda studio: ""


@dataclasses.dataclass(frozen=True)
class Placed:
    """A tab on the page."""

    tab: Tab
    inputs: Inputs
    outputs: Outputs


def _sample(studio: Studio) -> Inputs:
    prompt = widgets.prompt("Prompt", studio.choices.prompts)
    num = widgets.radio("Images", choices.NUMS, 4)
    with widgets.settings():
        return {"prompt": prompt, "num": num, **widgets.drawing(studio.choices)}


def _compare(studio: Studio) -> Inputs:
    prompt = widgets.prompt("Prompt", studio.choices.prompts)
    num = widgets.radio("Images of each prior", choices.NUMS, 2)
    with widgets.settings():
        return {"prompt": prompt, "num": num, **widgets.decoding(studio.choices)}


def _vary(studio: Studio) -> Inputs:
    image = widgets.photo("Image", studio.folder)
    far = "how far the variations go from the image: 0 copies it, 1 keeps only what it shows"
    eta = widgets.radio("Eta", choices.ETAS, 1.0, far)
    num = widgets.radio("Images", choices.NUMS, 4)
    with widgets.settings():
        more = widgets.inverting(studio.choices)
    return {"image": image, "eta": eta, "num": num, **more}


def _interpolate(studio: Studio) -> Inputs:
    ends = {}
    with gr.Row():
        for end in ("first", "second"):
            with gr.Column(min_width=140):
                ends[f"{end}_image"] = widgets.photo(
                    f"{end.capitalize()} image", studio.folder, height=180
                )
                ends[f"{end}_caption"] = gr.Textbox(
                    label=f"or {end} caption", max_length=PROMPT_LIMIT
                )
    frames = widgets.radio("Frames", choices.FRAMES, 6)
    with widgets.settings():
        return {**ends, "frames": frames, **widgets.inverting(studio.choices)}


def _edit(studio: Studio) -> Inputs:
    image = widgets.photo("Image", studio.folder)
    with gr.Row():
        shown, wanted = "what it shows; may be empty", "what it is to become"
        source = gr.Textbox(label="From", placeholder=shown, max_length=PROMPT_LIMIT, min_width=120)
        target = gr.Textbox(label="To", placeholder=wanted, max_length=PROMPT_LIMIT, min_width=120)
    frames = widgets.radio("Frames", choices.FRAMES, 6)
    far = (
        "how far the last image goes toward the text, as an angle in radians; small steps keep more"
    )
    theta = widgets.radio("Theta", choices.THETAS, 0.5, far)
    with widgets.settings():
        more = widgets.inverting(studio.choices)
    named = {"image": image, "source": source, "target": target}
    return {**named, "frames": frames, "max_theta": theta, **more}


def _mix(studio: Studio) -> Inputs:
    items = {}
    for number in requests.MIXED:
        with gr.Row():
            with gr.Column(scale=2, min_width=180):
                caption = gr.Textbox(
                    label=f"Caption {number}, or an image", max_length=PROMPT_LIMIT
                )
                weight = gr.Slider(0, 1, value=0.5, step=0.05, label=f"Weight {number}")
            with gr.Column(scale=1, min_width=120):
                image = widgets.photo(f"Image {number}", studio.folder, height=170)
        items |= {f"caption_{number}": caption, f"image_{number}": image}
        items[f"weight_{number}"] = weight
    num = widgets.radio("Images", choices.NUMS, 2)
    with widgets.settings():
        return {**items, "num": num, **widgets.drawing(studio.choices)}


def _inpaint(studio: Studio) -> Inputs:
    drawing = widgets.painted("Image")
    prompt = gr.Textbox(label="Prompt", placeholder="of the whole image", max_length=PROMPT_LIMIT)
    num = widgets.radio("Images", choices.NUMS, 2)
    with widgets.settings():
        often = "how often each step is repeated, so that old and new parts fit; more is slower"
        resamples = widgets.radio("Resamples", requests.RESAMPLES, 3, often)
        more = widgets.drawing(studio.choices)
    return {"drawing": drawing, "prompt": prompt, "num": num, "resamples": resamples, **more}


def _reconstruct(studio: Studio) -> Inputs:
    image = widgets.photo("Image", studio.folder)
    dims = ", ".join(map(str, studio.choices.dims))
    gr.Markdown(f"Here: the {dims} most important directions of the embedding (its PCA).")
    with widgets.settings():
        return {"image": image, **widgets.decoding(studio.choices)}


TABS = (
    Tab(
        *("sample", "Text to image", "Write what you want to see; the model draws it."),
        *(requests.sample, _sample),
        columns=2,
    ),
    Tab(
        *("vary", "Variations", "Other drawings of what is in an image."),
        *(requests.vary, _vary, "image"),
        columns=2,
    ),
    Tab(
        *(
            "interpolate",
            "Interpolation",
            "A path of images between two ends, each an image or a caption.",
        ),
        *(requests.interpolate, _interpolate, "first_image", 3, True),
    ),
    Tab(
        *(
            "edit",
            "Text edit",
            "Changes an image step by step from what it shows to what a text says.",
        ),
        *(requests.edit, _edit, "image", 3, True),
    ),
    Tab(
        *(
            "mix",
            "Mix",
            "Up to three captions or images in one; only the proportions of weights count.",
        ),
        *(requests.mix, _mix, "image_1"),
        columns=2,
    ),
    Tab(
        *(
            "inpaint",
            "Inpainting",
            "Draws a part of an image anew: paint over what is to be replaced.",
        ),
        *(requests.inpaint, _inpaint, "drawing"),
        columns=2,
    ),
    Tab(
        *(
            "reconstruct",
            "What CLIP sees",
            "An image drawn again from a part of what CLIP knows of it, then from more.",
        ),
        *(requests.reconstruct, _reconstruct, "image"),
        lacks=lambda studio: "" if studio.choices.dims else "no PCA",
    ),
    Tab(
        *(
            "priors",
            "Priors",
            "The same prompt by every way that the model has from a text to an image.",
        ),
        *(requests.compare, _compare),
        lacks=lambda studio: "" if studio.choices.prior_guidance else "no prior",
    ),
)


def place(tab: Tab, studio: Studio, takers: dict[str, str]) -> Placed:
    """Draws a tab and lets its button run its request."""
    with gr.Tab(tab.title, id=tab.name):
        gr.Markdown(tab.about)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = tab.ask(studio)
                button, stop = widgets.buttons()
            with gr.Column(scale=3, min_width=320):
                outputs = widgets.outputs(tab.columns, tab.is_path, takers)
    enters = [box.submit for box in inputs.values() if isinstance(box, gr.Textbox)]
    widgets.run_with(
        runner(tab, studio, inputs),
        tab.name,
        [button.click, *enters],
        inputs,
        outputs,
        (button, stop),
    )
    return Placed(tab, inputs, outputs)


def decoded(inputs: Inputs, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the values of an event with its images, which lie in a folder, decoded."""
    values = dict(given)
    for name, component in inputs.items():
        if isinstance(component, gr.Image):
            values[name] = pixels_of(values[name], folder)
        elif isinstance(component, gr.ImageEditor):
            values[name] = painting_of(values[name], component.blob_storage, folder)
    return values


def runner(tab: Tab, studio: Studio, inputs: Inputs) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """Returns the generator function of a tab's event; what it yields goes to the outputs."""

    def run(**given: Any) -> Iterator[tuple[Any, ...]]:
        said, before, start = "", True, time.monotonic()
        try:
            job = tab.request(studio.choices, decoded(inputs, given, studio.folder))
            for step in studio.run(job):
                if isinstance(step, Result):
                    yield widgets.finished(step, tab.is_path)
                else:
                    said = step.text or said
                    compiling = f", compiling for {step.compiling:.0f} s" if step.compiling else ""
                    spent = f"{said}{compiling} ({time.monotonic() - start:.0f} s)"
                    shown = Step(spent, step.preview)
                    yield widgets.going_on(shown, job.seed, tab.is_path, clear=before)
                    before = False
        except UserError as error:
            raise refusal(str(error)) from None

    return run


def place_all(tabs: list[Tab], studio: Studio) -> None:
    """Draws the tabs, and lets every image be used in the tabs that take one."""
    titles = {tab.name: tab.title for tab in tabs if tab.takes is not None}
    with gr.Tabs() as bar:
        placed = [place(tab, studio, titles) for tab in tabs]
    for source in placed:
        for taker in placed:
            if taker.tab.takes is not None:
                field = taker.inputs[taker.tab.takes]
                widgets.use_in(source.outputs, taker.tab.name, field, bar, studio.folder)


def split(studio: Studio) -> tuple[list[Tab], list[tuple[Tab, str]]]:
    """Returns the tabs that a bundle can do, and the others with what it lacks for them."""
    lacking = [(tab, tab.lacks(studio)) for tab in TABS]
    return [tab for tab, lack in lacking if not lack], [pair for pair in lacking if pair[1]]
