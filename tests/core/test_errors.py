from unclip_jax.core.errors import UserError


def test_a_message_is_one_line():
    assert str(UserError("no such\nmodel:\t x  ")) == "no such model: x"


def test_a_message_is_bounded_and_keeps_its_end():
    message = str(UserError("no such model: " + "x" * 100_000 + "; choose another"))
    assert len(message) < 1000
    assert message.startswith("no such model: xxx")
    assert message.endswith("; choose another")


def test_what_a_terminal_would_act_on_or_cannot_show_is_spelled_out():
    hostile = "\x1b[31m \ud800 \u202e \x00 é 👩\u200d🚀"
    assert str(UserError(hostile)) == "\\x1b[31m \\ud800 \\u202e \\x00 é 👩\u200d🚀"
