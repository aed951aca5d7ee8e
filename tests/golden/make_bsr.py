"""Runs latent-diffusion's two BSR degradations and records them.

    python -m tests.golden.make_bsr CHECKOUT [CHAINS]

CHECKOUT is a clone of github.com/CompVis/latent-diffusion, CHAINS how many chains of each variant
the statistics are of (40). Needs opencv-python-headless, torch,
SciPy below 1.11 and NumPy 1, as that code does (interp2d, scipy.finfo). albumentations and
torchvision, which it imports and does not use here, are stood in for. The package itself is not
imported.
"""

import importlib
import platform
import random
import subprocess
import sys
import types
from pathlib import Path

import numpy as np

from tests.golden import bsr_features

GOLDEN = Path(__file__).parent / "bsr.npz"
REPLAYS = {"bsr": 12, "bsr_light": 16}
NAMES = {"bsr": "bsrgan", "bsr_light": "bsrgan_light"}
METHODS = {1: "linear", 2: "cubic", 3: "area"}
RESIZES = [  # (h, w) -> (h, w): shrinking, halving, enlarging, one side each way, thirds
    ((24, 24), (7, 9)),
    ((24, 20), (12, 10)),
    ((16, 12), (27, 23)),
    ((16, 20), (20, 10)),
    ((15, 18), (5, 6)),
]
ANISOTROPIC = [(7, 0.3, 0.5, 3.0), (15, 2.0, 6.0, 1.0), (6, 1.1, 0.7, 1.6), (13, 2.8, 7.5, 0.05)]
ISOTROPIC = [(7, 0.4), (25, 2.7), (6, 0.3), (5, 0.05)]
STRIDED = [(4, 0.1), (4, 2.4), (2, 0.7), (2, 1.2)]
QUALITIES = (30, 55, 80, 95)


def load(checkout):
    """Imports the reference with stand-ins for what it does not use."""
    for name, member in (("albumentations", None), ("torchvision.utils", "make_grid")):
        module = types.ModuleType(name)
        if member:
            setattr(module, member, None)
        sys.modules[name] = module
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.path.insert(0, str(checkout))
    base = "ldm.modules.image_degradation."
    return {kind: importlib.import_module(base + name) for kind, name in NAMES.items()}


class Proxy:
    """A module with some of its members replaced."""

    def __init__(self, module, **members):
        self.__dict__.update(members)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


class Recorder:
    """Writes down what a reference module does, by standing before the modules that it calls."""

    def __init__(self, module):
        self.module, self.steps, self.shifted = module, [], None
        self.saved = dict(module.__dict__)
        cv2, ndimage = module.cv2, module.ndimage
        filters = Proxy(ndimage.filters, convolve=self.convolve(ndimage.filters.convolve))
        module.cv2 = Proxy(cv2, resize=self.resize(cv2), imencode=self.imencode(cv2))
        module.ndimage = Proxy(ndimage, filters=filters)
        util = module.util
        module.util = Proxy(util, imresize_np=self.imresize(util))
        module.shift_pixel = self.shift(module.shift_pixel)
        draws = Proxy(
            np.random,
            normal=self.normal,
            multivariate_normal=self.multivariate_normal,
        )
        module.np = Proxy(np, random=draws)

    def close(self):
        """Puts the module back as it was."""
        self.module.__dict__.update(self.saved)

    def resize(self, cv2):
        def call(image, size, interpolation):
            self.steps.append(("resize", METHODS[interpolation], (size[1], size[0])))
            return cv2.resize(image, size, interpolation=interpolation)

        return call

    def imresize(self, util):
        def call(image, scale, antialiasing):
            out = util.imresize_np(image, scale, antialiasing)
            self.steps.append(("resize", "bicubic", out.shape[:2]))
            return out

        return call

    def imencode(self, cv2):
        def call(kind, image, options):
            self.steps.append(("jpeg", options[1]))
            return cv2.imencode(kind, image, options)

        return call

    def shift(self, function):
        def call(kernel, factor):
            self.shifted = factor
            return function(kernel, factor)

        return call

    def convolve(self, function):
        def call(image, kernel, mode):
            assert mode == "mirror"
            self.steps.append(("blur", kernel[..., 0].copy(), self.shifted or 1))
            self.shifted = None
            return function(image, kernel, mode=mode)

        return call

    def normal(self, mean, deviation, shape):
        matrix = np.eye(3) if shape[-1] == 3 else np.ones((3, 3))
        self.steps.append(("noise", matrix * deviation**2))
        return np.random.normal(mean, deviation, shape)

    def multivariate_normal(self, mean, covariance, shape):
        self.steps.append(("noise", covariance))
        return np.random.multivariate_normal(mean, covariance, shape)


def void(steps):
    """Whether a blur's kernel came out as zeros or NaN, which the reference lets happen."""
    return any(s[0] == "blur" and not np.isclose(s[1].sum(), 1) for s in steps)


def run_chains(module, count, size, seed):
    """Yields (steps, image) of chains without a void kernel."""
    random.seed(seed)
    np.random.seed(seed)
    image = bsr_features.striped_image(size)
    recorder = Recorder(module)
    for _ in range(count):
        recorder.steps = []
        with np.errstate(invalid="ignore"):
            small = module.degradation_bsrgan_variant(image, sf=4)["image"]
        if not void(recorder.steps):
            yield recorder.steps, small
    recorder.close()


def statistics(module, chains):
    """Summaries of what is drawn and of the images."""
    drawn, seen, count = [], [], 0
    image = bsr_features.striped_image()
    for steps, small in run_chains(module, chains, 64, 0):
        drawn += bsr_features.chain_features(steps)
        seen += list(bsr_features.image_features(small, image).items())
        count += 1
    return bsr_features.summarize(drawn), bsr_features.summarize(seen), chains - count


def replays(module, count):
    """Steps and images of a few chains, their noise left out."""
    saved = module.add_Gaussian_noise
    module.add_Gaussian_noise = lambda image, **_: np.clip(image, 0.0, 1.0)
    found = {}
    for i, (steps, small) in enumerate(run_chains(module, count, 32, 1)):
        names = []
        for j, step in enumerate(steps):
            if step[0] == "blur":
                names.append(f"blur {step[2]}")
                found[f"{i}/{j}"] = step[1].astype(np.float32)
            elif step[0] == "resize":
                names.append(f"resize {step[1]} {step[2][0]} {step[2][1]}")
            else:
                names.append(f"jpeg {step[1]}")
        found |= {f"{i}/steps": np.array(names), f"{i}/image": small}
    module.add_Gaussian_noise = saved
    return found


def operations(module):
    """Each operation by itself, on a drawn image."""
    rng = np.random.default_rng(0)
    x = rng.random((24, 24, 3)).astype(np.float32)
    found = {"x": x}
    for (h, w), (h2, w2) in RESIZES:
        for code, name in METHODS.items():
            part = np.ascontiguousarray(x[:h, :w])
            out = module.cv2.resize(part, (w2, h2), interpolation=code)
            found[f"resize/{name} {h} {w} {h2} {w2}"] = out
    found["resize/bicubic 24 20 12 10"] = module.util.imresize_np(x[:, :20].copy(), 1 / 2, True)
    for size, theta, l1, l2 in ANISOTROPIC:
        kernel = module.anisotropic_Gaussian(ksize=size, theta=theta, l1=l1, l2=l2)
        found[f"anisotropic/{size} {theta} {l1} {l2}"] = kernel
        found[f"blurred/{size} {theta} {l1} {l2}"] = module.ndimage.filters.convolve(
            x[:, :20], kernel[..., None], mode="mirror"
        )
    for size, deviation in ISOTROPIC:
        found[f"isotropic/{size} {deviation}"] = module.fspecial("gaussian", size, deviation)
    for factor, deviation in STRIDED:
        kernel = module.shift_pixel(module.fspecial("gaussian", 25, deviation), factor)
        kernel = kernel / kernel.sum()
        found[f"shifted/{factor} {deviation}"] = kernel
        out = module.ndimage.filters.convolve(x[:, :20], kernel[..., None], mode="mirror")
        found[f"strided/{factor} {deviation}"] = out[::factor, ::factor]
    image = module.util.uint2single(bsr_features.striped_image(32)[:, :24])
    for quality in QUALITIES:
        randint, random.randint = random.randint, lambda *_, q=quality: q
        found[f"jpeg/{quality}"] = module.util.single2uint(module.add_JPEG_noise(image))
        random.randint = randint
    return found


def versions(checkout):
    """What ran, as lines."""
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = ("numpy", "scipy", "cv2", "torch")
    lines = [f"{name} {importlib.import_module(name).__version__}" for name in names]
    return [
        f"latent-diffusion {commit.stdout.strip()}",
        f"python {platform.python_version()}",
        *lines,
    ]


def main(checkout, chains=40):
    """Writes the golden file."""
    modules = load(checkout)
    made = {"versions": np.array(versions(checkout))}
    made |= {f"op/{name}": value for name, value in operations(modules["bsr"]).items()}
    for kind, module in modules.items():
        drawn, seen, voids = statistics(module, chains)
        for label, table in (("drawn", drawn), ("seen", seen)):
            made[f"{kind}/{label}/names"] = np.array(list(table))
            made[f"{kind}/{label}/table"] = np.array(list(table.values()))
        made[f"{kind}/voids"] = np.array([voids, chains])
        found = replays(module, REPLAYS[kind])
        made |= {f"{kind}/replay/{name}": value for name, value in found.items()}
    np.savez_compressed(GOLDEN, **made)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:]))
