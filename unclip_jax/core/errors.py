"""The one exception whose message is meant for the person at the keyboard."""

LONGEST = 900  # characters of a message; what a file or a flag holds may be of any length
JOINER = "\u200d"  # within emoji; every other invisible character is spelled out


class UserError(Exception):
    """Something the user can put right: one line that names the thing and the remedy.

    The command line prints it as `unclip: error: MESSAGE` and exits with 2; a traceback would add
    nothing. A fault of the program itself is never a UserError.
    """

    def __init__(self, message: str):
        """Keeps `message` one printable line of bounded length, whatever was put into it."""
        super().__init__(shorten(one_line(message)))


def one_line(text: str) -> str:
    """Returns a text as one line that a terminal shows as it stands."""
    return "".join(map(_visible, " ".join(text.split())))


def shorten(text: str, longest: int = LONGEST) -> str:
    """Cuts out the middle of a text that is too long: its end may be the remedy."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 5]} ... {text[-tail:]}"


def _visible(character: str) -> str:
    if character.isprintable() or character == JOINER:
        return character
    return ascii(character)[1:-1]  # control characters, lone surrogates, changes of direction
