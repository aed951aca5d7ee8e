"""All faults that the tests must catch: each changes one thing that is trained, sampled or stored.

A fault is a text of a source file, what replaces it, and the tests meant to notice; catalog/ holds
them by folder. run.py plants each alone in a copy of the tree. Every fault changes behavior; none
only breaks the code's form.
"""

import importlib
import pkgutil

from tests.faults import catalog
from tests.faults.catalog import Fault

FAULTS: list[Fault] = [
    fault
    for module in sorted(pkgutil.iter_modules(catalog.__path__), key=lambda module: module.name)
    for fault in importlib.import_module(f"{catalog.__name__}.{module.name}").FAULTS
]
