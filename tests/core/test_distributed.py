"""What a process is told about its job: what goes together, and one line where it does not."""

import os

import pytest

from unclip_jax.core import distributed
from unclip_jax.core.errors import UserError


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (("h:1", None, None), "go together"),
        ((None, 2, 0), "go together"),
        (("h", 2, 0), "HOST:PORT"),
        (("h:x", 2, 0), "HOST:PORT"),
        (("h:1", 2, 2), r"must lie in 0..1"),
        (("auto", None, None), "no job found in TPU metadata, SLURM or Open MPI"),
    ],
)
def test_what_does_not_make_a_job_is_one_line(told, words, monkeypatch):
    def found_nothing(*args, **options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", found_nothing)
    monkeypatch.setattr(distributed, "_free_stdout", lambda: None)
    with pytest.raises(UserError, match=words), distributed.joined(*told):
        raise AssertionError("joined")


def test_a_job_is_joined_by_what_is_given_or_by_what_the_machine_tells(monkeypatch):
    joined = []
    monkeypatch.setattr(
        distributed.jax.distributed, "initialize", lambda *args, **options: joined.append(args)
    )
    monkeypatch.setattr(distributed, "_free_stdout", lambda: None)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    with distributed.joined():
        assert joined == []  # alone
    with distributed.joined("h:1", 4, 3):
        assert joined.pop() == ("h:1", 4, 3)
    with distributed.joined("auto"):
        assert joined.pop() == (None, None, None)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    with distributed.joined():
        assert joined == []
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "16")
    with distributed.joined():
        assert joined.pop() == (None, None, None)


def test_the_shares_of_all_processes_are_the_whole(monkeypatch):
    items = list(range(11))
    monkeypatch.setattr(distributed.jax, "process_count", lambda: 3)
    shares = []
    for index in range(3):
        monkeypatch.setattr(distributed.jax, "process_index", lambda index=index: index)
        shares.append(distributed.local_shard(items, lambda item: item // 2))
    assert sorted(sum(shares, [])) == items
    assert all(len({item // 2 % 3 for item in share}) == 1 for share in shares)


def test_alone_process_0_does_it_and_its_failure_is_told_as_it_is():
    done = []
    distributed.run_on_process_zero(lambda: done.append(1))
    assert done == [1] and distributed.broadcast_from_zero(False) is False

    def fail():
        raise UserError("full")

    with pytest.raises(UserError, match="full"):
        distributed.run_on_process_zero(fail)


@pytest.mark.parametrize(
    ("told", "several"), [(None, False), ("1", False), ("4", True), ("", False), ("abc", False)]
)
def test_an_srun_of_several_tasks_is_known(told, several):
    environment = {"SLURM_STEP_NUM_TASKS": told} if told is not None else {}
    assert distributed.in_slurm_step(environment) is several
