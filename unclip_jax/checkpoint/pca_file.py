"""`pca.safetensors`: the principal components of a CLIP's image embeddings, and whose they are.

Keys: mean [d], components [k, d], eigenvalues [k], float32 (models/pca.py says what they mean).
Metadata: "clip", the digest of that CLIP's parameters, and "space", that of the embeddings.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from unclip_jax.checkpoint import tensors
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import whole_file
from unclip_jax.models.pca import SPACE, Pca

PCA_FILE = "pca.safetensors"
KEYS = ("components", "eigenvalues", "mean")


def save_pca(path: Path, pca: Pca) -> None:
    """Writes the file, whole or not at all."""
    arrays = {key: getattr(pca, key) for key in KEYS}
    with whole_file(Path(path)) as part:
        tensors.write_streamed(part, arrays, "float32", {"clip": pca.clip, "space": SPACE})


def load_pca(path: str | Path) -> Pca:
    """Reads the file; what does not fit together is one line that names it."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; make one with: unclip embed --fit-pca")
    try:
        with safe_open(path, framework="np") as file:
            about = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    arrays = tensors.read_arrays(path)
    if sorted(arrays) != sorted(KEYS):
        raise UserError(f"{path} holds {', '.join(sorted(arrays))}, a PCA has {', '.join(KEYS)}")
    mean, components, values = (arrays[key] for key in ("mean", "components", "eigenvalues"))
    if components.ndim != 2 or (values.shape, mean.shape) != tuple(
        (side,) for side in components.shape
    ):
        raise UserError(f"{path}: mean, components and eigenvalues do not fit together")
    if about.get("space") != SPACE:
        raise UserError(f"{path} is of embeddings in space {about.get('space')!r}, not {SPACE!r}")
    return Pca(mean, components, values, about.get("clip", ""))
