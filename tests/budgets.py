"""Budgets: what key programs cost, committed in budgets.json; rewritten by `make budgets`.

Counted, never timed. A traced program is walked equation by equation: products, what elementwise
arithmetic writes, reductions (a norm is two or more), loops as often as they run. A compiled one
is read as XLA's optimized text: collectives by kind and the memory of a device.
"""

import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax

from unclip_jax.core.flops import count
from unclip_jax.plan.hlo import cost_of

PATH = Path(__file__).with_suffix(".json")
WRITES = os.environ.get("UNCLIP_BUDGETS") == "write"
MEMORY = "peak_bytes"
TOLERANCE = {"traced": 0.001, "traced, another jax": 0.1, "compiled": 0.02, MEMORY: 0.1}
"""Relative, up and down. Compiled figures are compared under the jax that wrote them only; what
memory a program takes also depends on the CPU."""

MOVES = frozenset(
    "broadcast_in_dim reshape transpose squeeze expand_dims convert_element_type copy copy_p slice "
    "dynamic_slice dynamic_update_slice concatenate pad gather rev iota split stop_gradient "
    "sharding_constraint optimization_barrier random_wrap random_unwrap device_put name".split()
)
"""Primitives that compute nothing: how often they occur differs between versions of jax."""

REDUCTIONS = ("reduce_", "argmax", "argmin", "cum", "sort")


def traced_cost(function, *args):
    """Returns the figures of a function at (abstract) arguments, on one device.

    A loop of unknown length, as that over the steps of a sampler, counts once; of the branches of
    a condition the dearest figure counts.
    """
    found = _walk(jax.make_jaxpr(function)(*args).jaxpr)
    return {name: int(found[name]) for name in FIGURES}


FIGURES = ("flops", "product_bytes", "elementwise_bytes", "reductions")
"""Of products and convolutions: operations, bytes of operands and results. Of all other arithmetic:
bytes of the results, number of reductions."""


def _walk(jaxpr):
    total = Counter()
    for eqn in jaxpr.eqns:
        inner = [_walk(one) for one in _inner(eqn.params.values())]
        if eqn.primitive.name == "cond":
            found = Counter({name: max(one[name] for one in inner) for name in FIGURES})
        else:
            found = sum(inner, Counter()) if inner else _leaf(eqn)
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        total.update({name: times * value for name, value in found.items()})
    return total


def _inner(values):
    found = []
    for value in values:
        if isinstance(value, tuple | list):
            found += _inner(value)
        elif hasattr(value, "eqns") or hasattr(value, "jaxpr"):
            found.append(getattr(value, "jaxpr", value))
    return found


def _leaf(eqn):
    name, work = eqn.primitive.name, count(SimpleNamespace(eqns=[eqn]))
    if work.flops:
        return Counter(flops=work.flops, product_bytes=work.bytes)
    if name in MOVES:
        return Counter()
    results = [var.aval for var in eqn.outvars if hasattr(var.aval, "shape")]
    written = sum(one.size * one.dtype.itemsize for one in results)
    return Counter(elementwise_bytes=written, reductions=int(name.startswith(REDUCTIONS)))


def compiled_cost(compiled):
    """Returns the figures of a compiled program, of one device: the real size of its arrays."""
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    sent = cost_of(compiled.as_text()).collectives
    figures = {MEMORY: held - memory.alias_size_in_bytes + memory.temp_size_in_bytes}
    for kind, one in sorted(sent.items()):
        figures |= {f"{kind} count": one.count, f"{kind} bytes": one.bytes}
    return figures


def check(kind, name, figures):
    """Compares a program's figures with its budget, or writes them as the budget.

    Args:
        kind: "traced" or "compiled".
    """
    budgets = json.loads(PATH.read_text())
    if WRITES:
        budgets["jax"], budgets["tolerance"] = jax.__version__, TOLERANCE
        budgets[kind] = dict(sorted({**budgets[kind], name: figures}.items()))
        _write(budgets)
        return
    is_same = budgets["jax"] == jax.__version__
    if kind == "compiled" and not is_same:
        return
    allowed = TOLERANCE[kind if is_same else f"{kind}, another jax"]
    changes = differences(budgets[kind].get(name, {}), figures, allowed)
    assert not changes, "\n".join(
        [f"the cost of {name} ({kind}) is not its budget (tests/budgets.json):", *changes, ACCEPT]
    )


ACCEPT = "If that is meant, run `make budgets`, and say in the commit what costs more or less."


def differences(budget, figures, allowed):
    """Lists the figures that are off by more than a relative `allowed`, in words."""
    lines = []
    for figure in sorted(budget.keys() | figures.keys()):
        was, now = budget.get(figure, 0), figures.get(figure, 0)
        limit = TOLERANCE[MEMORY] if figure == MEMORY else allowed
        if abs(now - was) > limit * was:
            change = f"{now / was - 1:+.1%}" if was else "new"
            lines.append(f"  {figure}: {was:,} -> {now:,} ({change}, allowed {limit:.1%})")
    return lines


def check_names(kind, names):
    """Fails on a budget whose program is gone, or drops it where budgets are written."""
    budgets = json.loads(PATH.read_text())
    gone = sorted(set(budgets[kind]) - set(names))
    if WRITES and gone:
        budgets[kind] = {name: budgets[kind][name] for name in names if name in budgets[kind]}
        _write(budgets)
    elif not WRITES:
        assert not gone, f"budgets of programs that are gone: {', '.join(gone)}. `make budgets`"


def _write(budgets):
    """Writes a line for each program."""
    parts = [f' "{key}": {json.dumps(budgets[key])}' for key in ("jax", "tolerance")]
    for kind in ("traced", "compiled"):
        lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in budgets[kind].items()]
        parts.append(f' "{kind}": {{\n' + ",\n".join(lines) + "\n }")
    PATH.write_text("{\n" + ",\n".join(parts) + "\n}\n")
