"""Lists what is installed as a CycloneDX SBOM and looks each package up for known vulnerabilities.

    python .ci/audit.py TOOLS PYTHON FOLDER

TOOLS is the folder with pip-audit and cyclonedx-py, PYTHON the interpreter whose packages are
audited; FOLDER gets sbom.cdx.json and audit.json. The exit status is 1 where a vulnerability is
known, 0 where none is or where the advisory service did not answer, which is said.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def write_sbom(tools: Path, python: str, out: Path) -> None:
    """Writes the SBOM; cyclonedx-py's own failure is the caller's."""
    command = [tools / "cyclonedx-py", "environment", "--output-reproducible", "-o", out, python]
    subprocess.run(command, check=True)


def look_up(tools: Path, python: str, out: Path) -> list[dict] | None:
    """Returns what pip-audit found for each package, or None where it got no answer."""
    out.unlink(missing_ok=True)
    command = [tools / "pip-audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    subprocess.run(
        [*command, "--timeout", "15", "-f", "json", "-o", out],
        env=os.environ | {"PIPAPI_PYTHON_LOCATION": python},
        stderr=subprocess.DEVNULL,
        check=False,  # 1 stands for vulnerabilities and for failures; the file tells them apart
    )
    return json.loads(out.read_text())["dependencies"] if out.is_file() else None


def report(packages: list[dict] | None, write) -> int:
    """Writes a line a vulnerability and one for all; returns the exit status."""
    checked = [package for package in packages or [] if "vulns" in package]
    if not checked:
        write("audit: no answer from the advisory service; nothing was checked\n")
        return 0
    count = 0
    for package in checked:
        for found in package["vulns"]:
            count += 1
            fixed = ", ".join(found.get("fix_versions", [])) or "no release yet"
            write(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}\n")
    write(f"audit: {count} known vulnerabilities in {len(checked)} of {len(packages)} packages\n")
    return 1 if count else 0


def main(tools: str, python: str, folder: str) -> int:
    """Writes both files and the report."""
    out, tools = Path(folder), Path(tools).absolute()
    out.mkdir(parents=True, exist_ok=True)
    python = str(Path(python).absolute())
    write_sbom(tools, python, out / "sbom.cdx.json")
    sys.stdout.write(f"SBOM: {out / 'sbom.cdx.json'}\n")
    return report(look_up(tools, python, out / "audit.json"), sys.stdout.write)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
