"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right: one line that names the thing and the remedy.

    The command line prints it as `unclip: error: MESSAGE` and exits with 2; a traceback would add
    nothing. A fault of the program itself is never a UserError.
    """

    def __init__(self, message: str):
        """Keeps `message` on one line, whatever was interpolated into it."""
        super().__init__(" ".join(message.split()))
