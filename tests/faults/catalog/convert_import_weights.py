"""Planted faults of unclip_jax/convert: import_weights to torch_archive."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/convert/karlo_specs.py",
        (
            "karlo_guidances_alike",
            "SamplingConfig(steps=50, guidance=8.0)",
            "SamplingConfig(steps=50, guidance=4.0)",
            "tests/convert/test_karlo_specs.py::test_stages_are_sampled_as_published",
        ),
    ),
    *faults_in(
        "unclip_jax/convert/import_weights.py",
        (
            "imported_karlo_rounds",
            "round_low_res=False",
            "round_low_res=True",
            "tests/convert/test_import_settings.py::test_a_diffusers_folder_is_sampled_as_its_pipeline_does",
        ),
        (
            "imported_license_ignored",
            "if license is None else license",
            'if license is not None else license or ""',
            "tests/convert/test_import_settings.py::test_a_diffusers_folder_is_sampled_as_its_pipeline_does",
        ),
    ),
    *faults_in(
        "unclip_jax/convert/torch_files.py",
        (
            "pair_numbered_from_one",
            "enumerate(state)}",
            "enumerate(state, 1)}",
            "tests/convert/test_torch_files.py::test_a_pair_of_tensors_is_read_by_number",
        ),
        (
            "pickles_before_safetensors",
            'for suffix in (".safetensors", ".bin"):',
            'for suffix in (".bin", ".safetensors"):',
            "tests/convert/test_torch_files.py::test_a_component_s_weights_are_found_by_preference",
        ),
        (
            "shards_before_the_whole",
            'for index in ("", ".index.json"))',
            'for index in (".index.json", ""))',
            "tests/convert/test_torch_files.py::test_a_component_s_weights_are_found_by_preference",
        ),
        (
            "mixed_dtypes_kept_in_half",
            'return found.pop() if len(found) == 1 else "float32"',
            'return min(found) if found else "float32"',
            "tests/convert/test_torch_files.py::test_files_are_joined_counted_and_of_one_dtype",
        ),
        (
            "joined_reads_the_first_part",
            "lambda name: place[name][0][place[name][1]]",
            "lambda name: next(iter(parts.values()))[place[name][1]]",
            "tests/convert/test_torch_files.py::test_files_are_joined_counted_and_of_one_dtype",
        ),
    ),
    *faults_in(
        "unclip_jax/convert/torch_archive.py",
        (
            "byte_orders_swapped",
            '{b"little": "<", b"big": ">"}',
            '{b"little": ">", b"big": "<"}',
            "tests/convert/test_torch_files.py::test_either_byte_order_is_read",
        ),
        (
            "old_byte_order_ignored",
            'system.get("little_endian") is False',
            'system.get("little_endian") is None',
            "tests/convert/test_torch_files.py::test_either_byte_order_is_read",
        ),
        (
            "offset_of_a_view_ignored",
            "file.seek(record.offset * dtype.itemsize, 1)",
            "file.seek(0, 1)",
            "tests/convert/test_torch_files.py::test_a_part_of_a_storage_is_read_from_its_place",
        ),
        (
            "offset_in_bytes",
            "file.seek(record.offset * dtype.itemsize, 1)",
            "file.seek(record.offset, 1)",
            "tests/convert/test_torch_files.py::test_a_part_of_a_storage_is_read_from_its_place",
        ),
        (
            "archive_attributes_become_parameters",
            "(names is None or name in names)",
            "(names is None or name)",
            "tests/convert/test_torch_files.py::test_a_torchscript_archive_gives_parameters_and_buffers",
        ),
    ),
]
