"""Planted faults of api.py."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/api.py",
        (
            "vary_rebuilds_by_default",
            "eta: float = 1.0,",
            "eta: float = 0.0,",
            "tests/sampling/test_manipulate.py::test_more_draws_change_no_earlier_one",
        ),
        (
            "classify_without_the_temperature",
            "logits = scale * jnp.matmul",
            "logits = jnp.matmul",
            "tests/sampling/test_api.py::test_classify_is_a_softmax_of_cosines",
        ),
        (
            "classify_over_the_images",
            "jax.nn.softmax(logits, axis=-1)",
            "jax.nn.softmax(logits, axis=0)",
            "tests/sampling/test_api.py::test_classify_is_a_softmax_of_cosines",
        ),
        (
            "edit_goes_back_to_its_source",
            "for t in (to, source)]",
            "for t in (source or to, to if source else None)]",
            "tests/sampling/test_manipulate.py::test_an_edit_goes_from_one_text_toward_the_other_by_half",
        ),
        (
            "edit_goes_all_the_way",
            "max_theta: float = 0.5,",
            "max_theta: float = 1.0,",
            "tests/sampling/test_manipulate.py::test_an_edit_goes_from_one_text_toward_the_other_by_half",
        ),
    ),
]
