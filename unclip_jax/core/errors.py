"""The exception whose message is meant for the user."""

LONGEST = 900  # characters of a message; values from files and flags may be of any length
JOINER = "\u200d"  # within emoji; every other invisible character is escaped


class UserError(Exception):
    """An error that the user can fix: one line that names the problem and the remedy.

    The command line prints `unclip: error: MESSAGE` without a traceback and exits with 2. A bug of
    the program itself is never a UserError.
    """

    def __init__(self, message: str):
        """Reduces `message` to one printable line of bounded length."""
        super().__init__(shorten(one_line(message)))


def one_line(text: str) -> str:
    """Returns a text as one line without control characters."""
    return "".join(map(_visible, " ".join(text.split())))


def shorten(text: str, longest: int = LONGEST) -> str:
    """Cuts the middle out of a text that is too long; its end may be the remedy."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 5]} ... {text[-tail:]}"


def _visible(character: str) -> str:
    if character.isprintable() or character == JOINER:
        return character
    return ascii(character)[1:-1]  # control characters, lone surrogates, bidirectional marks
