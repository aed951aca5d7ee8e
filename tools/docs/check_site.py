"""Checks the built site: index.html is there, and no page loads anything from another host.

python -m tools.docs.check_site site
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
PASSIVE = {"canonical", "alternate", "license", "next", "prev"}  # relations that load nothing
REMOTE = re.compile(r"(https?:)?//")
CSS_REMOTE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^)'"]+)""")


class Loads(HTMLParser):
    """Collects what a page makes a browser load from another host."""

    def __init__(self):
        """Starts with nothing found."""
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Looks at an element's address and inline style."""
        values = {name: value or "" for name, value in attrs}
        address = values.get(LOADING.get(tag, ""), "")
        is_passive = tag == "link" and values.get("rel") in PASSIVE
        if REMOTE.match(address) and not is_passive:
            self.found.append(address)
        self.found += CSS_REMOTE.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Looks at the text of style sheets in the page."""
        self.found += CSS_REMOTE.findall(data)


def remote_loads(site: Path) -> list[str]:
    """Returns "FILE: ADDRESS" for everything that the site loads from another host."""
    found = []
    for path in sorted(site.rglob("*.html")):
        page = Loads()
        page.feed(path.read_text(encoding="utf-8"))
        found += [f"{path}: {address}" for address in page.found]
    for path in sorted(site.rglob("*.css")):
        addresses = CSS_REMOTE.findall(path.read_text(encoding="utf-8"))
        found += [f"{path}: {address}" for address in addresses]
    return found


def main(site: Path) -> int:
    """Prints what is wrong with a built site; returns the exit code."""
    if not (site / "index.html").is_file():
        sys.stderr.write(f"{site}/index.html is missing\n")
        return 1
    found = remote_loads(site)
    sys.stderr.writelines(f"loads from another host: {line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
