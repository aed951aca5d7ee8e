"""A bundle's name in place of the bundle is one line, whatever is called."""

import subprocess
import sys

CALLS = """
import numpy as np
import unclip_jax

image = np.zeros((1, 8, 8, 3), np.uint8)
calls = {
    "sample": ("a",),
    "vary": (image,),
    "interpolate": (image, image),
    "edit": (image, "a"),
    "reconstruct": (image,),
    "inpaint": (image, np.ones((1, 8, 8), bool), "a"),
    "mix": (["a", "b"],),
    "classify": (image, ["a"]),
    "embed_text": (["a"],),
    "embed_image": (image,),
}
for name, args in calls.items():
    try:
        getattr(unclip_jax, name)("emoji", *args)
    except unclip_jax.UserError as error:
        print(name, error)
"""


WRONG = """
import unclip_jax
from unclip_jax.sampling.pipeline import requests_for

calls = (
    lambda: unclip_jax.load(3),
    lambda: requests_for([3], 1),
    lambda: requests_for(["a"], 1.5),
    lambda: requests_for(["a"], 0),
)
for call in calls:
    try:
        call()
    except unclip_jax.UserError as error:
        print(error)
"""


def test_arguments_of_another_type_are_one_line():
    run = [sys.executable, "-c", WRONG]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "a bundle is a name or a folder, not 3",
        "the prompt must be a string, not 3",
        "num must be an integer from 1, not 1.5",
        "num must be an integer from 1, not 0",
    ]


def test_a_name_is_no_bundle():
    """In a process of its own: here the tests' type checks would come first."""
    run = [sys.executable, "-c", CALLS]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert len(said) == 10
    assert set(said.values()) == {
        "model must be a bundle, not 'emoji'; load one: unclip_jax.load(NAME or FOLDER)"
    }
