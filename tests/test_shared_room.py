"""Memory that processes share: real forks that write at once, and one that starts anew."""

import multiprocessing
import pickle
import resource

import numpy as np
import pytest

from data.shared_room import SharedRoom

SIZE = (6, 5)


def image(number: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*SIZE, *channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_what_is_put_in_comes_out_and_can_not_be_written_to(channels):
    room = SharedRoom(3, 1000)
    assert room.get(1, SIZE) is None
    room.put(1, image(1, *channels))
    found = room.get(1, SIZE)
    np.testing.assert_array_equal(found, image(1, *channels))
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 0
    assert room.get(0, SIZE) is None


def test_what_does_not_fit_is_not_kept_and_what_is_smaller_still_is():
    room = SharedRoom(4, 130)
    for number, channels in enumerate([(3,), (3,), (), ()]):
        room.put(number, image(number, *channels))
    assert [room.get(number, SIZE) is not None for number in range(4)] == [True, False, True, False]
    room.put(2, image(7))  # it is there
    np.testing.assert_array_equal(room.get(2, SIZE), image(2))


def fill(room: SharedRoom, first: int) -> None:
    for number in range(400):
        room.put((first + number) % 400, image((first + number) % 400))


def test_processes_that_fill_a_room_at_once_lose_and_mix_up_nothing():
    room = SharedRoom(400, 300 * 30)
    started = [multiprocessing.get_context("fork").Process(target=fill, args=(room, 100 * i)) for i in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    kept = [number for number in range(400) if room.get(number, SIZE) is not None]
    assert len(kept) == 300
    for number in kept:
        np.testing.assert_array_equal(room.get(number, SIZE), image(number))


def test_a_process_that_is_not_a_fork_has_a_room_of_its_own():
    room = SharedRoom(2, 1000)
    room.put(0, image(0))
    other = pickle.loads(pickle.dumps(room))
    assert other.get(0, SIZE) is None
    other.put(1, image(1))
    np.testing.assert_array_equal(other.get(1, SIZE), image(1))
    assert room.get(1, SIZE) is None


def test_a_room_takes_memory_as_it_is_filled():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    room = SharedRoom(2, 50 * 2**30)
    room.put(0, image(0))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # kB
