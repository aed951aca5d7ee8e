"""Runs a page's blocks in one folder: bash itself, whose `unclip` is one process that stays.

Commands run as they are written but for their size: a config becomes its smoke variant and sizes in
pixels those of the small model. What a user has to have beforehand is there: images, the packages
that npm would fetch, and a small model where a page speaks of the one that ships.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import select
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.hosts import UNOPTIMIZED

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"64": "16", "256": "32"}
SHIM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect({address!r})
    request = {{"args": sys.argv[1:], "cwd": os.getcwd()}}
    link.sendall(json.dumps(request).encode() + b"\\n")
    answer = json.load(link.makefile())
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["code"])
"""


def smoke(args: list[str]) -> list[str]:
    """Returns a command's words with the smallest variant of its config and small sizes."""
    made = [f"{word}:smoke" if re.fullmatch(r"configs/\S+\.py", word) else word for word in args]
    for i, word in enumerate(made[:-1]):
        if word == "--size":
            made[i + 1] = SIZES.get(made[i + 1], made[i + 1])
    return made


def smoke_text(text: str) -> str:
    """Returns a bash block with the smallest variant of its configs, for a shell of its own."""
    return re.sub(r"(configs/\S+\.py)(?=\s)", r"\1:smoke", text)


class Shell:
    """A process that runs `unclip` and Python for the blocks of all pages."""

    def __init__(self, folder: Path, **variables: str):
        """Starts it; `folder` gets the shim and the socket."""
        self._address = str(folder / "socket")
        shim = folder / "bin" / "unclip"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(python=sys.executable, address=self._address))
        shim.chmod(0o755)
        path = f"{shim.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = {**os.environ, **variables, "PATH": path, "PYTHONPATH": str(ROOT)}
        # One device, as on a user's machine: eight would compile everything for eight.
        self._env["JAX_NUM_CPU_DEVICES"] = "1"
        self._env["XLA_FLAGS"] = UNOPTIMIZED
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._address)
            listening.listen()
            command = [sys.executable, "-m", "tests.docs.shell", str(listening.fileno())]
            self._server = subprocess.Popen(
                command, env=self._env, pass_fds=[listening.fileno()], cwd=ROOT
            )

    def close(self) -> None:
        """Ends the process."""
        self._server.kill()
        self._server.wait()

    def use_model(self, bundle: Path) -> None:
        """Makes `bundle` the one that ships under the name "emoji"."""
        self._ask({"model": str(bundle)})

    def bash(self, text: str, folder: Path) -> str:
        """Runs a bash block and returns its stdout.

        Raises:
            AssertionError: if one of its commands fails.
        """
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stderr[-3000:]}"
        return done.stdout

    def python(self, text: str, folder: Path) -> None:
        """Runs a Python block, with what earlier ones of the same folder have defined.

        Raises:
            AssertionError: if it raises.
        """
        answer = self._ask({"python": text, "cwd": str(folder)})
        assert answer["code"] == 0, f"{text}\n{answer['err'][-3000:]}"

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(self._address)
            link.sendall(json.dumps(request).encode() + b"\n")
            return json.load(link.makefile())


def serve(listening: socket.socket) -> None:
    """Answers requests one after the other until the process, or its parent, is ended."""
    unpin_packages()
    namespaces: dict[str, dict[str, Any]] = {}
    parent = os.getppid()
    while True:
        ready = select.select([listening], [], [], 5.0)[0]
        if os.getppid() != parent:  # the tests were killed
            return
        if not ready:
            continue
        link, _ = listening.accept()
        with link:
            request = json.loads(link.makefile().readline())
            link.sendall(json.dumps(answer(request, namespaces)).encode())


def answer(request: dict[str, Any], namespaces: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Runs one command, Python block or change of the model; returns code, out and err."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "model" in request:
                ship(Path(request["model"]))
            elif "python" in request:
                os.chdir(request["cwd"])
                names = namespaces.setdefault(request["cwd"], {"__name__": "__main__"})
                exec(request["python"], names)
            else:
                os.chdir(request["cwd"])
                run_command(request["args"])
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:  # noqa: BLE001 (whatever a block raises is its result)
            traceback.print_exc()
            code = 1
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def run_command(args: list[str]) -> None:
    """Runs `unclip` at smoke size."""
    from unclip_jax.cli.main import main

    main(smoke(args))


def ship(bundle: Path) -> None:
    """Lets the name "emoji" mean a small model."""
    from unclip_jax.checkpoint import bundle as bundles

    folder = bundle.parent / "shipped"
    folder.mkdir(exist_ok=True)
    (folder / "emoji").symlink_to(bundle)
    bundles.SHIPPED = folder


def unpin_packages() -> None:
    """Takes small tarballs in place of what npm would fetch, whose hashes are others."""
    from unclip_jax.data.sets import emoji

    def unpinned(package: Any) -> Any:
        return dataclasses.replace(package, integrity="")

    emoji.PACKAGES = {name: unpinned(package) for name, package in emoji.PACKAGES.items()}
    emoji.NAMES = unpinned(emoji.NAMES)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
