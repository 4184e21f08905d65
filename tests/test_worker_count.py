"""How many processes read: none beside a CPU that computes, and no more than cores and shared memory bear."""

import os

import pytest

from data.worker_count import free_shared_bytes, suited_workers, usable_cores

BATCH = 8 * 3 * 512 * 416


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_a_cpu_that_computes_reads_too(cores):
    assert suited_workers(on_gpu=False, cores=cores, shared_bytes=None, batch_bytes=BATCH).workers == 0


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 0), (3, 2), (4, 3), (5, 4), (64, 4)])
def test_beside_a_gpu_one_core_is_left_to_the_process_that_trains(cores, workers):
    for shared in (None, 10**10):
        assert suited_workers(on_gpu=True, cores=cores, shared_bytes=shared, batch_bytes=BATCH).workers == workers


def test_where_a_container_has_little_shared_memory_fewer_batches_come_through_it():
    chosen = suited_workers(on_gpu=True, cores=16, shared_bytes=64 * 10**6, batch_bytes=BATCH)
    assert (chosen.workers, chosen.why) == (2, "/dev/shm has 64 MB free")
    assert suited_workers(on_gpu=True, cores=16, shared_bytes=64 * 10**6, batch_bytes=8 * BATCH).workers == 0


def test_processes_of_torchrun_divide_the_cores_that_may_be_used(monkeypatch):
    allowed = len(os.sched_getaffinity(0))
    assert usable_cores() == allowed
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert usable_cores() == max(1, allowed // 2)
    free = free_shared_bytes()
    assert free is None or free > 0
