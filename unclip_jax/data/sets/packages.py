"""The npm packages of the emoji set: drawings by style, names, licenses and credits."""

from unclip_jax.data.sets import npm

STYLES = ("3d", "flat", "noto", "twemoji", "blob", "mozilla", "emojione", "streamline")
NAMES = npm.Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    "MIT",
    "Emojibase, copyright Miles Johnson (labels and tags from Unicode CLDR)",
    "https://emojibase.dev",
)
PACKAGES = {
    "3d": npm.Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "MIT",
        "Fluent Emoji, copyright Microsoft Corporation; packaged by LobeHub",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    "flat": npm.Package(
        "@lobehub/fluent-emoji-flat",
        "1.1.0",
        "sha512-lPYCg8+N56MIj+iOgeBeH6AF0tneXxJCvgi41rOTjAWpA5rU2WUcmU1fiIXouEe8GrSTarWCYLY2ML+rdLRHsg==",
        "MIT",
        "Fluent Emoji, copyright Microsoft Corporation; packaged by LobeHub",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    "noto": npm.Package(
        "@iconify-json/noto",
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "Apache-2.0",
        "Noto Emoji, copyright Google LLC; packaged by Iconify",
        "https://github.com/googlefonts/noto-emoji",
    ),
    "twemoji": npm.Package(
        "@discordapp/twemoji",
        "16.0.1",
        "sha512-figLiBWzjS5cyrAjLaGjM8AAaowO3qvK8rg5bA2dElB4qsaPMvBVlFDMO2d3x+nC1igt7kgWH4dvNmvvUHUF8w==",
        "CC-BY-4.0",
        "Twemoji, copyright Twitter, Inc., Jason Sofonia, Justine De Caires and other contributors",
        "https://github.com/discord/twemoji",
    ),
    "blob": npm.Package(
        "@iconify-json/noto-v1",
        "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        "Apache-2.0",
        "Noto Emoji, first edition, copyright Google LLC; packaged by Iconify",
        "https://github.com/googlefonts/noto-emoji",
    ),
    "mozilla": npm.Package(
        "@iconify-json/fxemoji",
        "1.2.2",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        "Apache-2.0",
        "FxEmojis, copyright Mozilla Foundation; packaged by Iconify",
        "https://github.com/mozilla/fxemoji",
    ),
    "emojione": npm.Package(
        "@iconify-json/emojione",
        "1.2.3",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        "CC-BY-4.0",
        "EmojiOne 2, provided free by EmojiOne; kept as EmojiTwo; packaged by Iconify",
        "https://github.com/EmojiTwo/emojitwo",
    ),
    "streamline": npm.Package(
        "@iconify-json/streamline-emojis",
        "1.2.4",
        "sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        "CC-BY-4.0",
        "Streamline Emojis, copyright Streamline; packaged by Iconify",
        "https://github.com/webalys-hq/streamline-vectors",
    ),
}

NAMED_ALONE = ("blob", "mozilla", "emojione", "streamline")
"""Styles whose packages list names, and no code points."""
