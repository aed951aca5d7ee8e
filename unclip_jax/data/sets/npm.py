"""Public npm packages as data: fetched once with the ordinary npm client, verified and cached.

Only `npm pack NAME@VERSION` is run; nothing of a package is installed or executed, its tarball is
read as an archive.
"""

import base64
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import scratch_for

_TIMEOUT_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Package:
    """One pinned package.

    Attributes:
        name: npm name, with scope.
        version: exact version.
        integrity: the registry's "sha512-..." of the tarball; "" skips the check.
        license: SPDX expression for the parts that are used.
        credit: authors, for the attribution.
        source: URL of the project.
    """

    name: str
    version: str
    integrity: str = ""
    license: str = ""
    credit: str = ""
    source: str = ""

    @property
    def spec(self) -> str:
        """The argument of npm: NAME@VERSION."""
        return f"{self.name}@{self.version}"

    @property
    def filename(self) -> str:
        """The name that `npm pack` gives the tarball."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def fetch(package: Package, folder: Path) -> Path:
    """Returns the package's tarball in `folder`, running npm if it is not there yet.

    Raises:
        UserError: npm is missing, cannot reach the package, or the tarball is not the pinned one.
    """
    path = folder / package.filename
    if path.exists():
        if matches(path, package.integrity):
            return path
        raise UserError(f"{path} is not {package.spec} as pinned; delete it and run again")
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"npm is needed to fetch {package.spec} and was not found; install Node.js, or copy "
            f"{package.filename} to {folder}"
        )
    with scratch_for(path) as scratch:
        packed = scratch / _pack(npm, package, str(scratch))
        if not matches(packed, package.integrity):
            raise UserError(f"npm sent a {package.spec} that is not the pinned one; it was deleted")
        os.replace(packed, path)
    return path


def matches(path: Path, integrity: str) -> bool:
    """Whether the file has the given "sha512-BASE64" digest; "" matches any file."""
    if not integrity:
        return True
    algorithm, _, expected = integrity.partition("-")
    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return base64.b64encode(digest).decode() == expected


def read_tarball(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Returns the wanted members of a package tarball: path below "package/" -> bytes."""
    members = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.partition("/")[2]
                if member.isfile() and wanted(name):
                    members[name] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; delete it and run again") from error
    return members


def _pack(npm: str, package: Package, folder: str) -> str:
    """Runs npm pack; returns the name of the tarball."""
    command = [npm, "pack", package.spec, "--json", "--pack-destination", folder]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"npm did not answer for {package.spec} within {_TIMEOUT_SECONDS} s; "
            "check the network and run again"
        ) from error
    if done.returncode != 0:
        raise UserError(f"npm could not fetch {package.spec}: {_reason(done.stderr, done.stdout)}")
    try:
        return json.loads(done.stdout)[0]["filename"].lstrip("@").replace("/", "-")
    except (ValueError, LookupError, TypeError):
        return package.filename


def _reason(stderr: str, stdout: str) -> str:
    """Returns the most informative line of npm's output."""
    lines = [line.strip() for line in (stderr + "\n" + stdout).splitlines() if line.strip()]
    for word in ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "network"):
        if any(word in line for line in lines):
            return f"no network ({word}); check the connection and run again"
    return lines[-1] if lines else "no reason given"
