"""Settings of other libraries: a value of a wrong kind is one line that names it."""

import json

import pytest

from unclip_jax.checkpoint.component_configs import (
    clip_from_configs,
    prior_from_config,
    read_config,
)
from unclip_jax.core.errors import UserError

PRIOR = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "embedding_dim": 16}


@pytest.mark.parametrize("value", ["2", -1, 0, 0.5, 10**12, [2], True, {"a": 1}])
def test_a_size_of_a_wrong_kind(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps(PRIOR | {"attention_head_dim": value}))
    with pytest.raises(UserError, match="config.json: attention_head_dim"):
        prior_from_config(read_config(tmp_path))


def test_a_setting_that_is_null_is_the_default():
    towers = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64}
    plain = clip_from_configs(towers, None, {}, 16)
    assert clip_from_configs(towers | {"hidden_act": None}, None, {}, 16) == plain
