"""Which candidates are tried, what is estimated of them, and which is chosen."""

import dataclasses

import pytest

from tests.shipped_configs import ROOT
from tools import search_plans
from unclip_jax.cli.config_files import read_config
from unclip_jax.core.chips import Topology, parse_topology
from unclip_jax.core.errors import UserError
from unclip_jax.plan import search as searching
from unclip_jax.plan.candidates import (
    EXPOSED,
    Candidate,
    Cost,
    candidates,
    gathered_bytes,
    remat_keys,
)
from unclip_jax.plan.compile import DoesNotFitError
from unclip_jax.plan.estimate import planned_program, tree_bytes
from unclip_jax.plan.search import Row, choose, first_of_each, pareto, search
from unclip_jax.plan.search_report import search_json, search_lines

SMOKE = str(ROOT / "configs/paper/upsampler_256.py:smoke")
SMALL = ("--config.train.batch_size=64", "--config.model.unet.channel_mult=(1,)")
SMALL += ("--config.eval.batch_size=16", "--config.train.dtype=bfloat16")
CHIPS = parse_topology("v5p:2x2x1")


@pytest.fixture(scope="module")
def config():
    return read_config(SMOKE, SMALL)


@pytest.fixture(scope="module")
def found(config):
    return search(config, CHIPS, compiles=0)


@pytest.fixture
def known(found, monkeypatch):
    """Searches know their estimates, which take seconds to trace."""
    monkeypatch.setattr(searching, "plan_program", lambda program: found.plan)
    monkeypatch.setattr(searching, "estimated_rows", lambda *args: list(found.rows))


def row(seconds, memory, remat="none", source="estimated", fits=True):
    cost = Cost(memory, seconds, 0.0, 0.0, 0.0)
    return Row(Candidate(remat, 1, (1, 4, 1)), cost, source, memory, seconds, 0.5, fits)


def test_candidates_divide_the_batches(config):
    program, _ = planned_program(config)
    tried = list(candidates(program, 32))
    assert len(tried) == len(set(tried))
    for candidate in tried:
        data, fsdp, tensor = candidate.mesh
        assert data * fsdp * tensor == 32
        assert 64 % (data * fsdp * candidate.accumulation) == 0 and 16 % (data * fsdp) == 0
    assert {c.remat for c in tried} == {"none", "block", "dots", "offload"}
    assert {c.mesh[2] for c in tried} == {2, 4, 8}  # 32 chips do not divide an evaluation of 16


def test_estimates_are_ordered_as_the_policies_are(found):
    """At one mesh: less is kept, less memory; and only "block" multiplies again."""
    rows = {
        r.candidate.remat: r
        for r in found.rows
        if r.candidate.mesh == (1, 4, 1) and r.candidate.accumulation == 1
    }
    memory = {name: r.estimate.memory_bytes for name, r in rows.items()}
    assert memory["block"] < memory["dots"] < memory["none"]
    work = {name: r.estimate.arithmetic_seconds for name, r in rows.items()}
    assert work["none"] == pytest.approx(work["dots"]) == pytest.approx(work["offload"])
    assert 1.1 < work["block"] / work["none"] < 4 / 3
    peak = CHIPS.chips * CHIPS.chip.flops
    assert work["none"] == pytest.approx(found.plan.flops_per_step / peak)
    for r in rows.values():
        assert r.mfu == pytest.approx(found.plan.flops_per_step / r.step_seconds / peak)
    # What waits in the host's memory goes there and comes back.
    moved = memory["dots"] - memory["offload"]
    more = rows["offload"].estimate.traffic_seconds - rows["dots"].estimate.traffic_seconds
    assert moved > 0 and more == pytest.approx(2 * moved / 16e9, rel=1e-3)


def test_micro_batches_and_meshes_change_what_they_should(found):
    by = {r.candidate: r.estimate for r in found.rows}
    whole, halves = by[Candidate("none", 1, (1, 4, 1))], by[Candidate("none", 2, (1, 4, 1))]
    assert halves.memory_bytes < whole.memory_bytes
    assert halves.collective_seconds == pytest.approx(2 * whole.collective_seconds)
    copies = by[Candidate("none", 1, (4, 1, 1))]
    assert copies.memory_bytes > whole.memory_bytes  # parameters are not split
    assert by[Candidate("none", 1, (2, 1, 2))].collective_seconds > 0


def test_parameters_are_gathered_but_for_all_but_one_of_the_scanned_blocks(config):
    decoder = str(ROOT / "configs/paper/decoder.py:smoke")
    scanned, _ = planned_program(read_config(decoder, ("--config.train.dtype=bfloat16",)))
    blocks = scanned.state.params["text_encoder"]["transformer"]["blocks"]
    whole, half = tree_bytes(scanned.state.params) / 2, tree_bytes(blocks) / 2
    assert gathered_bytes(scanned) == whole - half / 2  # one of its two layers, in bfloat16
    plain, _ = planned_program(config)
    assert gathered_bytes(plain) == tree_bytes(plain.state.params) / 2


def test_parts_of_a_steps_time():
    assert Cost(1, 1.0, 0.5, 0.25, 0.125).seconds == pytest.approx(1.5 + EXPOSED * 0.375)


def test_the_table_names_the_choice_and_the_config_as_it_is(found):
    lines = list(search_lines(found))
    assert lines[0] == "upsampler_256, 64 examples a step, 4 x v5p"
    assert lines[1].startswith("96 candidates; 96 within 95 GiB")
    (chosen,) = [line.split() for line in lines if line.startswith((">  ", ">= "))]
    candidate = found.chosen.candidate
    assert chosen[1:3] == [candidate.remat, str(candidate.accumulation)]
    assert chosen[3:8] == " x ".join(map(str, candidate.mesh)).split()
    assert found.current.candidate == Candidate("none", 1, (4, 1, 1))
    assert sum(line.split(" ")[0] in ("=", "*=", ">=") for line in lines) == 1
    assert "memory traffic" in lines[-1]


def test_what_does_not_fit_is_dropped(config, known, found, monkeypatch):
    assert all(r.fits and r.memory_bytes <= CHIPS.chip.hbm_bytes for r in found.rows)
    rows = [row(1.0, 200, fits=False), row(2.0, 9)]
    monkeypatch.setattr(searching, "estimated_rows", lambda *args: rows)
    kept = search(config, CHIPS, compiles=0)
    assert kept.rows == (rows[1],) and kept.chosen is rows[1] and kept.tried == 2
    del rows[1]
    none = search(config, CHIPS, compiles=4)
    assert none.chosen is None and none.front == () and none.rows == (rows[0],)
    assert list(search_lines(none))[1] == "1 candidates; 0 within 95 GiB a chip"
    monkeypatch.undo()
    monkeypatch.setattr(searching, "plan_program", lambda program: found.plan)
    with pytest.raises(UserError, match="no mesh of 97 chips divides"):
        search(config, Topology(CHIPS.chip, (97,)), compiles=0)


def test_the_front_and_the_choice():
    fast, small, worse = row(1.0, 30), row(2.0, 10), row(2.5, 20)
    assert pareto([worse, small, fast]) == (fast, small)
    assert choose([small, fast, worse], 100) is fast
    assert choose([small, fast, worse], 31) is small  # 30 of 31 bytes may turn out to be more
    near = row(1.009, 12)
    assert choose([small, fast, near], 100) is near
    made = row(2.0, 99, source="compiled")
    assert choose([fast, made], 100) is made
    tight = row(1.0, 99, source="memory compiled")  # the compiler says so
    assert choose([small, tight], 100) is tight
    assert choose([], 100) is None
    rows = [row(1.0, 9, "none"), row(1.1, 8, "none"), row(1.2, 5, "block")]
    assert first_of_each(rows) == [rows[0], rows[2], rows[1]]


def test_the_compilers_figures_replace_the_estimates(config, known, monkeypatch):
    """Of four the first does not fit and the second has no time of its own."""
    plans = []

    class Made:
        hbm_bytes_per_chip, mfu = 123, 0.25

        def __init__(self, seconds):
            self.step_seconds = seconds

    def compile_plan(program, plan, topology, *, effort):
        plans.append((program.spec.model.unet.remat, effort))
        assert program.settings.train.batch_size == 64
        if len(plans) == 1:
            raise DoesNotFitError("too large")
        return Made(None if len(plans) == 2 else 7.0 - len(plans))

    monkeypatch.setattr(searching, "compile_plan", compile_plan)
    said = []
    found = search(config, CHIPS, compiles=4, effort=0.5, say=said.append)
    assert len(said) == len(plans) == 4 and len({remat for remat, _ in plans}) == 4
    assert all(effort == 0.5 for _, effort in plans)
    made = sorted((r.fits, r.step_seconds) for r in found.rows if r.source == "compiled")
    assert made[1:] == [(True, 3.0), (True, 4.0)] and not made[0][0]
    assert found.chosen.step_seconds == 3.0 and found.chosen.memory_bytes == 123
    assert sum(r.source == "memory compiled" for r in found.rows) == 1
    assert found.current.candidate == Candidate("none", 1, (4, 1, 1))  # not what was compiled last
    written = [r for r in search_json(found)["rows"] if r["source"] == "compiled" and r["fits"]]
    assert {r["memory_bytes"] for r in written} == {123}  # not the estimate's, of the same name


def test_what_is_sure_to_fit_is_compiled_first(config, known, monkeypatch):
    """The fastest takes 90% of the memory by estimate, which may turn out to be more."""
    rows = [row(1.0, 90, "none"), row(1.1, 50, "dots"), row(1.2, 10, "block")]
    chip = dataclasses.replace(CHIPS.chip, hbm_bytes=100)
    monkeypatch.setattr(searching, "estimated_rows", lambda *args: rows)
    tried = []
    monkeypatch.setattr(searching, "_compiled", lambda row, *args: tried.append(row) or row)
    search(config, Topology(chip, CHIPS.shape), compiles=2)
    assert [row.candidate.remat for row in tried] == ["dots", "block"]


def test_the_page_of_scaling_has_the_tables_of_the_searches():
    results = search_plans.load()
    assert len(results) == len(search_plans.RUNS)
    assert search_plans.tables(results) in search_plans.PAGE.read_text(encoding="utf-8")


def test_remat_is_found_wherever_it_is():
    decoder = read_config(str(ROOT / "configs/paper/decoder.py"), ())
    keys = ["model.text_encoder.transformer.remat", "model.unet.remat"]
    assert sorted(remat_keys(decoder["model"], "model")) == keys
    changes = Candidate("block", 2, (1, 8, 1)).changes(decoder)
    assert changes == dict.fromkeys(keys, "block") | {
        "train.accumulation": 2,
        "train.mesh.data": 1,
        "train.mesh.fsdp": 8,
        "train.mesh.tensor": 1,
    }
    changed = searching.with_changes(decoder, changes)
    assert changed["model"]["unet"]["remat"] == "block" and changed["train"]["mesh"]["fsdp"] == 8
    assert decoder["model"]["unet"]["remat"] != "block"
