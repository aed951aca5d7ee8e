"""bundle.json is read strictly: what is wrong in it is named before anything is built of it."""

import json
import re

import jax
import pytest

from tests.checkpoint.damage import edit, fails
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.manifest import CascadeNet, CascadeStep
from unclip_jax.core.errors import UserError
from unclip_jax.core.renamed import RenamedWarning


def test_the_license_is_written_under_its_old_key_too_and_read_under_either(copy):
    for key in ("license", "licence"):
        manifest = json.loads((copy / "bundle.json").read_text())
        assert manifest.pop(key) == "Apache-2.0"
        other = copy / key
        other.mkdir()
        (other / "bundle.json").write_text(json.dumps(manifest))
        assert bundle.read_manifest(other) == bundle.read_manifest(copy)


def test_the_manifest_is_checked(copy):
    edit(copy, lambda m: m.update(format_version=99))
    fails(copy, "format version 99")
    edit(copy, lambda m: m.update(format_version=bundle.FORMAT_VERSION, colour="red"))
    fails(copy, "unknown key colour")
    edit(copy, lambda m: m.pop("colour"))
    edit(copy, lambda m: m["stages"]["decoder"]["spec"]["model"].update(image_dimm=3))
    fails(copy, "image_dimm", "image_dim")
    edit(copy, lambda m: m["stages"].update(decoder=m["stages"]["clip"]))
    fails(copy, "'decoder'", "'clip'")
    edit(copy, lambda m: m["files"]["clip.safetensors"].pop("bytes"))
    fails(copy, "files.clip.safetensors.bytes is missing")
    edit(copy, lambda m: m["stages"].update(decoder=3))
    fails(copy, "stages.decoder: expected a mapping, got 3")
    edit(copy, lambda m: (m["stages"].pop("decoder"), m.update(files=[])))
    fails(copy, "files: expected a mapping, got []")
    (copy / "bundle.json").write_text("{")
    fails(copy, "bundle.json", "JSON")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cascade": [1]}, "cascade[0]"),
        ({"cascade": [{}]}, "cascade[0]"),
        ({"cascade": [{"input_size": 16, "output_size": 32, "nets": []}]}, "cascade[0]"),
        (
            {"cascade": [{"input_size": 16, "output_size": 32, "nets": [{"stage": "no"}]}]},
            "'no'",
        ),
        ({"provenance": {"stages": [1]}}, "provenance.stages"),
        ({"provenance": {"stages": {"clip": 5}}}, "provenance.stages"),
    ],
)
def test_cascade_and_provenance_are_checked_before_anything_is_loaded(copy, change, words):
    edit(copy, lambda m: m.update(change))
    with pytest.raises(UserError, match=re.escape(words)):
        bundle.read_manifest(copy)


def test_a_size_of_nothing_is_one_line(copy):
    edit(copy, lambda m: m["stages"]["clip"]["spec"]["model"]["vision"].update(patch_size=0))
    fails(copy, "patch_size=0 must be at least 1")


def set_in(manifest, path, value):
    *parents, last = path.split(".")
    for key in parents:
        manifest = manifest[key]
    manifest[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.clip.spec.model.text.layers", 100_000),
        ("stages.clip.spec.model.text.layers", 900),
        ("stages.decoder.spec.model.unet.res_blocks", 60),
        ("stages.decoder.spec.model.unet.channel_mult", [1] * 3000),
        ("stages.prior_diffusion.spec.diffusion.num_steps", 2_000_000_000),
        ("stages.prior_diffusion.spec.sampling.num_candidates", 10_000_000),
        ("stages.prior_diffusion.spec.sampling.steps", 10**15),
        ("stages.decoder.spec.model.unet.image_size", 2**20),
        ("stages.decoder.spec.sampling.step_list", list(range(5000, 0, -1))),
        ("stages.clip.spec.model.text.width", 10**12),
    ],
)
def test_a_hostile_size_is_refused_by_name_and_at_once(copy, path, value, monkeypatch):
    edit(copy, lambda manifest: set_in(manifest, path, value))
    monkeypatch.setattr(jax, "eval_shape", None)  # nothing is traced
    named = path.removesuffix(".channel_mult").removesuffix(".res_blocks")  # their product counts
    fails(copy, str(copy / "bundle.json"), named)


@pytest.mark.parametrize(
    "name", ["../../etc/hostname", "/etc/hostname", "..", ".", "a/b", "a\nb", "\x00", "x" * 300]
)
def test_only_files_of_the_folder_are_listed(copy, name):
    edit(copy, lambda m: m["files"].update({name: {"sha256": "0" * 64, "bytes": 5}}))
    fails(copy, "bundle.json: files lists", "not a file of the bundle")


def test_keys_that_occur_twice_and_deep_nesting_are_refused(copy):
    path = copy / "bundle.json"
    text = path.read_text()
    path.write_text(text.replace("{", '{"name": "first",', 1))
    fails(copy, "bundle.json", "'name' occurs twice")
    path.write_text(text.replace('"metrics": {}', f'"metrics": {"[" * 50_000}{"]" * 50_000}'))
    fails(copy, "bundle.json", "levels")


def test_a_dtype_that_no_file_has_is_refused(copy):
    edit(copy, lambda m: m["stages"]["clip"].update(dtype="int4"))
    fails(copy, "stages.clip.dtype", "float16")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cascade.0.output_size", 128),
        ("cascade.0.nets.0.steps", -7),
        ("cascade.0.nets.0.steps", 0),
        ("cascade.0.nets.0.steps", 100_000),
        ("sampling.size", -3),
        ("stages.decoder.spec.sampling.guidance", -1e300),
    ],
)
def test_values_that_make_no_image_are_refused(copy, path, value):
    def change(manifest):
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in parents:
            manifest = manifest[key]
        manifest[last] = value

    edit(copy, change)
    with pytest.raises(UserError, match="bundle.json: "):
        bundle.read_manifest(copy)


def test_a_step_that_is_listed_again_is_refused(copy):
    edit(copy, lambda m: m.update(cascade=m["cascade"] * 2))
    with pytest.raises(UserError, match=re.escape("cascade[")):
        bundle.read_manifest(copy)


def test_the_cascade_of_older_bundles_is_read(copy):
    """They had a resize, which nothing read, and -1 for all steps that are left but one."""
    nets = [{"stage": "upsampler_256", "steps": -1}, {"stage": "upsampler_256", "steps": None}]
    edit(copy, lambda m: m["cascade"][0].update(nets=nets, resize="bicubic"))
    with pytest.warns(RenamedWarning, match="steps -1 and null is now called null and 1"):
        (step,) = bundle.read_manifest(copy).cascade
    assert [net.steps for net in step.nets] == [None, 1]


@pytest.mark.parametrize(
    ("steps", "total", "counts"),
    [
        ((None, 1), 7, (6, 1)),
        ((None, 1), 1, (0, 1)),
        ((2, None), 7, (2, 5)),
        ((2, None), 1, (1, 0)),
        ((2, 1), 7, (2, 5)),  # without an open number the last network takes the rest
        ((1, None, 3), 7, (1, 3, 3)),
        ((None,), 7, (7,)),
    ],
)
def test_the_networks_of_a_step_share_its_sampling_steps(steps, total, counts):
    nets = tuple(CascadeNet(f"net_{i}", number) for i, number in enumerate(steps))
    assert CascadeStep(8, 16, nets).shares(total) == counts


def test_only_one_network_may_take_the_rest():
    with pytest.raises(ValueError, match="at most one without steps"):
        CascadeStep(8, 16, (CascadeNet("a"), CascadeNet("b")))
