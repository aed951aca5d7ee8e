"""The shapes family: small models on procedural scenes at 32 pixels.

What a caption says can be read back from an image exactly, so that the suites binding, complexity
and spelling have a ground truth by construction. unCLIP is the prior and the decoder; GLIDE is a
decoder that reads captions only, at the same FLOPs of training as the two together.

Words instead: `--config.data.name=words:size=32`, and for the CLIP `--config.data.vocab_size=600`.
"""

from ml_collections import ConfigDict

SIZE = 32
CONTEXT = 28  # six objects are 25 tokens with start and end, four with sizes 22, a word 14


def use_shapes(config: ConfigDict) -> None:
    """Trains on scenes of one to six objects."""
    config.data.update({"name": f"scenes:size={SIZE}", "image_size": SIZE})
    config.train.update({"save_every": 200, "save_seconds": 120.0, "log_every": 50})
    config.eval.update({"every": 500, "batches": 2, "batch_size": 128})


def text_encoder() -> ConfigDict:
    """Returns the sizes of the decoder's own text encoder, of unCLIP and of GLIDE."""
    return ConfigDict(
        {
            "vocab_size": None,  # that of the CLIP's vocabulary
            "context": CONTEXT,  # paper: 256
            "transformer": {"width": 96, "layers": 2, "heads": 2},  # paper: 2048, 24, 32
        }
    )
