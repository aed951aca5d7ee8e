"""`pca.safetensors`: the principal components of a CLIP's image embeddings.

Keys: mean [d], components [k, d], eigenvalues [k], float32 (defined in models/pca.py). Metadata:
"clip", the digest of the CLIP's parameters, and "space", the space of the embeddings.
"""

from pathlib import Path

from unclip_jax.checkpoint import tensors
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import whole_file
from unclip_jax.models.pca import SPACE, Pca

PCA_FILE = "pca.safetensors"
KEYS = ("components", "eigenvalues", "mean")


def save_pca(path: Path, pca: Pca) -> None:
    """Writes the file atomically."""
    arrays = {key: getattr(pca, key) for key in KEYS}
    with whole_file(Path(path)) as part:
        tensors.write_streamed(part, arrays, "float32", {"clip": pca.clip, "space": SPACE})


def load_pca(path: str | Path) -> Pca:
    """Reads and checks the file."""
    arrays, about = tensors.read_annotated(path, "make one with: unclip embed --fit-pca")
    if sorted(arrays) != sorted(KEYS):
        raise UserError(f"{path} has {', '.join(sorted(arrays))}; a PCA has {', '.join(KEYS)}")
    mean, components, values = (arrays[key] for key in ("mean", "components", "eigenvalues"))
    if components.ndim != 2 or (values.shape, mean.shape) != tuple(
        (side,) for side in components.shape
    ):
        raise UserError(f"{path}: the shapes of mean, components and eigenvalues do not match")
    if about.get("space") != SPACE:
        raise UserError(f"{path} is for embeddings in space {about.get('space')!r}, not {SPACE!r}")
    return Pca(mean, components, values, about.get("clip", ""))
