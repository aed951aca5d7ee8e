"""Prompts as typed, and as a bundle's tokenizer gets them.

A vocabulary trained on captions has no pieces for emoji, and captions of the emoji set never end
in a full stop. So an emoji is read as its name and a mark at the end is dropped, for the bundles
that ask for it; weights with CLIP's own vocabulary get the prompt as it is. What was trained on the
emoji set also knows which words it has never seen.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import PurePath

from unclip_jax.checkpoint.bundle import Bundle
from unclip_jax.core.errors import UserError, shorten
from unclip_jax.core.suggest import closest
from unclip_jax.data.sets import captions
from unclip_jax.text.tokenizer import CLIP_VOCAB_SIZE, clean_text

PROMPT_LIMIT = 2_000  # characters; CLIP reads 77 pieces, the paper's own text encoders 256
SHOWN = 120  # characters of a prompt in messages
SAID_WORDS = 5  # of a prompt that its line names
SAID_LETTERS = 40  # of such a word
FAR = "far from what this model was trained on"

# What joins the parts of one emoji: it cannot be seen, and is no prompt alone.
_JOINTS = re.compile("[\u200c\u200d\ufe0e\ufe0f\U000e0020-\U000e007f]")
_ENDINGS = " .,;:!?…。！？"
_DROPPED = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")  # presentation and skin tones
_OTHER_SYMBOLS = "[\u2600-\u27bf\U0001f000-\U0001faff]"
# Words without visual content, whether or not captions have them.
_PLAIN_WORDS = frozenset(
    """a an the is are am was be this that these those it its his her their my your our me i you we
    of in on at to for from by as or and with without some any one two three has have there image
    picture photo photograph drawing illustration painting icon emoji""".split()
)

_JOINING_WORDS = frozenset("and or with of on in at to for from by under over like love".split())


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuses prompts that are too long, have control characters, or nothing that can be seen."""
    for number, prompt in enumerate(prompts, 1):
        check_prompt("the prompt" if len(prompts) == 1 else f"prompt {number}", prompt)


def check_prompt(name: str, prompt: str) -> None:
    """Refuses a prompt as `check_prompts` does; one that is "" stands for no prompt at all."""
    if not isinstance(prompt, str):
        raise UserError(f"{name} must be a string, not {shorten(repr(prompt), 60)}")
    if len(prompt) > PROMPT_LIMIT:
        raise UserError(
            f"{name} has {len(prompt):,} characters, more than the "
            f"{PROMPT_LIMIT:,} that are accepted: {quoted(prompt)}"
        )
    if control := next((c for c in prompt if _is_control(c)), None):
        raise UserError(f"{name} has a control character, {control!r}; remove it")
    if prompt and is_blank(prompt):
        raise UserError(f"{name} has nothing that can be seen; describe the image")


def visible(text: str) -> str:
    """Drops control characters and invisible ones, but not what joins the parts of an emoji."""
    return "".join(c for c in text if _JOINTS.match(c) or not (_is_control(c) or _is_hidden(c)))


def is_blank(text: str) -> bool:
    """Whether a text has nothing that can be seen."""
    return not _JOINTS.sub("", visible(text)).strip()


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and not character.isspace()


def _is_hidden(character: str) -> bool:
    """Whether a character has no width, or changes the direction of the text."""
    return unicodedata.category(character) == "Cf"


def quoted(prompt: str) -> str:
    """Returns a prompt for a message, its middle cut out if it is long."""
    return repr(shorten(prompt, SHOWN))


def spell_emoji(text: str, keep: Callable[[str], bool] = lambda character: False) -> str:
    """Puts the names of emoji in their places: "🍕 and a 🚀" -> "a pizza and a rocket".

    Args:
        keep: whether an emoji is to stay as it is.
    """
    if text.isascii():
        return text
    pieces = _emoji_pattern().split(_DROPPED.sub("", text))  # text, emoji, text, emoji, …, text
    spelt, previous = pieces[0], ""  # previous: the emoji that stands right before
    for emoji, after in zip(pieces[1::2], pieces[2::2], strict=True):
        if keep(emoji):
            spelt, previous = f"{spelt}{emoji}{after}", ""
            continue
        if emoji != previous:  # hearts in a row are one heart
            joint = ", " if previous else " "
            name = _name(emoji, after_word=not previous and _takes_name(spelt))
            spelt = f"{spelt.rstrip()}{joint}{name}"
        spelt += f" {after.lstrip()}" if after.lstrip()[:1].isalnum() else after
        previous = "" if after.strip() else emoji
    return " ".join(spelt.split())


def _takes_name(text: str) -> bool:
    """Whether a name without an article goes on a text: after "the" or "red", not after "and"."""
    last = text.rstrip().rpartition(" ")[2]
    return last[-1:].isalnum() and last.lower() not in _JOINING_WORDS


def read_prompts(model: Bundle, prompts: Sequence[str]) -> list[str]:
    """Returns the prompts as the bundle's tokenizer gets them; plain ones stay as they are."""
    prompts = list(prompts)
    if model.tokenizer is None or model.tokenizer.vocab_size == CLIP_VOCAB_SIZE:
        return prompts
    ends = "" if not is_of_emoji(model) else _ENDINGS
    return [_read(prompt, functools.partial(_is_piece, model), ends) for prompt in prompts]


def _read(prompt: str, keep: Callable[[str], bool], endings: str) -> str:
    if not prompt.isascii():
        prompt = spell_emoji(clean_text(prompt), keep)
    return prompt.rstrip(endings) or prompt if endings else prompt


def _is_piece(model: Bundle, text: str) -> bool:
    """Whether the vocabulary has a piece of its own for a text."""
    return int(model.tokenizer.encode([text], context=16).mask.sum()) == 3


def is_of_emoji(model: Bundle) -> bool:
    """Whether the bundle's CLIP was trained on the emoji set."""
    clip = model.provenance.get("stages", {}).get("clip", {})
    data = clip.get("data", {}) if isinstance(clip, dict) else {}
    name = data.get("name", "") if isinstance(data, dict) else ""
    return PurePath(str(name)).name == "emoji"


def unknown_words(model: Bundle, prompt: str) -> list[str]:
    """Lists the words of a prompt that the training captions lack; [] where they are not known."""
    if not is_of_emoji(model):
        return []
    known = _caption_words()
    words = re.findall(r"[^\W\d_]+", clean_text(read_prompts(model, [prompt])[0]))
    whole = [w for w in dict.fromkeys(words) if len(w) > 1 or not w.isascii()]
    return [w for w in whole if not _is_known(w, known)]


def far_line(prompt: str, unknown: Sequence[str]) -> str:
    """Returns a warning that names a prompt's unknown words, with suggestions."""
    near = {word: _near(word, _caption_words()) for word in unknown[:SAID_WORDS]}
    said = {word: repr(shorten(word, SAID_LETTERS)) for word in near}
    words = [f"{said[w]} (did you mean {n!r}?)" if n else said[w] for w, n in near.items()]
    more = ", …" if len(unknown) > SAID_WORDS else ""
    return f"{FAR}: {quoted(prompt)}; it never saw {', '.join(words)}{more}"


def _near(word: str, known: frozenset[str]) -> str:
    """Returns the known word that `word` may be a typo of, else ""."""
    if len(word) < 4:
        return ""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    if plain in known:
        return plain
    like = sorted(k for k in known if k[0] == word[0] and abs(len(k) - len(word)) <= 1)
    return closest(word, like, cutoff=0.78)


def _is_known(word: str, known: frozenset[str]) -> bool:
    stems = (word, word.removesuffix("s"), word.removesuffix("es"))
    return any(stem in known or stem in _PLAIN_WORDS for stem in stems)


def _name(emoji: str, *, after_word: bool) -> str:
    """Returns an emoji's name with its article, or without one where a word goes before it."""
    label = _emoji_names().get(emoji) or unicodedata.name(emoji[0], "").lower()
    return (captions.bare(label) if after_word else captions.phrase(label)) if label else emoji


@functools.cache
def _emoji_names() -> dict[str, str]:
    codes = captions.emoji_names()
    return {"".join(chr(int(c, 16)) for c in code.split("-")): n for code, n in codes.items()}


@functools.cache
def _emoji_pattern() -> re.Pattern[str]:
    longest_first = sorted(_emoji_names(), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))}|{_OTHER_SYMBOLS})")


@functools.cache
def _caption_words() -> frozenset[str]:
    return frozenset(captions.emoji_words())
