"""Pages of the Python API: the public calls, and one page for each folder of the package.

The pages hold mkdocstrings' directives; the text is that of the docstrings.
"""

import ast
from pathlib import Path

PACKAGES = {
    "diffusion": "Schedules, losses, guidance and samplers. They know arrays only, no networks.",
    "nn": "Layers, attention, transformer stacks and U-Net blocks.",
    "models": "The networks, their configs and the table of stages.",
    "sampling": "From captions and images to images.",
    "train": "The training loop, tasks, optimizers, sharding and metrics.",
    "data": "Sources, readers, the input pipeline and stores of embeddings.",
    "checkpoint": "Bundles, runs and checkpoints.",
    "convert": "Published weights to bundles and back.",
    "plan": "What a training run costs, estimated and compiled.",
    "evals": "Evaluation suites and their metrics.",
    "demo": "The web page of `unclip demo`.",
    "workflows": "Jobs behind the commands: exports, embeddings, model cards.",
    "text": "The tokenizer.",
    "core": "Configs, keys, trees, files, locks and errors.",
}
"""Folders of the package that have a page, with what is said of them."""

SETTINGS = ("SampleSettings", "LatentSettings")
ABOUT_SETTINGS = """What the calls take as `**settings`. Pass the fields as keyword arguments:
`unclip_jax.sample(model, prompts, size=64, guidance=2.0)`.
"""

INTRO = """# Python API

```python
import jax
import unclip_jax

model = unclip_jax.load("emoji")
images = unclip_jax.sample(model, ["a red heart"], key=jax.random.key(0), num=4)
```

The calls below are pure functions of a bundle, inputs and a key. Everything under `unclip_jax.` is
importable from the package itself. An error that you can fix is a `UserError`.

## Packages

Each folder of `unclip_jax` has a page of its own.

"""


def pages(package: Path) -> dict[str, str]:
    """Returns the Markdown of all API pages by their path in the site."""
    made = {"reference/python.md": INTRO + _index() + _public(package)}
    for name, about in PACKAGES.items():
        made[f"reference/api/{name}.md"] = _package(package, name, about)
    return made


def _index() -> str:
    rows = [f"| [`{name}`](api/{name}.md) | {about} |\n" for name, about in PACKAGES.items()]
    return "| package | what |\n|---|---|\n" + "".join(rows)


def _public(package: Path) -> str:
    """Returns the public calls, those that the package exports, and the settings they take."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    options = "    options:\n      show_root_full_path: false\n      heading_level: 3\n"
    calls, settings = (
        "".join(f"::: unclip_jax.api.{name}\n{options}\n" for name in group)
        for group in (names, SETTINGS)
    )
    return f"\n## Public calls\n\n{calls}## Settings\n\n{ABOUT_SETTINGS}\n{settings}"


def _package(package: Path, name: str, about: str) -> str:
    modules = sorted(
        path.relative_to(package).with_suffix("")
        for path in (package / name).rglob("*.py")
        if not path.name.startswith("_")
    )
    names = [".".join(("unclip_jax", *path.parts)) for path in modules]
    directives = "".join(f"::: {module}\n\n" for module in names)
    return f"# unclip_jax.{name}\n\n{about}\n\n{directives}"
