"""`unclip export --format stablehlo`: a folder or one line."""

import json

import numpy as np

import unclip_jax
from tests.cli.test_export import make_run
from tests.toy import toy_bundle, with_prior_ar
from unclip_jax.checkpoint import bundle


def test_a_bundle_becomes_a_program(toy_folder, tmp_path, unclip):
    from jax import export

    out = tmp_path / "program"
    command = ("export", toy_folder, "--out", out, "--format", "stablehlo", "--size", 16)
    command += ("--num", 1, "--platforms", "cpu", "--set", "decoder.guidance=1.5")
    code, printed, err = unclip(*command, "--json")
    assert (code, err) == (0, "")
    size = sum(path.stat().st_size for path in out.iterdir())
    assert json.loads(printed) == {"program": str(out), "platforms": ["cpu"], "bytes": size}
    model = bundle.load(toy_folder)
    params = dict(np.load(out / "params.npz"))
    assert {array.dtype for array in params.values()} == {np.dtype(np.float16)}  # the bundle's own
    program = export.deserialize(bytearray((out / "program.stablehlo").read_bytes()))
    zero = np.zeros(1, np.uint32)
    tokens = model.tokenizer.encode(["the sun"]).tokens
    images = np.asarray(program.call(params, tokens, zero, zero, np.uint32(0)))
    expected = unclip_jax.sample(model, "the sun", size=16, guidance=1.5)
    assert np.abs(images.astype(int) - expected).max() <= 2


def test_a_program_of_the_other_prior(tmp_path, unclip):
    from jax import export

    model = with_prior_ar(toy_bundle())
    folder, out = bundle.save(model, tmp_path / "both", dtype="float32"), tmp_path / "program"
    command = ("export", folder, "--out", out, "--format", "stablehlo", "--size", 16, "--num", 1)
    code, _, err = unclip(*command, "--platforms", "cpu", "--prior", "ar")
    assert (code, err) == (0, "")
    settings = json.loads((out / "program.json").read_text())["settings"]
    assert (settings["prior"], settings["prior_steps"]) == ("ar", None)
    params = dict(np.load(out / "params.npz"))
    assert {path.partition("/")[0] for path in params} == {"clip", "prior_ar", "decoder"}
    program = export.deserialize(bytearray((out / "program.stablehlo").read_bytes()))
    zero, tokens = np.zeros(1, np.uint32), model.tokenizer.encode(["the sun"]).tokens
    images = np.asarray(program.call(params, tokens, zero, zero, np.uint32(0)))
    expected = unclip_jax.sample(model, "the sun", size=16, prior="ar")
    assert np.abs(images.astype(int) - expected).max() <= 2
    other = unclip_jax.sample(model, "the sun", size=16, prior="diffusion")
    assert np.abs(images.astype(int) - other).max() > 2


def test_a_prior_that_is_not_there_is_one_line(toy_folder, tmp_path, refused):
    command = ("export", toy_folder, "--out", tmp_path / "out", "--format", "stablehlo")
    assert "no stage 'prior_ar'" in refused(*command, "--prior", "ar")
    assert not (tmp_path / "out").exists()


def test_what_is_refused_leaves_nothing(toy_folder, tmp_path, refused):
    out = tmp_path / "out"
    command = ("export", toy_folder, "--out", out, "--format", "stablehlo")
    assert "cpu, cuda, tpu" in refused(*command, "--platforms", "cpu,gpu")
    assert "16, 32 pixels" in refused(*command, "--size", 64)
    assert "is not a training run" in refused("export", tmp_path / "x", *command[2:])
    assert not out.exists()
    out.mkdir()
    (out / "kept").write_text("kept")
    assert "exists" in refused(*command, "--platforms", "cpu")
    assert [path.name for path in out.iterdir()] == ["kept"]


def test_options_of_the_program_alone(toy_folder, tmp_path, refused):
    given = (("--size", 16), ("--num", 2), ("--platforms", "cpu"), ("--compute", "float32"))
    for option in (*given, ("--prior", "text")):
        err = refused("export", toy_folder, "--out", tmp_path / "out", *option)
        assert f"{option[0]} is for --format stablehlo" in err


def test_a_run_without_the_rest_names_what_is_missing(tmp_path, refused):
    toy = toy_bundle()
    run = make_run(tmp_path / "run", toy.stage("clip").spec, tokenizer=toy.tokenizer)
    err = refused("export", run, "--out", tmp_path / "out", "--format", "stablehlo")
    assert "no stage 'decoder'; it has clip" in err
