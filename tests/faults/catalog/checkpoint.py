"""Planted faults of unclip_jax/checkpoint: store to checksums."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/checkpoint/store.py",
        (
            "checkpoint_keeps_the_worst",
            "return -metrics[HELD_OUT]",
            "return metrics[HELD_OUT]",
            "tests/checkpoint/test_store.py::test_the_newest_and_the_best_are_kept_and_come_back",
        ),
        (
            "best_is_the_highest_loss",
            "return min(known, key=lambda step: known[step])",
            "return max(known, key=lambda step: known[step])",
            "tests/checkpoint/test_store.py::test_the_newest_and_the_best_are_kept_and_come_back",
        ),
        (
            "only_the_newest_kept",
            "policies = [LatestN(keep_latest)]",
            "policies = [LatestN(1)]",
            "tests/checkpoint/test_store.py::test_the_newest_and_the_best_are_kept_and_come_back",
        ),
        (
            "damaged_state_restored",
            "            if wrong:\n                raise DamagedCheckpoint(step, f",
            "            if not wrong and wrong:\n                raise DamagedCheckpoint(step, f",
            "tests/checkpoint/test_store.py::test_a_flip_that_storage_does_not_notice_is_found_by_the_checksums",
        ),
        (
            "earlier_states_unread",
            "        if old_names:\n            new_names =",
            "        if not record.checksums:\n            new_names =",
            "tests/checkpoint/test_store.py::test_a_state_of_an_earlier_version_comes_back_under_its_fields_new_names",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/runs.py",
        (
            "unlisted_array_taken",
            "leaf.dtype == object",
            "leaf.dtype == bool",
            "tests/checkpoint/test_runs.py::test_a_checkpoint_that_does_not_list_an_array_is_one_line",
        ),
        (
            "raw_parameters_exported",
            '    item = {"ema_params": abstract_params(spec)}\n    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)\n    args = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)\n    path, record = checkpoints / str(step) / "state", read_record(checkpoints, step)\n    try:\n        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:\n            restored = reader.restore(path.absolute(), args=args)\n        params = jax.tree.map(np.asarray, restored["ema_params"])',
            '    item = {"params": abstract_params(spec)}\n    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)\n    args = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)\n    path, record = checkpoints / str(step) / "state", read_record(checkpoints, step)\n    try:\n        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:\n            restored = reader.restore(path.absolute(), args=args)\n        params = jax.tree.map(np.asarray, restored["params"])',
            "tests/cli/test_export.py::test_runs_become_a_bundle",
        ),
        (
            "digest_of_values_alone",
            "        digest.update(path.encode())\n",
            "",
            "tests/checkpoint/test_runs.py::test_a_digest_is_of_paths_and_values_as_float32",
        ),
        (
            "finished_one_step_late",
            'return self.step >= self.config["train"]["steps"]',
            'return self.step > self.config["train"]["steps"]',
            "tests/checkpoint/test_runs.py::test_a_run_is_finished_at_its_last_step",
        ),
        (
            "digest_of_what_bundles_store_forgotten",
            'names = ("float32", "float16", "bfloat16")',
            'names = ("float32", "float16")',
            "tests/checkpoint/test_runs.py::test_a_digest_is_of_paths_and_values_as_float32",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/tensors.py",
        (
            "overflow_written_as_infinity",
            "if not np.isfinite(array.astype(np.float32)).all():",
            "if False and not np.isfinite(array.astype(np.float32)).all():",
            "tests/checkpoint/test_bundle.py::test_a_failed_save_leaves_nothing",
        ),
        (
            "shapes_not_checked",
            "if shape != tuple(expected[key]):",
            "if len(shape) != len(expected[key]):",
            "tests/checkpoint/test_bundle.py::test_keys_and_shapes_are_checked",
        ),
        (
            "known_hashes_survive_verify",
            'entry["stamp"] == stamp and not force',
            'entry["stamp"] == stamp',
            "tests/checkpoint/test_bundle.py::test_large_files_are_hashed_once",
        ),
        (
            "hashes_known_by_size_alone",
            "stamp = [info.st_size, info.st_mtime_ns]",
            "stamp = [info.st_size, 0]",
            "tests/checkpoint/test_bundle.py::test_large_files_are_hashed_once",
        ),
        (
            "table_of_part_of_a_file",
            "len(body) == int(head[2]) * int(head[1][-1:])",
            "len(body) >= int(head[2]) * int(head[1][-1:])",
            "tests/checkpoint/test_runs.py::test_a_damaged_table_is_one_line",
        ),
        (
            "stored_type_not_compared",
            "allowed = {}, DTYPES if stored is None else (stored,)",
            "allowed = {}, DTYPES",
            "tests/checkpoint/test_bundle.py::test_parameters_of_another_type_than_stated_are_refused",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/prior_samples.py",
        (
            "samples_of_another_caption",
            "return {ids.tobytes(): row for row, ids in enumerate(self.tokens)}",
            "return {ids.tobytes(): row // 2 for row, ids in enumerate(self.tokens)}",
            "tests/train/test_prior_samples.py::test_the_share_gets_samples_of_its_own_captions_evenly",
        ),
        (
            "samples_of_any_clip",
            'if about.get("clip") != clip:',
            'if about.get("clip") is None:',
            "tests/train/test_prior_samples.py::test_the_file",
        ),
        (
            "absent_captions_take_the_last",
            "if -1 in found:",
            "if len(found) < 0:",
            "tests/train/test_prior_samples.py::test_the_file",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/pca_file.py",
        (
            "pca_of_any_space",
            'if about.get("space") != SPACE:',
            'if about.get("space") is None:',
            "tests/checkpoint/test_pca_file.py::test_damage_is_named",
        ),
        (
            "pca_stored_in_half",
            'tensors.write_streamed(part, arrays, "float32"',
            'tensors.write_streamed(part, arrays, "float16"',
            "tests/checkpoint/test_pca_file.py::test_file_round_trip",
        ),
        (
            "pca_mean_and_eigenvalues_swapped",
            "return Pca(mean, components, values,",
            "return Pca(values, components, mean,",
            "tests/checkpoint/test_pca_file.py::test_file_round_trip",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/records.py",
        (
            "oldest_checkpoint_exported",
            "return max(_steps(checkpoints), default=None)",
            "return min(_steps(checkpoints), default=None)",
            "tests/cli/test_export.py::test_runs_become_a_bundle",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/manifest.py",
        (
            "cascade_may_repeat",
            "if step.output_size <= last:",
            "if step.output_size < last:",
            "tests/checkpoint/test_manifest.py::test_a_step_that_is_listed_again_is_refused",
        ),
        (
            "any_number_of_steps",
            "check_ranges(self, steps=COUNT)",
            "check_ranges(self, steps=(-COUNT[1], COUNT[1]))",
            "tests/checkpoint/test_manifest.py::test_values_that_make_no_image_are_refused",
        ),
        (
            "first_net_takes_every_step",
            "counts[rest] = left",
            "counts[rest] = total",
            "tests/sampling/test_stage_sampler.py::test_the_nets_of_a_cascade_share_its_steps",
        ),
        (
            "any_other_file_listed",
            "is_plain = Path(name).name == name and name not in",
            "is_plain = bool(name) and name not in",
            "tests/checkpoint/test_manifest.py::test_only_files_of_the_folder_are_listed",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/bundle.py",
        (
            "cascade_of_one_first_step",
            "nets = (CascadeNet(name), CascadeNet(followers[name], 1))",
            "nets = (CascadeNet(name, 1), CascadeNet(followers[name]))",
            "tests/convert/test_import_settings.py::test_a_diffusers_folder_is_sampled_as_its_pipeline_does",
        ),
        (
            "identity_without_tables",
            '{array.shape}\\n".encode() + array.tobytes())',
            '{array.shape}\\n".encode())',
            "tests/checkpoint/test_bundle.py::test_identity_is_that_of_tables_and_vocabulary_too",
        ),
        (
            "identity_without_merges",
            "[self.tokenizer.vocab, self.tokenizer.merges, self.tokenizer.context]",
            "[self.tokenizer.vocab, self.tokenizer.context]",
            "tests/checkpoint/test_bundle.py::test_identity_is_that_of_tables_and_vocabulary_too",
        ),
        (
            "pca_of_any_clip",
            "if file is not None and pca.clip not in clip_digests(model):",
            "if file is None and pca.clip not in clip_digests(model):",
            "tests/checkpoint/test_pca_file.py::test_a_file_of_another_clip_is_refused",
        ),
        (
            "trained_clip_not_known",
            "*([trained] if trained else [])",
            "*([trained] if not trained else [])",
            "tests/checkpoint/test_pca_file.py::test_a_clip_is_also_known_as_it_was_trained",
        ),
        (
            "table_of_another_schedule",
            "table.shape != (diffusion.num_steps,)",
            "table.ndim != 1",
            "tests/checkpoint/test_bundle.py::test_a_variance_table_that_does_not_fit_is_refused",
        ),
        (
            "vocabulary_may_be_larger",
            "if tokenizer.vocab_size != size:",
            "if tokenizer.vocab_size < size:",
            "tests/checkpoint/test_bundle.py::test_a_vocabulary_of_another_size_than_the_embedding_is_refused",
        ),
    ),
    *faults_in(
        "unclip_jax/checkpoint/checksums.py",
        (
            "pieces_weighed_alike",
            "weights = np.arange(start, start + len(piece),",
            "weights = np.arange(0, len(piece),",
            "tests/checkpoint/test_checksums.py::test_pieces_and_scalars",
        ),
        (
            "even_weights",
            "(index * np.uint32(2) + np.uint32(1))",
            "(index * np.uint32(2) + np.uint32(2))",
            "tests/checkpoint/test_checksums.py::test_host_and_device_follow_the_formula",
        ),
        (
            "column_major_index",
            "for axis in reversed(range(bits.ndim)):",
            "for axis in range(bits.ndim):",
            "tests/checkpoint/test_checksums.py::test_host_and_device_follow_the_formula",
        ),
    ),
]
