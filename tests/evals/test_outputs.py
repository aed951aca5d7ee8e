"""Output files known before the work."""

from unclip_jax.evals import gallery, runner
from unclip_jax.evals.outputs import SUITE_NAMES, output_files


def test_the_names_known_before_are_those_written():
    assert set(gallery.FIGURES) < set(output_files("gallery"))
    assert set(SUITE_NAMES) == {*runner.SUITES, *runner.WITHOUT_METRICS, "paper"}
    assert {"priors.json", "priors.md", "priors.png"} < set(output_files("priors"))


def test_the_paper_writes_what_its_suites_write():
    files = output_files("paper", 1)
    assert {"paper.json", "paper.md", "priors.md", "compare1_priors_images.png"} < set(files)
    assert len(set(files)) == len(files)
