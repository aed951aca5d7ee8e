"""What the page says when it refuses something: one line."""

from typing import Any

import gradio as gr
from gradio.exceptions import ComponentProcessingError

from unclip_jax.core.errors import UserError

WRONG = (ComponentProcessingError, ValueError, TypeError, LookupError, AttributeError, OSError)
"""What gradio raises for values of a wrong form."""


def is_url(value: Any) -> bool:
    """Whether a value has a file that gradio would fetch from elsewhere."""
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str) and "://" in path:
            return True
        return any(map(is_url, value.values()))
    return isinstance(value, list) and any(map(is_url, value))


def reason(error: Exception) -> str:
    """Returns the line of a UserError that gradio has wrapped; "" for anything else."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    return "" if cause is None else str(cause)


def refusal(message: str) -> gr.Error:
    """Returns an error that the visitor sees as one line of text.

    The page shows an error as HTML, and other clients as it is: so there are no angle brackets.
    """
    line = str(UserError(message)).replace("<", "‹").replace(">", "›")
    return gr.Error(line, print_exception=False)
