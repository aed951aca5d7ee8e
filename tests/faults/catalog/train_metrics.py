"""Planted faults of unclip_jax/train: metrics to degradations."""

from tests.faults.catalog import Fault, faults_in

FAULTS: list[Fault] = [
    *faults_in(
        "unclip_jax/train/metrics.py",
        (
            "record_cut_a_step_early",
            "if at is not None and at <= step]",
            "if at is not None and at < step]",
            "tests/train/test_metrics.py::test_lines_after_the_step_and_a_torn_last_line_are_dropped",
        ),
        (
            "record_begun_anew",
            'path.open("ab", buffering=0)',
            'path.open("wb", buffering=0)',
            "tests/train/test_metrics.py::test_a_writer_continues_the_record",
        ),
        (
            "nan_written_as_such",
            "return value if np.isfinite(value) else None",
            "return value",
            "tests/train/test_metrics.py::test_a_writer_continues_the_record",
        ),
        (
            "metrics_not_divided",
            "name: float(total / weight)",
            "name: float(total)",
            "tests/train/test_metrics.py::test_metrics_without_weight_are_left_out",
        ),
    ),
    *faults_in(
        "unclip_jax/core/charts.py",
        (
            "logarithmic_axis_drawn_linear",
            "return math.log10(value) if self.log else value",
            "return value",
            "tests/train/test_report.py::test_curves_are_the_record",
        ),
        (
            "text_of_a_chart_is_markup",
            'return f"<text {place}>{html.escape(text)}</text>"',
            'return f"<text {place}>{text}</text>"',
            "tests/train/test_report.py::test_text_in_a_chart_is_escaped",
        ),
    ),
    *faults_in(
        "unclip_jax/train/report.py",
        (
            "last_point_thinned_away",
            "for line in (*self._kept, *self._last)",
            "for line in self._kept",
            "tests/train/test_report.py::test_long_records_are_thinned_and_keep_their_ends",
        ),
        (
            "report_refreshed_at_every_save",
            "if time.monotonic() >= self._due:",
            "if True:",
            "tests/train/test_report.py::test_a_page_that_takes_long_is_refreshed_seldom",
        ),
        (
            "failed_report_ends_the_run",
            "except Exception as error:  # noqa: BLE001 - a page is not worth a run",
            "except ZeroDivisionError as error:",
            "tests/train/test_report.py::test_whatever_fails_is_a_line",
        ),
        (
            "set_up_not_counted_as_time",
            'self._spend(str(row.get("phase")), row.get("seconds"))',
            'row.get("seconds")',
            "tests/train/test_report.py::test_goodput_is_the_share_of_the_steps",
        ),
    ),
    *faults_in(
        "unclip_jax/train/loop.py",
        (
            "metrics_named_a_step_off",
            "self._pending = (step, logged)",
            "self._pending = (step - 1, logged)",
            "tests/train/test_experiment.py::test_a_run_writes_what_it_promises",
        ),
        (
            "last_step_not_evaluated",
            "(step % self.eval_every == 0 or last)",
            "step % self.eval_every == 0",
            "tests/train/test_loop.py",
        ),
        (
            "checkpoints_without_their_loss",
            "            self._save(step, state, held_out)\n",
            "            self._save(step, state, None)\n",
            "tests/train/test_loop.py",
        ),
        (
            "evaluation_counted_as_training",
            'with self._paused(state, step, "evaluation"):\n                values = parts.evaluate(state)',
            "if True:\n                values = parts.evaluate(state)",
            "tests/train/test_loop.py",
        ),
        (
            "saving_counted_as_training",
            '        with self._paused(state, step, "saving"):\n            self._check',
            "        if True:\n            self._check",
            "tests/train/test_loop.py",
        ),
        (
            "batches_counted_as_images",
            "images = rate * self.cfg.batch_size",
            "images = rate",
            "tests/train/test_loop.py",
        ),
    ),
    *faults_in(
        "unclip_jax/train/inputs.py",
        (
            "share_of_samples_inverted",
            "chosen = draws[:, 0] < self.share",
            "chosen = draws[:, 0] > self.share",
            "tests/train/test_prior_samples.py::test_the_share_gets_samples_of_its_own_captions_evenly",
        ),
        (
            "samples_however_far",
            "(unit64(sampled) * unit64(image_emb)).sum(1)",
            "(sampled * image_emb).sum(1)",
            "tests/train/test_prior_samples.py::test_a_sample_far_from_the_example_s_own_embedding_leaves_it_that",
        ),
        (
            "distance_of_samples_left_out",
            "share, least = settings.train.prior_share, settings.train.prior_cosine",
            "share, least = settings.train.prior_share, -1.0",
            "tests/train/test_inputs.py::test_training_batches_are_of_the_runs_seed_and_mixed_with_a_priors_samples",
        ),
    ),
    *faults_in(
        "unclip_jax/train/sharding.py",
        (
            "sharding_rule_missing",
            '    ("heads", "tensor"),\n',
            "",
            "tests/train/test_sharding.py::test_every_axis_of_the_models_has_a_rule",
        ),
        (
            "rules_of_the_config_ignored",
            "return (*overrides, *(rule for rule in RULES if rule[0] not in given))",
            "return RULES",
            "tests/train/test_sharding.py::test_rules_of_a_config_come_first_and_change_the_sharding",
        ),
        (
            "embed_not_split",
            '("embed", "fsdp")',
            '("embed", None)',
            "tests/train/test_sharding.py::test_axes_go_where_the_table_says",
        ),
        (
            "rows_of_another_process",
            "return local[first : first + len(wanted)]",
            "return local[: len(wanted)]",
            "tests/train/test_sharding.py::test_processes_bring_the_rows_that_their_devices_hold",
        ),
        (
            "fsdp_and_tensor_swapped",
            "sizes = [cfg.data, cfg.fsdp, cfg.tensor]",
            "sizes = [cfg.data, cfg.tensor, cfg.fsdp]",
            "tests/train/test_sharding.py::test_meshes_that_do_not_fit_the_devices_are_errors",
        ),
        (
            "batch_size_checked_against_data_alone",
            'shards = mesh.shape["data"] * mesh.shape["fsdp"]',
            'shards = mesh.shape["data"]',
            "tests/train/test_sharding.py::test_a_batch_that_the_devices_do_not_divide_is_an_error",
        ),
        (
            "batch_not_split_over_fsdp",
            'BATCH_AXES = ("data", "fsdp")',
            'BATCH_AXES = ("data",)',
            "tests/train/test_sharding.py::test_examples_are_split_over_data_and_fsdp",
        ),
        (
            "float32_runs_in_bfloat16_products",
            'precision = "highest" if dtype == "float32" else "default"',
            'precision = "default"',
            "tests/train/test_sharding.py::test_a_run_is_traced_under_its_mesh_and_precision",
        ),
    ),
    *faults_in(
        "unclip_jax/train/init_from.py",
        (
            "average_stays_as_drawn",
            "ema_params=fresh_copy(tree)",
            "ema_params=state.ema_params",
            "tests/train/test_init_from.py::test_everything_that_fits_is_taken",
        ),
    ),
    *faults_in(
        "unclip_jax/train/stores.py",
        (
            "split_of_the_store_not_looked_at",
            '"split": split, "concepts"',
            '"split": meta.data.get("split"), "concepts"',
            "tests/train/test_stores.py::test_what_does_not_fit_is_one_line",
        ),
        (
            "held_out_store_of_any_clip",
            "for source in (self.train, self.held_out):",
            "for source in (self.train,):",
            "tests/train/test_stores.py::test_the_held_out_store_is_of_the_same_clip_too",
        ),
        (
            "cut_captions_not_said",
            "self.train.meta.context >= context",
            "self.train.meta.context <= context",
            "tests/train/test_stores.py::test_the_held_out_store_is_of_the_same_clip_too",
        ),
    ),
    *faults_in(
        "unclip_jax/train/inputs.py",
        (
            "held_out_loss_of_training_pictures",
            "dataclasses.replace(settings.data, split=cfg.split)",
            "settings.data",
            "tests/train/test_clip_image.py::test_the_tower_sees_its_own_size_and_the_very_crop[prior_diffusion-32-False]",
        ),
        (
            "held_out_embeddings_of_a_prior",
            "batches = DeviceBatches(pipeline, self._host_transform(source), sharding)",
            "batches = DeviceBatches(pipeline, self._host_transform(source, self._sampled()), sharding)",
            "tests/train/test_inputs.py::test_held_out_batches_are_of_true_images_as_they_are",
        ),
        (
            "batches_in_one_order",
            "self._pipeline(source, settings.data, sharding, settings.seed)",
            "self._pipeline(source, settings.data, sharding, 0)",
            "tests/train/test_inputs.py::test_training_batches_are_of_the_runs_seed_and_mixed_with_a_priors_samples",
        ),
        (
            "held_out_images_moved",
            "dataclasses.replace(cfg, zoom=0.0, shift=0.0, crop=crop)",
            "dataclasses.replace(cfg, crop=crop)",
            "tests/train/test_step_randomness.py::test_held_out_images_are_shown_as_they_are",
        ),
    ),
    *faults_in(
        "unclip_jax/train/throughput.py",
        (
            "mfu_with_recomputation",
            '"mfu": model / rate, "hfu": hardware / rate',
            '"mfu": hardware / rate, "hfu": hardware / rate',
            "tests/train/test_throughput.py::test_a_steps_time_at_the_peak",
        ),
        (
            "peak_of_one_device",
            "rate = chip.flops * len(devices)",
            "rate = chip.flops",
            "tests/train/test_throughput.py::test_a_steps_time_at_the_peak",
        ),
    ),
    *faults_in(
        "unclip_jax/train/resolve.py",
        (
            "prior_sees_its_own_size",
            "        return side, None\n",
            "        return own, None\n",
            "tests/train/test_clip_image.py::test_the_tower_sees_its_own_size_and_the_very_crop[prior_ar-8-False]",
        ),
        (
            "scale_of_one_width",
            "SCALE * math.sqrt(clip.embed_dim)",
            "SCALE * math.sqrt(1024)",
            "tests/train/test_resolve.py::test_sizes_left_open_are_the_clips",
        ),
    ),
    *faults_in(
        "unclip_jax/train/tasks/degradations.py",
        (
            "blur_of_half_the_deviation",
            "jnp.exp(-0.5 * (offsets / sigma) ** 2)",
            "jnp.exp(-((offsets / sigma) ** 2))",
            "tests/train/test_degradations.py::test_kernel_is_a_normalized_gaussian",
        ),
        (
            "blur_where_not_drawn",
            "gaussian_blur(images, sigma, size), images)",
            "images, gaussian_blur(images, sigma, size))",
            "tests/train/test_degradations.py::test_random_blur_is_all_or_nothing_by_each_key",
        ),
        (
            "blur_of_rows_alone",
            "return sum(kernel[i] * rows[:, i : i + width] for i in range(2 * half + 1))",
            "return rows[:, half : half + width]",
            "tests/train/test_degradations.py::test_blur_is_scipys",
        ),
    ),
]
