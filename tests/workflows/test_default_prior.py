"""What an exported bundle samples with when a call does not say."""

import pytest

from tests.toy import toy_bundle
from unclip_jax.workflows.export import default_prior


@pytest.mark.parametrize(
    ("left_out", "prior"),
    [
        (("prior_diffusion",), "none"),
        ((), "diffusion"),
        (("decoder", "prior_diffusion"), "diffusion"),
    ],
)
def test_a_decoder_without_a_prior_reads_captions_alone(left_out, prior):
    stages = {k: stage for k, stage in toy_bundle().stages.items() if k not in left_out}
    assert default_prior(stages) == prior
