"""The environment of a run: versions, XLA's flags, devices, commit; one entry per start."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import free_path, read_json, whole_file
from unclip_jax.train.metrics import Log, no_log

PACKAGES = ("unclip_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def environment() -> dict[str, Any]:
    """Returns the environment of this process as JSON-able values."""
    devices = jax.devices()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "devices": len(devices),
        "device_kind": devices[0].device_kind,
        "processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
    }


def write_environment(path: Path, log: Log = no_log) -> None:
    """Appends this start's environment to the list in environment.json.

    An unreadable file is kept under another name, and a new list begun.
    """
    try:
        entries = read_json(path) if path.exists() else []
        if not isinstance(entries, list):
            raise UserError(f"{path} does not hold a list")
    except UserError as error:
        aside = free_path(path.with_name(f"{path.name}.damaged"))
        os.replace(path, aside)
        log(f"{error}; it is kept as {aside}, and a new one begun")
        entries = []
    with whole_file(path) as part:
        part.write_text(json.dumps([*entries, environment()], indent=1) + "\n", encoding="utf-8")


def git_commit() -> str | None:
    """Returns the commit of a source checkout; None for an installed package or without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
