"""Varied strings for tokenizer tests: what people type, what web pages hold, and noise."""

import random
import unicodedata

CURATED = (
    "",
    " ",
    "\t\n \r\n",
    "a photo of a cat",
    "A Photo Of A CAT.",
    "an armchair in the shape of an avocado",
    "it's what they've said, I'm sure we'll see he'd won't 'tis",
    "IT'S WHAT THEY'VE SAID, I'M SURE WE'LL SEE HE'D",
    "'\u017fong ''s '''re rock'n'roll",
    "\u2018curly\u2019 \u201cquotes\u201d and the dog\u2019s bone",
    "em\u2014dash, en\u2013dash, ellipsis\u2026 bullet \u2022",
    "3.14159 and 1,000,000 or 2\u00bd, x\u00b2, \u2167, \u0664\u0665\u0666, 50%",
    "e=mc^2; a+b==c && d||e != f",
    "https://example.com/a?b=c&d=e#f user@example.com #hashtag @name",
    "caf\u00e9 cafe\u0301 na\u00efve Stra\u00dfe \u0130stanbul \u01c5 \ufb01ne \u1e9e",
    "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u03c3\u03ac\u03c2",
    "Красная площадь ночью",
    "一只戴着帽子的猫 ネコがいる 고양이 한 마리",
    "قطة حمراء ١٢٣ \u200fעברית\u200e",
    "สวัสดีชาวโลก नमस्ते दुनिया বাংলা தமிழ்",
    "x\u0345y ᾳ \u0345",
    "❤️ a red heart 😀🎉🚀",
    "👩‍👩‍👧‍👦 family, 👍🏽 thumb, 🇯🇵🇩🇪 flags, 1️⃣ keycap, 🏴‍☠️",
    "🙂" * 80,
    "&amp; &lt;b&gt;bold&lt;/b&gt; &quot;quoted&quot; &#39;apos&#39; &nbsp; &copy; &eacute;",
    "&amp;amp; &amp;lt;twice&amp;gt; &amp;amp;amp; &e&#769; e&#769; &#x1F600; &#128512; &#0; &#28;",
    "<i>e&#769; A&#778;</i> apart: ftfy, which composes, leaves entities beside tags alone",
    "<p class='x'>some <b>html</b> &amp; more</p><br/>",
    "rock &roll; AT&T &notanentity; &#xZZ; &#99999999;",
    "mojibake: caf\u00c3\u00a9 \u00e2\u0080\u0099 \u00e2\u20ac\u2122 \u00f0\u0178\u02dc\u20ac",
    "\ufeffbom, soft\u00adhyphen, zero\u200bwidth\u200cjoin\u200der, no\u00a0break, line\u2028sep",
    "tabs\tand\nnew\r\nlines\x0band\x0cfeeds\x85next  double   triple",
    "\x00nul \x07bell \x1b[31mred\x1b[0m \x1f unit \x7f delete",
    "\uff21\uff22\uff23 \uff11\uff12\uff13 \uff01 fullwidth \u30ab\uff9e",
    "𝒻𝒶𝓃𝒸𝓎 𝔱𝔢𝔵𝔱 Ⓒⓘⓡⓒⓛⓔ",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033da\u0301\u0300l\u0327g\u0338o",
    "|<|>| <||> <| startoftext |> start<|of|>text",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!!!!!!!! !? ?! ... --- *** ~~~ ``` \\\\ //",
    "private \ue000 \U000f0000 and \ufffd replacement, \uffff no character",
    "word " * 300,
)
WORDS = (
    "a an the of in on with red green heart apple robot corgi painting style 3d flat emoji photo "
    "cinematic oil 4k don't artist's astronaut, riding horse. (close-up) \"quoted\" 1920s 50mm "
    "café piñata 東京 кот 😀 🚀 &amp; &lt;i&gt; half-dozen x² — … Ünïcode ALLCAPS CamelCase"
).split(" ")
MARKUP = (
    "&amp;",
    "&lt;",
    "&#233;",
    "&#x1F680;",
    "&eacute;",
    "&amp;quot;",
    "<br>",
    "</p>",
    "&",
    ";",
)


def assigned_code_points() -> list[int]:
    """Lists what this Python's Unicode assigns, without surrogates."""
    return [i for i in range(0x110000) if unicodedata.category(chr(i)) not in ("Cn", "Cs")]


def varied_strings(count: int, seed: int) -> list[str]:
    """Returns CURATED and random strings of five kinds, `count` in all."""
    draw = random.Random(seed)
    points = assigned_code_points()
    emoji = [i for i in points if 0x1F300 <= i <= 0x1FAFF] + [0x200D, 0xFE0F]

    def text() -> str:
        kind, size = draw.randrange(5), draw.choice((1, 3, 8, 20, 60))
        if kind == 0:
            return "".join(chr(draw.choice(points)) for _ in range(size))
        if kind == 1:
            return "".join(chr(draw.choice(emoji)) for _ in range(size))
        if kind == 2:
            return "".join(chr(draw.randrange(0x20, 0x250)) for _ in range(size))
        parts = WORDS if kind == 3 else (*WORDS, *MARKUP, *map(chr, draw.sample(points, 20)))
        return draw.choice(("", " ")).join(draw.choice(parts) for _ in range(size))

    return [*CURATED, *(text() for _ in range(count - len(CURATED)))][:count]
