"""Files written beside the computation: in order, all of them, few at a time, and what fails is heard of."""

import threading

import pytest

from mhcln.storage.saver import MOST_WAITING, Saver


def full_disk() -> None:
    raise OSError(28, "No space left on device")


def test_everything_is_saved_in_order_off_the_main_thread():
    saved = []
    with Saver() as saver:
        for number in range(20):
            saver.save(lambda number=number: saved.append((number, threading.current_thread())))
    assert [number for number, _ in saved] == list(range(20))
    assert threading.main_thread() not in {thread for _, thread in saved}


def test_everything_is_saved_before_another_error_leaves():
    saved, go_on = [], threading.Event()
    with pytest.raises(KeyboardInterrupt), Saver() as saver:
        saver.save(go_on.wait, 10)
        saver.save(saved.append, 1)
        go_on.set()
        raise KeyboardInterrupt
    assert saved == [1]


def test_an_error_surfaces_at_the_next_call():
    with pytest.raises(OSError, match="No space left") as caught, Saver() as saver:
        saver.save(full_disk)
        while not saver._waiting[0].done():
            pass
        saver.save(print)
        raise AssertionError
    assert caught.value.errno == 28


def test_an_error_of_the_last_call_surfaces_at_the_end():
    with pytest.raises(OSError, match="No space left"), Saver() as saver:
        saver.save(full_disk)


def test_a_disk_that_is_too_slow_is_waited_for():
    go_on = threading.Event()
    saved = []

    def save(number):
        go_on.wait(10)
        saved.append(number)

    with Saver() as saver:
        for number in range(MOST_WAITING):
            saver.save(save, number)
        assert saved == []
        threading.Timer(0.05, go_on.set).start()
        saver.save(save, MOST_WAITING)
        assert 0 in saved
