"""What the BSR goldens hold of a chain and of its images; shared by make_bsr.py and the tests.

A chain is a list of ("resize", method, (h, w)), ("blur", kernel, stride), ("noise", covariance) and
("jpeg", quality), in the order in which they are done.
"""

import numpy as np

METHODS = ("linear", "cubic", "area", "bicubic")


def striped_image(size=64):
    """Smooth colors, edges, and stripes of 2.5 pixels, which alias unless resizing filters."""
    y, x = np.mgrid[0:size, 0:size]
    waves = [np.sin(0.11 * x + 0.05 * y), np.cos(0.09 * y), (x > 0.6 * size) & (y > 0.3 * size)]
    image = 127.5 + 90.0 * np.clip(np.stack(waves, -1), -1, 1)
    stripes = 60.0 * np.sin(2 * np.pi * x / 2.5) * (y < size // 2)
    return np.round(np.clip(image + stripes[..., None], 0, 255)).astype(np.uint8)


def kernel_moments(kernel):
    """(mean variance per axis, anisotropy in [0, 1], mean x, mean y) of a kernel as a density."""
    offsets = np.arange(kernel.shape[0]) - (kernel.shape[0] - 1) / 2
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    mean = np.array([(kernel * x).sum(), (kernel * y).sum()])
    d = np.stack([x - mean[0], y - mean[1]])
    low, high = np.linalg.eigvalsh(np.einsum("hw,ihw,jhw->ij", kernel, d, d))
    return (low + high) / 2, (high - low) / max(high + low, 1e-12), *mean


def chain_features(steps, side=64):
    """Names and values of everything drawn in one chain; a name may come several times."""
    found = []
    moves = [s for s in steps if s[0] == "resize" or (s[0] == "blur" and s[2] > 1)]
    halved = len(moves) == 3
    found.append(("halved", halved))
    if halved:
        found += [(f"halved by {m}", moves[0][1] == m) for m in METHODS]
        assert steps[0] is moves[0] and moves[0][2] == (side // 2, side // 2)
    way, last = moves[-2:]
    factor, side = (2, side // 2) if halved else (4, side)
    found += [(f"last {m}", last[1] == m) for m in METHODS]
    found.append(("last exact", last[2] == (side // factor, side // factor)))
    found.append(("plain", way[0] == "resize"))
    if way[0] == "resize":
        found += [(f"way {m}", way[1] == m) for m in METHODS]
        found += _both(f"scale {factor}", way[2][0] / side)
    else:
        variance, _, x, y = kernel_moments(way[1])
        found += [("stride", way[2] / factor), *_both(f"stride variance {factor}", variance)]
        found += [(f"stride center {factor}", x), (f"stride center {factor}", y)]
    blurs = [s for s in steps if s[0] == "blur" and s[2] == 1]
    found.append(("blurs", len(blurs)))
    for _, kernel, _ in blurs:
        found += _blur(np.asarray(kernel, np.float64), factor)
    found += _noise([s for s in steps if s[0] == "noise"])
    qualities = [s[1] for s in steps if s[0] == "jpeg"]
    found += [("jpegs", len(qualities)), ("ends in jpeg", steps[-1][0] == "jpeg")]
    for quality in qualities:
        found += _both("quality", quality)
    return found + _order(steps, way, last, halved)


def _both(name, value):
    return [(name, value), (f"{name} squared", value**2)]


def _blur(kernel, factor):
    """A kernel equal to its transpose and its mirror image is isotropic."""
    variance, anisotropy, _, _ = kernel_moments(kernel)
    isotropic = np.allclose(kernel, kernel.T, atol=1e-9) and np.allclose(
        kernel, kernel[::-1], atol=1e-9
    )
    kind = "isotropic" if isotropic else "anisotropic"
    found = [("isotropic", isotropic), *_both(f"{kind} side", kernel.shape[0])]
    found += [(f"{kind} side is even", kernel.shape[0] % 2 == 0)]
    found += _both(f"{kind} variance {factor}", variance)
    return found + _both(f"{kind} anisotropy {factor}", anisotropy)


def _noise(steps):
    found = [("noises", len(steps))]
    for _, covariance in steps:
        levels = np.asarray(covariance) * 255**2
        rank = int((np.linalg.eigvalsh(levels) > 1e-6 * levels.max()).sum())
        own = np.allclose(levels, np.diag(np.diag(levels)))
        kind = "gray" if rank == 1 else "own" if own else "correlated"
        found += [(f"noise is {k}", k == kind) for k in ("gray", "own", "correlated")]
        found += _both(f"{kind} variance", levels.trace() / 3)
        if kind == "correlated":
            found += _both("covariance", (levels.sum() - levels.trace()) / 6)
            found += [("least variance", np.linalg.eigvalsh(levels)[0])]
    return found


def _order(steps, way, last, halved):
    """How often each kind of step stands before each other, the final JPEG left out."""
    steps = steps[1 if halved else 0 : -1]
    names = ["way" if s is way else "last" if s is last else s[0] for s in steps]
    found = []
    for i, first in enumerate(names):
        found.append((f"{first} place", i / (len(names) - 1)))
        for second in names[i + 1 :]:
            if first != second:
                pair = sorted((first, second))
                found.append((" before ".join(pair), pair[0] == first))
    return found


def image_features(small, image):
    """Measures of a degraded image; `image` is what it was made of."""
    small, side = np.asarray(small, np.float64), small.shape[0]
    mean = image.reshape(side, 4, side, 4, 3).astype(np.float64).mean((1, 3))
    error = small - mean
    top, bottom = small[: side // 2], small[side // 2 :]
    chroma = small[..., 0] - small[..., 1]
    error_gray = error.mean(-1)
    return {
        "mean": small.mean(),
        "error": np.log10(np.mean(error**2)),
        "gray error": np.log10(np.mean(error_gray**2)),
        "rough x": np.mean(np.diff(top, axis=1) ** 2),
        "rough y": np.mean(np.diff(top, axis=0) ** 2),
        "smooth rough x": np.mean(np.diff(bottom, axis=1) ** 2),
        "smooth rough y": np.mean(np.diff(bottom, axis=0) ** 2),
        "chroma rough": np.mean(np.diff(chroma[side // 2 :], axis=1) ** 2),
        "shift x": np.mean(error[1:-1, 1:-1] * (mean[1:-1, 2:] - mean[1:-1, :-2])),
        "block": np.mean(np.diff(bottom, axis=1)[:, 7::8] ** 2),
    }


def summarize(pairs):
    """{name: (count, mean, deviation, lowest, highest)}."""
    values = {}
    for name, value in pairs:
        values.setdefault(name, []).append(float(value))
    return {
        name: (len(v), np.mean(v), np.std(v), np.min(v), np.max(v)) for name, v in values.items()
    }
