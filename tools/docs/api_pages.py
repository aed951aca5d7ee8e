"""Pages of the Python API: the public calls, and one page for each room of the package.

The pages hold mkdocstrings' directives; the text is that of the docstrings.
"""

import ast
from pathlib import Path

ROOMS = {
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
    "workflows": "Jobs behind the commands: exports, embeddings, model cards.",
    "text": "The tokenizer.",
    "core": "Configs, keys, trees, files, locks and errors.",
}
"""Folders of the package that have a page, with what is said of them."""

INTRO = """# Python API

```python
import jax
import unclip_jax

model = unclip_jax.load("emoji")
images = unclip_jax.sample(model, ["a red heart"], key=jax.random.key(0), num=4)
```

The calls below are pure functions of a bundle, inputs and a key. Everything under `unclip_jax.` is
importable from the package itself.

## Rooms

Each folder of the package has a page of its own.

"""


def pages(package: Path) -> dict[str, str]:
    """Returns the Markdown of all API pages by their path in the site."""
    made = {"reference/python.md": INTRO + _index() + _public(package)}
    for room, about in ROOMS.items():
        made[f"reference/api/{room}.md"] = _room(package, room, about)
    return made


def _index() -> str:
    rows = [f"| [`{room}`](api/{room}.md) | {about} |\n" for room, about in ROOMS.items()]
    return "| room | what |\n|---|---|\n" + "".join(rows)


def _public(package: Path) -> str:
    """Returns the part of the public calls: those that the package exports."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    options = "    options:\n      show_root_full_path: false\n      heading_level: 3\n"
    return "\n## Public calls\n\n" + "".join(
        f"::: unclip_jax.api.{name}\n{options}\n" for name in names
    )


def _room(package: Path, room: str, about: str) -> str:
    modules = sorted(
        path.relative_to(package).with_suffix("")
        for path in (package / room).rglob("*.py")
        if not path.name.startswith("_")
    )
    names = [".".join(("unclip_jax", *path.parts)) for path in modules]
    return f"# unclip_jax.{room}\n\n{about}\n\n" + "".join(f"::: {name}\n\n" for name in names)
