"""Single modules of packages whose own __init__ asks for torchvision, which is not installed."""

import importlib
import importlib.util
import sys
import types


def submodule(name: str) -> types.ModuleType:
    """Imports a module of a package whose own __init__ would ask for torchvision."""
    package = name.partition(".")[0]
    if package not in sys.modules:
        shell = types.ModuleType(package)
        shell.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
        sys.modules[package] = shell
    return importlib.import_module(name)
