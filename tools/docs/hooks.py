"""MkDocs hook: adds the pages that are generated, and follows links to files outside docs/.

Nothing that it generates is committed: the help of every command, the fields of the configs, a page
for each folder of the package, the tour's notebook as a page, and pages made of Markdown files from
elsewhere in the repository.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.docs import api_pages, commands, config_fields
from tools.docs.notebook_pages import notebook_page
from tools.docs.repo_pages import PAGES, rewrite_links

ROOT = Path(__file__).resolve().parents[2]

TOUR = ROOT / "docs" / "tour.ipynb"
ASSETS = {"curves.png": "unclip_jax/bundles/emoji/curves.png"}


def generated_pages() -> dict[str, str]:
    """Returns the generated pages' Markdown by their path in the site."""
    pages = {"reference/commands.md": commands.page(), "reference/config.md": config_fields.page()}
    pages |= api_pages.pages(ROOT / "unclip_jax")
    for source, page in PAGES.items():
        pages[page] = (ROOT / source).read_text(encoding="utf-8")
    return pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages and the images they show."""
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    for path, source in ASSETS.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / source)))
    text, images = notebook_page(TOUR)
    files.append(File.generated(config, "tour.md", content=text))
    for name, data in images.items():
        files.append(File.generated(config, name, content=data))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links at the pages that files outside docs/ have become."""
    return rewrite_links(markdown, page.file.src_uri)
