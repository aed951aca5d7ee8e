"""Many visitors of `unclip demo` at once: does everybody get the own images, and does memory grow?

python benchmarks/demo_load.py --users 20 --requests 5

Serves the page in a process of its own and lets every user ask for one image after the other, each
with another prompt and seed. Afterwards each image is compared with that of `unclip_jax.sample`.
Prints how long users waited, and the resident memory of the server at the start (after the first
request, whose programs are compiled), in the middle and at the end.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import jax
import numpy as np
from commands import COUNT, Benchmark
from gradio_client import Client
from PIL import Image

import unclip_jax
from unclip_jax.demo.choices import PROMPTS

STEPS, SIZE = 10, 64
PATIENCE = 900.0  # seconds that a user waits; longer counts as hanging


@dataclasses.dataclass(frozen=True)
class Ask:
    """One request of one user."""

    prompt: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back, and after how many seconds."""

    ask: Ask
    image: np.ndarray
    seconds: float


@click.command(cls=Benchmark)
@click.option("--users", default=20, show_default=True, type=COUNT)
@click.option("--requests", default=5, show_default=True, type=COUNT, help="Of each user.")
def main(users: int, requests: int) -> None:
    """Runs the users and prints the figures as JSON; fails if an image is not the right one."""
    plans = [
        [Ask(PROMPTS[(u + r) % len(PROMPTS)], 1000 * u + r) for r in range(requests)]
        for u in range(users)
    ]
    with served() as (address, process):
        first = visit(address, [Ask(PROMPTS[0], 999_999)])
        memory, load, start = [resident(process.pid)], [os.getloadavg()[0]], time.monotonic()
        with ThreadPoolExecutor(users) as pool:
            running = [pool.submit(visit, address, plan) for plan in plans]
            while not all(user.done() for user in running):
                time.sleep(1.0)
                memory.append(resident(process.pid))
                load.append(os.getloadavg()[0])
            answers = [answer for user in running for answer in user.result()]
        seconds = time.monotonic() - start
    wrong = compare([*first, *answers])
    waits = sorted(answer.seconds for answer in answers)
    figures = {
        "users": users,
        "requests": len(answers),
        "seconds": round(seconds, 1),
        "wait_median": round(statistics.median(waits), 1),
        "wait_95": round(waits[int(0.95 * (len(waits) - 1))], 1),
        "memory_MiB": [memory[0], memory[len(memory) // 2], memory[-1]],
        "memory_most_MiB": max(memory),
        "wrong_images": wrong,
        "load_mean": round(statistics.mean(load), 1),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "gradio")},
    }
    click.echo(json.dumps(figures, indent=1))
    sys.exit(1 if wrong else 0)


@contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen]]:
    """Runs `unclip demo`; yields its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "unclip_jax", "demo", "--no-browser", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        urllib.request.urlopen(address, timeout=30).close()
        yield address, process
    finally:
        process.terminate()
        process.wait(30)


def visit(address: str, plan: Sequence[Ask]) -> list[Answer]:
    """Asks for one image after the other, as one user with a session of its own."""
    client, answers = Client(address, verbose=False), []
    for ask in plan:
        start = time.monotonic()
        job = client.submit(
            **{"api_name": "/sample", "num": 1, "steps": STEPS, "size": SIZE},
            **{"prompt": ask.prompt, "seed": str(ask.seed)},
        )
        images, *_ = job.result(timeout=PATIENCE)
        with Image.open(images[0]["image"]) as image:
            answers.append(Answer(ask, np.asarray(image), time.monotonic() - start))
    return answers


def compare(answers: Sequence[Answer]) -> int:
    """Counts the images that are not those of the Python call, up to rounding."""
    model, wrong = unclip_jax.load("emoji"), 0
    for answer in answers:
        key = jax.random.key(answer.ask.seed)
        settings = {"steps": STEPS, "size": SIZE}
        (expected,) = unclip_jax.sample(model, answer.ask.prompt, key=key, **settings)
        wrong += int(np.abs(answer.image.astype(int) - expected).max() > 1)
    return wrong


def resident(pid: int) -> int:
    """Returns a process's resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


if __name__ == "__main__":
    main()
