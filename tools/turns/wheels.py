"""Wheels of the packages that the other machine lacks: downloaded here, unpacked there."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import new_folder, read_mapping, scratch_for

ROOT = Path(__file__).resolve().parents[2]
MADE = "made.json"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "any")
LIBRARIES = ("purelib", "platlib")  # folders of NAME.data that belong to the packages


def download(names: Sequence[str], python: str, out: Path) -> None:
    """Downloads wheels for a Python of Linux on x86-64 into a folder, unless they are there.

    Versions are those of the pins for that Python. Dependencies are not followed: the names are all
    there is. A name that fails stops the others of its call, so that each is then tried by itself.

    Raises:
        UserError: a wheel cannot be downloaded; all that failed are named.
    """
    pins = _pins(python)
    made = {"names": list(names), "python": python, "pins": pins.read_text(encoding="utf-8")}
    if (out / MADE).exists() and read_mapping(out / MADE) == made:
        return
    with new_folder(out, MADE, overwrite=True) as fresh:
        failed = [] if _download(names, python, pins, fresh) else names
        failed = [name for name in failed if not _download([name], python, pins, fresh)]
        failed = [name for name in failed if not _build(name, pins, fresh)]
        if failed:
            raise UserError(
                f"no wheel for Python {python} could be downloaded of {', '.join(failed)}; check "
                "the network and the names in the plan, or pass --wheels none"
            )
        (fresh / MADE).write_text(json.dumps(made) + "\n", encoding="utf-8")


def _pins(python: str) -> Path:
    suffix = "" if python == "3.11" else f"-py{python.replace('.', '')}"
    pins = ROOT / f"requirements{suffix}.txt"
    if not pins.is_file():
        raise UserError(f"there are no pins for Python {python}; --python must be 3.11 to 3.13")
    return pins


def _download(names: Sequence[str], python: str, pins: Path, out: Path) -> bool:
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    options += [word for platform in PLATFORMS for word in ("--platform", platform)]
    return _pip("download", *options, "--constraint", str(pins), "--dest", str(out), *names)


def _build(name: str, pins: Path, out: Path) -> bool:
    """Builds the wheel of a package that is published as source only, if any Python can use it."""
    with scratch_for(out / name) as scratch:
        if not _pip("wheel", "--constraint", str(pins), "--wheel-dir", str(scratch), name):
            return False
        pure = [path for path in scratch.glob("*.whl") if path.name.endswith("-none-any.whl")]
        for path in pure:
            os.replace(path, out / path.name)
        return bool(pure)


def _pip(command: str, *words: str) -> bool:
    call = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps"]
    call += ["--disable-pip-version-check", *words]
    return subprocess.run(call, capture_output=True, text=True, check=False).returncode == 0


def unpack(folder: Path, site: Path, python: str) -> int:
    """Unpacks the wheels of a folder into `site`, which replaces an earlier one.

    A wheel is a zip of what it installs: no pip and no network is needed, and nothing of the system
    is touched. Its scripts are left out.

    Returns:
        The number of wheels.

    Raises:
        UserError: a wheel is damaged, or the wheels are for another Python than this one.
    """
    wheels = sorted(folder.glob("*.whl"))
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if wheels and python != running:
        raise UserError(
            f"the wheels are for Python {python}, and this one is {running}; pack with "
            f"--python {running}"
        )
    if site.exists():
        shutil.rmtree(site)
    with new_folder(site, MADE) as fresh:
        for wheel in wheels:
            _unpack(wheel, fresh)
        (fresh / MADE).write_text("{}\n", encoding="utf-8")
    return len(wheels)


def _unpack(wheel: Path, site: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                parts = PurePosixPath(member.filename).parts
                if parts and parts[0].endswith(".data"):
                    parts = parts[2:] if parts[1:2] and parts[1] in LIBRARIES else ()
                if member.is_dir() or not parts:
                    continue
                if ".." in parts or parts[0].startswith("/"):
                    raise UserError(f"{wheel} names {member.filename!r}, outside of its folder")
                path = site.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise UserError(f"{wheel} is damaged: {error}; pack again") from error
