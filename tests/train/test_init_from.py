"""Fine-tuning starts from a bundle where it fits, and says where it does not."""

import dataclasses

import numpy as np
import pytest

from tests.toy import random_params
from tests.training import toy
from unclip_jax.checkpoint import bundle
from unclip_jax.checkpoint.bundle import Bundle, Stage
from unclip_jax.core.errors import UserError
from unclip_jax.core.trees import flatten_paths, unflatten_paths
from unclip_jax.train.init_from import check_init_from, init_from

STAGE = "upsampler_256"


@pytest.fixture(scope="module")
def state():
    return toy(STAGE).state()


@pytest.fixture(scope="module")
def given():
    """Parameters of the same network, drawn elsewhere."""
    return random_params(toy(STAGE).spec, 5)


def saved(folder, params, spec=None):
    stage = Stage(spec or toy(STAGE).spec, params)
    return str(bundle.save(Bundle("given", {STAGE: stage}), folder / "given"))


def test_everything_that_fits_is_taken(state, given, tmp_path):
    started, report = init_from(state, saved(tmp_path, given), STAGE)
    for tree in (started.params, started.ema_params):
        for path, value in flatten_paths(tree).items():
            np.testing.assert_array_equal(value, flatten_paths(given)[path])
    assert (report.missing, report.unused) == ((), ())
    assert len(report.matched) == len(flatten_paths(given))
    assert int(started.step) == 0
    # The average has buffers of its own: the donated step may not write to both.
    pointer = lambda x: x.addressable_data(0).unsafe_buffer_pointer()  # noqa: E731
    pairs = zip(
        flatten_paths(started.params).values(),
        flatten_paths(started.ema_params).values(),
        strict=True,
    )
    assert all(pointer(a) != pointer(b) for a, b in pairs)


def test_a_wider_network_keeps_what_is_its_own(state, tmp_path):
    """A bundle whose time embedding is wider: those parameters stay as drawn, and are named."""
    spec = toy(STAGE).spec
    wide = dataclasses.replace(spec.model.unet, time_width=24)
    spec = dataclasses.replace(spec, model=dataclasses.replace(spec.model, unet=wide))
    params = random_params(spec, 6)
    started, report = init_from(state, saved(tmp_path, params, spec), STAGE)
    assert report.missing == report.unused
    assert report.missing and all("time" in path for path in report.missing)
    own, before = flatten_paths(started.params), flatten_paths(state.params)
    for path in report.missing:
        np.testing.assert_array_equal(own[path], before[path])
    for path in report.matched:
        np.testing.assert_array_equal(own[path], flatten_paths(params)[path])
    assert f"{len(report.missing)} missing" in str(report)


def test_a_bundle_of_which_nothing_fits_is_an_error(state, given, tmp_path):
    flat = {f"elsewhere/{path}": value for path, value in flatten_paths(given).items()}
    held = dataclasses.replace(state, params=unflatten_paths(flat))
    with pytest.raises(UserError, match="no parameter of upsampler_256"):
        init_from(held, saved(tmp_path, given), STAGE)


def test_a_bundle_that_is_not_there_or_lacks_the_stage_is_found_beforehand(given, tmp_path):
    name = saved(tmp_path, given)
    check_init_from(name, STAGE)
    with pytest.raises(UserError, match=f"no stage 'decoder' to start from, only {STAGE}"):
        check_init_from(name, "decoder")
    with pytest.raises(UserError, match="no_such_bundle"):
        check_init_from("no_such_bundle", STAGE)
