"""The files that each suite writes, known before the work; imports nothing that is slow."""

PRIORS_GRID = "priors_pictures.png"
PCA_CURVE = "pca_variance.png"
GALLERY = (
    "fig3_variations.png",
    "fig4_interpolations.png",
    "fig5_text_diffs.png",
    "fig6_typographic.png",
    "fig7_components.png",
    "fig9_guidance.png",
    "inpainting.png",
)


def written_by(suite: str) -> list[str]:
    """Lists the names of all files that a suite may write."""
    if suite == "gallery":
        return ["gallery.json", "README.md", *GALLERY]
    extra = {"priors": [PRIORS_GRID], "pca": [PCA_CURVE]}
    return [*(f"{suite}.{kind}" for kind in ("json", "md", "png")), *extra.get(suite, [])]
