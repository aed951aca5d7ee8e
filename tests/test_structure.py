"""The shape of the package: floors, file sizes, what an import may pull in, configs and rules."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "unclip_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.py") if p.name != "__init__.py")

# The most lines of each.
LINES = {"file": 400, "function": 60, "class": 150}

FLOORS = {
    "core": 0,
    "text": 0,
    "nn": 1,
    "diffusion": 1,
    "models": 2,
    "data": 2,
    "checkpoint": 2,
    "convert": 3,
    "train": 3,
    "sampling": 3,
    "plan": 4,
    "api": 4,
    "__init__": 4,
    "evals": 4,
    "workflows": 5,
    "demo": 6,
    "cli": 7,
    "__main__": 7,
}
# Imports along a floor, each for a reason: errors and structs are everybody's; a bundle holds the
# models' configs; metrics are taken through the public calls; a prior's cost is its planned step's.
SIDEWAYS = {
    ("text", "core"),
    ("checkpoint", "models"),
    ("__init__", "api"),
    ("evals", "api"),
    ("evals", "plan"),
    ("__main__", "cli"),
}
# Third-party packages that only these folders may import.
RESERVED = {
    "transformers": {"text"},
    "tokenizers": {"text"},
    "optax": {"train"},
    "orbax": {"checkpoint", "train"},
    "safetensors": {"checkpoint", "convert"},
    "grain": {"data"},
    "tensorflow_datasets": {"data"},
    "click": {"cli"},
    "gradio": {"demo"},
    "absl": {"cli"},
    "torch": set(),
    "tensorflow": set(),
}


def unit(path: Path) -> str:
    """Names the folder of a module, or the module itself if it lies in the package's root."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported(tree: ast.AST) -> set[str]:
    """Lists the dotted names of all imports, those inside functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(path: Path, source: str) -> list[str]:
    """Tells what a module's imports break."""
    own, found = unit(path), []
    for name in sorted(imported(ast.parse(source))):
        top, _, rest = name.partition(".")
        if top == "unclip_jax":
            other = rest.split(".")[0]
            if other not in FLOORS:
                other = "__init__"
            lower = FLOORS[other] < FLOORS[own]
            if own != other and not lower and (own, other) not in SIDEWAYS:
                found.append(f"{own} imports {other} ({name})")
        elif own not in RESERVED.get(top, {own}):
            found.append(f"{own} imports {top}")
        if own == "diffusion" and name.startswith("flax.linen"):
            found.append("diffusion imports flax.linen: it knows arrays only")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_floors(path):
    assert violations(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core/x.py", "from unclip_jax.models import clip"),
        ("train/x.py", "import unclip_jax.sampling.pipeline"),
        ("models/x.py", "def f():\n    from unclip_jax.data.images import resize"),
        ("diffusion/x.py", "from flax import linen"),
        ("sampling/x.py", "import unclip_jax"),
        ("checkpoint/x.py", "import torch"),
        ("models/x.py", "import transformers"),
    ],
)
def test_floors_catch_a_planted_violation(module, source):
    assert len(violations(PACKAGE / module, source)) == 1


@pytest.mark.parametrize(
    "folder", [PACKAGE, *(ROOT / name for name in ("configs", "tests", "tools", "benchmarks"))]
)
def test_files_functions_and_classes_have_a_size_that_a_person_reads(folder):
    found = set()
    for path in sorted(folder.rglob("*.py")):
        found |= too_long(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    assert found == set()


def too_long(name: str, source: str) -> set[str]:
    """Names the file, the functions and the classes of a module that are over the limits."""
    found = {name} if len(source.splitlines()) > LINES["file"] else set()
    for node in ast.walk(ast.parse(source)):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function or isinstance(node, ast.ClassDef):
            limit = LINES["function" if is_function else "class"]
            if node.end_lineno - node.lineno + 1 > limit:
                found.add(f"{name}::{node.name}")
    return found


def test_what_is_too_long_is_found():
    body = "".join(f"    x = {i}\n" for i in range(59))
    assert too_long("a.py", f"def short():\n{body}") == set()
    assert too_long("a.py", f"def long():\n{body}    return x\n") == {"a.py::long"}
    lines = "".join(f"    a{i} = {i}\n" for i in range(150))
    assert too_long("a.py", f"class Long:\n{lines}") == {"a.py::Long"}
    assert too_long("a.py", "\n" * 400) == set()
    assert too_long("a.py", "\n" * 401) == {"a.py"}


def documented_args(doc: str) -> list[str]:
    """Returns the names that a docstring's `Args:` describes, one to an entry."""
    section = re.search(r"^( *)Args:\n((?:\1 .*\n|\n)*)", f"{doc}\n", re.M)
    return re.findall(rf"^{section[1]}    (\w.*?):", section[2], re.M) if section else []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_docstrings_describe_parameters_that_there_are(path):
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            every += [star for star in (node.args.vararg, node.args.kwarg) if star]
            named = documented_args(ast.get_docstring(node) or "")
            wrong += [f"{node.name}: {n!r}" for n in named if n not in {a.arg for a in every}]
    assert wrong == []


@pytest.mark.parametrize("folder", ["benchmarks", "configs", "tools", "tests"])
def test_names_imported_from_the_package_exist(folder):
    """Also those inside functions, of programs that no test runs."""
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name.startswith("unclip_jax.") and not exists(name)
    }
    assert missing == set()


def exists(name: str) -> bool:
    """Whether a dotted name is a module or a name in one."""
    parent, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(parent), attribute) or bool(
            importlib.util.find_spec(name)
        )
    except ModuleNotFoundError:
        return False


def test_every_module_is_in_a_package():
    folders = {path.parent for path in FILES + CONFIGS}
    assert [str(f) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


def test_import_is_light():
    """It pulls no framework and takes under a second beyond jax; sampling pulls no training."""
    code = (
        "import sys, time, jax\n"
        "start = time.perf_counter()\n"
        "import unclip_jax\n"
        "seconds = time.perf_counter() - start\n"
        "heavy = {'torch', 'tensorflow', 'transformers', 'gradio', 'matplotlib'}\n"
        "from unclip_jax.workflows import text_to_image, manipulations\n"
        "heavy |= {'orbax', 'optax', 'grain', 'tensorstore', 'scipy', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), seconds)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded, seconds = run.stdout.rsplit(maxsplit=1)
    assert loaded == "[]"
    assert float(seconds) < 1.0


def test_public_names_resolve():
    package = importlib.import_module("unclip_jax")
    assert {"load", "sample", "embed_text", "predict", "denoise_fn"} <= set(package.__all__)
    for name in package.__all__:
        assert callable(getattr(package, name))


def test_dir_lists_the_public_names_and_no_import():
    package = importlib.import_module("unclip_jax")
    names = dir(package)
    assert {*package.__all__, "__version__"} <= set(names)
    assert {"Any", "importlib"} & set(names) == set()
