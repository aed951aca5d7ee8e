"""A small emoji world: tarballs of what the npm packages would hold of it."""

import io
import json
import tarfile

from PIL import Image

from unclip_jax.data.sets import emoji

NAMES = [
    # hexcode, label, group, subgroup, tags, skins
    ("2764", "red heart", 0, 14, ["emotion", "love", "red"], False),
    ("1F34F", "green apple", 4, 42, ["apple", "fruit", "green"], False),
    ("2600", "sun", 5, 59, ["bright", "rays", "weather"], False),
    ("1F436", "dog face", 3, 34, ["animal", "pet", "puppy"], False),
    ("1F697", "automobile", 5, 54, ["car", "vehicle"], False),
    ("1F525", "fire", 5, 59, ["burn", "flame"], False),
    ("1F9D1-200D-2696-FE0F", "judge", 1, 25, ["law"], True),
    ("1F468-200D-2696-FE0F", "man judge", 1, 25, ["law"], True),
    ("1F469-200D-2696-FE0F", "woman judge", 1, 25, ["law"], True),
    ("1F1EB-1F1F7", "flag: France", 9, 98, [], False),
    ("1F3FB", "light skin tone", 2, 32, [], False),
]
COLOURS = {"3d": "#ff0000", "flat": "#00ff00", "noto": "#0000ff", "twemoji": "#808080"}
NAMED = {  # sets without code points: icon -> fill
    "blob": {"red-heart": "#ff0000", "automobile": "#0000ff", "nameless-thing": "#123456"},
    "mozilla": {"dogface": "#a05000", "automobile": "#0000ff"},
    "emojione": {"hot-stuff": "#ff8000", "sun": "#ffff00"},
    "streamline": {"dog": "#a05000"},
}
BROKEN_SVG = "<svg"


def codes():
    return [row[0].lower() for row in NAMES if row[2] != 2]


def circle(color, code, side=32):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}"><desc>{code}</desc>'
        f'<circle cx="{side / 2}" cy="{side / 2}" r="{side / 4}" fill="{color}"/></svg>'
    )


def webp(code, size=(256, 256)):
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    picture.putpixel((8, 8), (*code.encode()[-3:], 255))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=True)
    return buffer.getvalue()


def write_tarball(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            data = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def names_members():
    data = []
    for hexcode, label, group, subgroup, tags, skins in NAMES:
        entry = dict(hexcode=hexcode, label=label, group=group, subgroup=subgroup, tags=tags)
        if skins:
            tone = hexcode.replace("-200D", "-1F3FB-200D")
            entry["skins"] = [dict(entry, hexcode=tone, label=f"{label}: light skin tone")]
        data.append(entry)
    groups = [(14, "heart"), (25, "person-role"), (34, "animal-mammal"), (42, "food-fruit")]
    groups += [(54, "transport-ground"), (59, "sky-weather"), (98, "country-flag")]
    messages = {"subgroups": [{"order": o, "key": k} for o, k in groups]}
    return {
        "en/data.json": json.dumps(data),
        "en/messages.json": json.dumps(messages),
        "en/shortcodes/emojibase.json": json.dumps({"1F436": ["dog", "dog_face"]}),
        "en/shortcodes/github.json": json.dumps({"1F525": "hot_stuff"}),
    }


def write_packages(folder):
    bitmaps = {f"assets/{c}.webp": webp(c) for c in codes()}
    bitmaps["assets/2600.webp"] = webp("2600", (256, 264))
    bitmaps["assets/1f468-1f3fb-200d-2696-fe0f.webp"] = webp("tone")
    flat = {f"assets/{c}.svg": circle(COLOURS["flat"], c) for c in codes()}
    flat["assets/1f436.svg"] = BROKEN_SVG
    plain = {c: c.replace("-fe0f", "") for c in codes()}
    twemoji = {f"dist/svg/{plain[c]}.svg": circle(COLOURS["twemoji"], c, 36) for c in codes()}
    body = '<circle cx="64" cy="64" r="32" fill="#0000ff"/>'
    icons = {
        "width": 128,
        "height": 128,
        "icons": {"heart": {"body": body}, "apple": {"body": f"<g>{body}</g>"}},
        "aliases": {"love": {"parent": "heart"}, "mirrored": {"parent": "apple", "hFlip": True}},
    }
    chars = {"2764": "love", "1f34f": "apple", "1f525": "mirrored"}
    noto = {"icons.json": json.dumps(icons), "chars.json": json.dumps(chars)}
    members = {"3d": bitmaps, "flat": flat, "twemoji": twemoji, "noto": noto}
    for style, fills in NAMED.items():
        bodies = {
            n: {"body": f'<circle cx="8" cy="8" r="4" fill="{c}"/>'} for n, c in fills.items()
        }
        members[style] = {"icons.json": json.dumps({"icons": bodies})}
    for style, files in members.items():
        write_tarball(folder / emoji.PACKAGES[style].filename, files)
    write_tarball(folder / emoji.NAMES.filename, names_members())
