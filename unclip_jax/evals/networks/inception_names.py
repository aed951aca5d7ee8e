"""Names of Inception's parameters: torch-fidelity's file, and TensorFlow's graph of 2015."""

from unclip_jax.convert.name_tables import Shapes, Table, module, raw

STEM = {
    "conv_1a": "Conv2d_1a_3x3",
    "conv_2a": "Conv2d_2a_3x3",
    "conv_2b": "Conv2d_2b_3x3",
    "conv_3b": "Conv2d_3b_1x1",
    "conv_4a": "Conv2d_4a_3x3",
}

TF_LEAVES = {
    "kernel": "conv2d_params",
    "scale": "batchnorm/gamma",
    "bias": "batchnorm/beta",
    "mean": "batchnorm/moving_mean",
    "var": "batchnorm/moving_variance",
}
"""What follows the name of a convolution in TensorFlow's graph, by our leaf."""

TF_ENDS = {*(name.rpartition("/")[2] for name in TF_LEAVES.values()), "weights", "biases"}
"""Ends of the names of the graph's weights; its other constants are sizes and factors."""


def convolutions(ours: Shapes) -> list[str]:
    """Returns the paths of all convolutions."""
    return [path.removesuffix("/var") for path in ours if path.endswith("/var")]


def torch_fidelity_table(ours: Shapes) -> Table:
    """Returns the names of torch-fidelity's weights file for parameters of these paths."""
    table = {"fc": module("fc")}
    for place in convolutions(ours):
        first, _, rest = place.partition("/")
        theirs = STEM.get(first) or f"{first.capitalize()}.{rest}"
        table[f"{place}/kernel"] = module(f"{theirs}.conv")
        table[place] = module(f"{theirs}.bn")
        table[f"{place}/mean"] = raw(f"{theirs}.bn.running_mean")
        table[f"{place}/var"] = raw(f"{theirs}.bn.running_var")
    return table


def tf_graph_table(ours: Shapes) -> Table:
    """Returns the names of TensorFlow's graph, whose layout is ours."""
    table = {"fc/kernel": raw("softmax/weights")}
    for place, theirs in tf_places(ours).items():
        table |= {f"{place}/{leaf}": raw(f"{theirs}/{end}") for leaf, end in TF_LEAVES.items()}
    return table


def tf_places(ours: Shapes) -> dict[str, str]:
    """Returns TensorFlow's name of each convolution.

    Stem, blocks and towers are numbered from the second on: "conv", "conv_1"; "mixed", "mixed_1".
    A branch of one convolution has no tower; a fork is a "mixed" within its tower.
    """
    places = convolutions(ours)
    blocks = list(dict.fromkeys(place.partition("/")[0] for place in places if "/" in place))
    found = {place: _numbered("conv", i) for i, place in enumerate(STEM)}
    for i, block in enumerate(blocks):
        inner = [place.partition("/")[2] for place in places if place.startswith(f"{block}/")]
        branches = {_branch(name) for name in inner if name not in ALONE}
        towers = sorted(branches, key=TOWERS.index)
        for name in inner:
            where = _numbered("mixed", i)
            if name not in ALONE:
                where += f"/{_numbered('tower', towers.index(_branch(name)))}"
            found[f"{block}/{name}"] = f"{where}/{_last(name)}"
    return found


ALONE = ("branch1x1", "branch3x3")
"""Branches of one convolution; "branch3x3" with a number after it is another."""

TOWERS = (
    *("branch5x5", "branch3x3", "branch7x7"),
    *("branch3x3dbl", "branch7x7dbl", "branch7x7x3"),
    "branch_pool",
)
"""The others, in the order in which the graph numbers those of a block."""


def _branch(name: str) -> str:
    return name if name == "branch_pool" else name.rpartition("_")[0]


def _last(name: str) -> str:
    number = name.rpartition("_")[2]
    if name == "branch_pool" or name in ALONE:
        return "conv"
    if number[-1] in "ab":
        return f"mixed/{_numbered('conv', 'ab'.index(number[-1]))}"
    return _numbered("conv", int(number) - 1)


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name
