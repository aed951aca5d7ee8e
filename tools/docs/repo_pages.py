"""Markdown files outside docs/ as pages of the site: their places there, and links to them."""

import posixpath
import re

PAGES = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "launch/README.md": "hosts.md",
    "benchmarks/README.md": "benchmarks.md",
    "unclip_jax/bundles/emoji/README.md": "model_card.md",
}
"""Path in the repository -> path in the site."""

GENERATED = {
    "docs/tour.ipynb": "tour.md",
    "unclip_jax/api.py": "reference/python.md",
    "unclip_jax/cli": "reference/commands.md",
    "unclip_jax/train/sections.py": "reference/config.md",
}
"""Source that a reader of the checkout is sent to -> the page that is made of it in the site."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)


def source_of(page: str) -> str:
    """Returns the path in the repository that a page of the site is made from."""
    return next((source for source, name in PAGES.items() if name == page), f"docs/{page}")


def page_of(source: str) -> str | None:
    """Returns the page that a file of the repository has become; None if it is not in the site."""
    source = source.rstrip("/")
    for name in (source, f"{source}/README.md"):
        if name in PAGES or name in GENERATED:
            return PAGES.get(name) or GENERATED[name]
    return source.removeprefix("docs/") if source.startswith("docs/") else None


def rewrite_links(markdown: str, page: str) -> str:
    """Returns a page's Markdown with links as the site needs them.

    A link to a file that has become a page goes to that page; one to any other file of the
    repository becomes its text, since the site does not hold the file.
    """
    folder = posixpath.dirname(source_of(page))

    def rewrite(match: re.Match[str]) -> str:
        target = match["target"]
        if ":" in target:
            return match[0]
        found = page_of(posixpath.normpath(posixpath.join(folder, target)))
        if found is None:
            return match["text"]
        relative = posixpath.relpath(found, posixpath.dirname(page) or ".")
        return f"[{match['text']}]({relative}{match['anchor'] or ''})"

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(rewrite, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(rewrite, markdown[end:])])
