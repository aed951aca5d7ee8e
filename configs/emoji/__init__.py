"""The emoji family: small models on real captioned drawings, the shipped default."""

from ml_collections import ConfigDict


def use_emoji(
    config: ConfigDict, *, image_size: int, concepts: str, styles: tuple[str, ...] = ()
) -> None:
    """Trains on the emoji data set, and evaluates on the combinations and concepts it holds out."""
    config.data.update({"name": "emoji", "image_size": image_size})
    config.data.update({"concepts": concepts, "styles": styles})
    config.eval.split = "test_combinations+test_concepts"
