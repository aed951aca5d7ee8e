"""Looks at the body of every call before gradio does, and knows who listens for an answer.

Gradio answers a call that it cannot read with a traceback in the log, and keeps its session's name
for statistics, whatever is in it. So calls of a wrong form are refused here, in one line.
"""

import asyncio
import collections
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from gradio.block_function import BlockFunction

from unclip_jax.demo.refusals import WRONG

PREFIX = "/gradio_api/"
JOIN, CALL = "queue/join", "call/"
CALLS = (JOIN, CALL, "run/", "api/")
FIELDS = ("data", "session_hash", "event_data", "fn_index", "trigger_id", "event_id")
MOST_BYTES = 2**20  # of a call, which is text and names of uploads
MOST_VALUES = 64
SESSION = re.compile("[A-Za-z0-9_-]{1,64}")
PATIENCE, LOOKS, PAUSE = 10.0, 40, 0.05  # seconds, at least, until somebody listens for an answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A call that is answered with a status and one line."""

    def __init__(self, status: int, line: str):
        """Keeps both."""
        super().__init__(line)
        self.status, self.line = status, line


class Listeners:
    """The sessions and events whose answers somebody reads, with their number of readers."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._readers: collections.Counter[str] = collections.Counter()

    def begin(self, name: str) -> None:
        """Counts a reader of a session or an event."""
        self._readers[name] += 1

    def end(self, name: str) -> None:
        """Counts a reader less."""
        self._readers[name] -= 1
        if self._readers[name] <= 0:
            del self._readers[name]

    async def come(self, names: tuple[str, ...], since: float) -> bool:
        """Waits until somebody listens, to PATIENCE after `since` and for LOOKS pauses.

        The pauses let those be heard who came while the server was busy with something else.

        Args:
            names: of the session and of the event.
            since: when the call came, by time.monotonic().
        """
        looks = 0
        while not any(name in self._readers for name in names):
            if looks >= LOOKS and time.monotonic() - since > PATIENCE:
                return False
            await asyncio.sleep(PAUSE)
            looks += 1
        return True


class Desk(NamedTuple):
    """What the guard knows of the page.

    Attributes:
        functions: of the page's events, by number.
        most_waiting: calls that may wait; `waiting` counts them.
        is_known: whether a session or an event has an answer to read.
    """

    functions: Mapping[int, BlockFunction]
    listeners: Listeners
    waiting: Callable[[], int]
    most_waiting: int
    is_known: Callable[[str], bool]


class Guard:
    """ASGI middleware that refuses calls of a wrong form."""

    def __init__(self, app: App, desk: Callable[[], Desk]):
        """Stands before `app`."""
        self._app, self._desk = app, desk

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request, or lets the application do it."""
        route = scope.get("path", "").partition(PREFIX)[2] if scope["type"] == "http" else ""
        try:
            if scope.get("method") == "POST" and route:
                await self._post(scope, route, receive, send)
            elif name := listened_to(route, scope):
                await self._listen(scope, name, receive, send)
            else:
                await self._app(scope, receive, send)
        except Refused as refused:
            await answer(send, refused)

    async def _listen(self, scope: Message, name: str, receive: Receive, send: Send) -> None:
        desk = self._desk()
        if not desk.is_known(name):
            raise Refused(404, "there is no such call")
        desk.listeners.begin(name)
        try:
            await self._app(scope, receive, send)
        finally:
            desk.listeners.end(name)

    async def _post(self, scope: Message, route: str, receive: Receive, send: Send) -> None:
        if is_json(scope, route):
            body = decoded(await whole(receive))
            if route.startswith(CALLS):
                self._check(route, body)
                body = {name: body[name] for name in FIELDS if name in body}
            receive = replayed(json.dumps(body).encode(), receive)
            scope = {**scope, "headers": without_length(scope["headers"])}
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except WRONG as error:
            if begun:
                raise
            raise Refused(400, "the call has a wrong form") from error

    def _check(self, route: str, body: Mapping[str, Any]) -> None:
        """Refuses a call of no function, with too many values, or without its event's data."""
        desk = self._desk()
        function = called(route, body, desk.functions)
        if function is None or function.fn is None:
            raise Refused(404, "there is no such function")
        if not isinstance(body.get("data"), list | dict) or len(body["data"]) > MOST_VALUES:
            raise Refused(400, f"data must be a list of at most {MOST_VALUES} values")
        event = body.get("event_data")
        place = event.get("index") if isinstance(event, dict) else None
        if function.collects_event_data and not (type(place) is int and place >= 0):
            raise Refused(400, "event_data is missing")
        if function.queue and desk.waiting() >= desk.most_waiting:
            raise Refused(503, f"{desk.most_waiting} requests wait already; try again in a minute")


def is_json(scope: Message, route: str) -> bool:
    """Whether a request's body is read as JSON; uploads and the layers of paintings are files."""
    form = dict(scope["headers"]).get(b"content-type", b"").lower()
    return not form.startswith(b"multipart/") or route.startswith(CALLS)


def without_length(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns the headers without the length of the body, which may have changed."""
    return [pair for pair in headers if pair[0].lower() != b"content-length"]


def listened_to(route: str, scope: Message) -> str:
    """Returns the session or the event whose answer a request reads; "" if it reads none."""
    if scope.get("method") != "GET":
        return ""
    if route == "queue/data":
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return query.get("session_hash", [""])[0] or "-"
    return route.rpartition("/")[2] if route.startswith(CALL) else ""


async def whole(receive: Receive) -> bytes:
    """Reads a body of at most MOST_BYTES."""
    data, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the call is not complete")
        data += message.get("body", b"")
        more = message.get("more_body", False)
        if len(data) > MOST_BYTES:
            raise Refused(413, f"the call has more than {MOST_BYTES:,} bytes")
    return data


def replayed(data: bytes, receive: Receive) -> Receive:
    """Returns what gives a body that has been read once more, and then what comes after it."""
    kept = [{"type": "http.request", "body": data, "more_body": False}]

    async def next_message() -> Message:
        return kept.pop() if kept else await receive()

    return next_message


def decoded(data: bytes) -> dict[str, Any]:
    """Reads a JSON object whose text is valid Unicode and whose session has a plain name."""
    try:
        body = json.loads(data or b"{}", parse_constant=float)
        json.dumps(body, ensure_ascii=False).encode()  # fails for lone surrogates
    except (ValueError, RecursionError):
        raise Refused(400, "the call is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "the call must be a JSON object")
    session = body.get("session_hash")
    if session is not None and not (isinstance(session, str) and SESSION.fullmatch(session)):
        raise Refused(400, "session_hash must have 1 to 64 letters, digits, - or _")
    return body


def called(
    route: str, body: Mapping[str, Any], functions: Mapping[int, BlockFunction]
) -> BlockFunction | None:
    """Returns the function that a call names by number or, in its address, by name."""
    index = None if route.startswith(CALL) else body.get("fn_index")
    if index is not None or route.startswith(JOIN):
        return functions.get(index) if type(index) is int else None
    name = route.rstrip("/").rpartition("/")[2]
    return next((found for found in functions.values() if found.api_name == name), None)


async def answer(send: Send, refused: Refused) -> None:
    """Sends a refusal as gradio's own are sent."""
    data = json.dumps({"detail": refused.line}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
