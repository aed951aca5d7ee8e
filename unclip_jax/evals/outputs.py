"""The suites' names and output files, for checks before the work; imports nothing slow."""

from unclip_jax.evals import paper_rows

PRIORS_GRID = "priors_images.png"
CONDITIONING_GRID = "conditioning_images.png"
SAMPLES_GRID = "samples_images.png"
INVERSION_GRID = "inversion_images.png"
RECONSTRUCTION_GRID = "reconstruction_images.png"
EDITS_GRID = "edits_images.png"
PCA_CURVE = "pca_variance.png"
COMBINATIONS_GRID = "combinations_images.png"
PROMPTS_SHEET = "prompts_images.png"
PROMPTS_VERDICTS = "prompts_verdicts.json"
AESTHETICS_GRID = "aesthetics_images.png"
AESTHETICS_CURVE = "aesthetics_recall.png"
PREFERENCE_PAGE = "preference.html"
PREFERENCE_KEY = "preference_key.json"
FIDELITY_GRID = "fidelity_images.png"
BINDING_GRID = "binding_images.png"
COMPLEXITY_GRID = "complexity_images.png"
SPELLING_GRID = "spelling_images.png"
GUIDANCE_GRID = "guidance_images.png"
GALLERY = (
    "fig3_variations.png",
    "fig4_interpolations.png",
    "fig5_text_diffs.png",
    "fig6_typographic.png",
    "fig7_components.png",
    "fig9_guidance.png",
    "inpainting.png",
)
EXTRA_FILES: dict[str, tuple[str, ...]] = {
    "retrieval": (),
    "priors": (PRIORS_GRID,),
    "conditioning": (CONDITIONING_GRID,),
    "samples": (SAMPLES_GRID,),
    "combinations": (COMBINATIONS_GRID,),
    "prompts": (PROMPTS_SHEET, PROMPTS_VERDICTS),
    "pca": (PCA_CURVE,),
    "inversion": (INVERSION_GRID,),
    "edits": (EDITS_GRID,),
    "reconstruction": (RECONSTRUCTION_GRID,),
    "fidelity": (FIDELITY_GRID,),
    "aesthetics": (AESTHETICS_GRID, AESTHETICS_CURVE),
    "binding": (BINDING_GRID,),
    "complexity": (COMPLEXITY_GRID,),
    "spelling": (SPELLING_GRID,),
    "guidance": (GUIDANCE_GRID,),
}
"""What the suites of metrics may write in addition to SUITE.json, SUITE.md and SUITE.png."""

RESUMED = ("fidelity", "guidance")
"""Suites that keep finished parts beside --out, and that several processes share."""
READ_BY: dict[str, tuple[str, ...]] = {
    "prior": (
        *("samples", "combinations", "prompts", "fidelity", "aesthetics", "guidance"),
        "preference",
    ),
    "answers": ("preference",),
    "baseline": ("aesthetics", "guidance", "preference", "binding", "complexity", "spelling"),
    "features": ("fidelity", "guidance"),
    "guidance": ("fidelity",),
    "lpips": ("reconstruction",),
    "pca": ("gallery", "reconstruction"),
    "prompts_file": ("prompts", "preference"),
    "ratings": ("aesthetics",),
    "scales": ("aesthetics", "guidance"),
}
"""Settings that only these suites read; `paper`, which runs other suites, takes all of them."""
FEW_PROMPTS = 200
PROMPTS = {"fidelity": 500, "guidance": 60}
"""Number of prompts of a suite, where it is not FEW_PROMPTS."""

WITHOUT_DATA = ("prompts",)
"""Suites that read no data set."""

SUITE_NAMES = (*EXTRA_FILES, "preference", "gallery", "paper")


def output_files(suite: str, compared: int = 0, *, rated: bool = False) -> list[str]:
    """Lists the names of all files that a suite may write.

    Args:
        compared: number of bundles that are compared.
        rated: whether `preference` reports on answers, not makes the page.
    """
    if suite == "paper":
        parts = [
            output_files(part, compared) for part in paper_rows.suites() if part in SUITE_NAMES
        ]
        return ["paper.json", "paper.md", *sum(parts, [])]
    if suite == "gallery":
        return ["gallery.json", "README.md", *GALLERY]
    if suite == "preference" and not rated:
        return [PREFERENCE_PAGE, PREFERENCE_KEY]
    extra = EXTRA_FILES.get(suite, ())
    theirs = [compared_file(i + 1, name) for i in range(compared) for name in extra]
    return [*(f"{suite}.{suffix}" for suffix in ("json", "md", "png")), *extra, *theirs]


def is_read(suite: str, setting: str) -> bool:
    """Whether a suite has a use for a setting of `Settings`, by its name."""
    return suite == "paper" or suite in READ_BY.get(setting, (suite,))


def compared_file(number: int, name: str) -> str:
    """Returns the name that a file of a suite has for the compared bundle `number`, from 1."""
    return f"compare{number}_{name}"
