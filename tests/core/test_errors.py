from unclip_jax.core.errors import UserError


def test_a_message_is_one_line():
    assert str(UserError("no such\nmodel:\t x  ")) == "no such model: x"
