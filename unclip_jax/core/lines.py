"""Text files with one entry a line, such as lists of prompts."""

from pathlib import Path

from unclip_jax.core.errors import UserError

FILE_LIMIT = 256 << 20  # bytes


def read_lines(path: str | Path, *, what: str = "", entry: str = "line") -> list[str]:
    """Reads the lines of a UTF-8 file, without the blank ones and the space around each.

    Args:
        what: named before the path in messages, e.g. the option that took it.
        entry: what a line is.

    Raises:
        UserError: the file is missing, too large, not UTF-8, or has no entry.
    """
    named = f"{what} {path}" if what else str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_LIMIT + 1)
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {named}: it is not UTF-8 text") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {named}: {reason}") from error
    if len(data) > FILE_LIMIT:
        raise UserError(f"{named} is larger than {FILE_LIMIT >> 20} MiB; split it")
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise UserError(f"{named} contains no {entry}")
    return found
