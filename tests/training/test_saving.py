"""When a run is saved, by a clock and by processes of the test's own."""

import math
import threading

import pytest

from sleeplm_jax.config import RunConfig
from sleeplm_jax.parallel import telling
from sleeplm_jax.training.saving import ByTime, Saving


class Clock:
    def __init__(self, time=0.0):
        self.time = time

    def __call__(self):
        return self.time


def saves(timer, clock, steps, pace):
    """The steps after which the timer saves, of steps that take `pace` seconds each."""
    found = []
    for step in steps:
        clock.time += pace
        if timer.due(step):
            found.append(step)
            timer.begin_again()
    return found


def test_a_save_comes_when_the_last_one_is_so_old():
    clock = Clock()
    timer = ByTime(900, 0, lambda: False, clock)
    found = saves(timer, clock, range(1, 10_001), 0.5)
    # At most one question's distance (10 s) late, never early.
    gaps = [b - a for a, b in zip([0, *found], found)]
    assert len(found) == 5 and all(1800 <= gap <= 1820 for gap in gaps)


def test_slow_steps_are_asked_after_each():
    clock = Clock()
    assert saves(ByTime(900, 40, lambda: False, clock), clock, range(41, 60), 400) == \
        [43, 46, 49, 52, 55, 58]  # 1,200 s apart: the first step past 900


def test_none_are_saved_by_time_when_not_wanted():
    clock = Clock()
    assert saves(ByTime(0, 0, lambda: False, clock), clock, range(1, 100), 1000) == []


def test_none_is_begun_while_one_is_being_written():
    clock, busy = Clock(), [True]
    timer = ByTime(60, 0, lambda: busy[0], clock)
    assert saves(timer, clock, range(1, 200), 1) == []
    busy[0] = False
    assert len(saves(timer, clock, range(200, 250), 1)) == 1


class Recorder:
    """Checkpoints of which only the calls are kept."""

    saving, calls, waited = False, (), 0

    def save(self, step, state, metadata, val_loss=None, *, temporary=False):
        self.calls += ((step, val_loss, temporary, metadata["next_index"], metadata["best"]),)

    def amend(self, step, metadata, val_loss):
        self.calls += (("amended", step, val_loss),)
        return True

    def look(self):
        pass

    def wait(self):
        self.waited += 1


def test_what_a_run_saves_and_with_what_it_is_marked():
    config = RunConfig(checkpoint_every=4, checkpoint_minutes=0)
    saved = Recorder()
    saving = Saving(saved, config, {}, 0)
    saving.last(0, {}, math.inf)  # before the first step there is nothing to save
    assert saved.calls == () and saved.waited == 1
    for step, loss in ((1, None), (4, None), (6, 0.5), (7, None)):
        if saving.due(step, loss):
            saving.save(step, {}, math.inf if loss is None else loss, loss)
    saving.last(7, {}, 0.5)
    saving.last(7, {}, 0.5)  # it is saved
    batch = config.data.batch_size
    saving.save(7, {}, 0.25, 0.25)  # its evaluation came later
    assert saved.calls == (
        (4, None, False, 4 * batch, None), (6, 0.5, False, 6 * batch, 0.5),
        (7, None, True, 7 * batch, 0.5), ("amended", 7, 0.25),
    )


class Service:
    """JAX's key-value service, for threads in place of processes; counts what is asked of it."""

    def __init__(self):
        self.values, self.there, self.asked = {}, threading.Condition(), 0

    def key_value_set(self, key, value):
        with self.there:
            assert key not in self.values, "a key serves once"
            self.values[key] = value
            self.there.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self.there:
            self.asked += 1
            if not self.there.wait_for(lambda: key in self.values, milliseconds / 1000):
                raise RuntimeError("DEADLINE_EXCEEDED")
            return self.values[key]


def test_processes_with_different_clocks_save_after_the_same_steps(monkeypatch):
    """Three ranks whose clocks are hours apart and run at other speeds."""
    service, here = Service(), threading.local()
    monkeypatch.setattr(telling, "_coordination", lambda: (service, here.rank, 3))
    found = {}

    def rank(number):
        here.rank = number
        clock = Clock(3600.0 * number)
        timer = ByTime(900, 0, lambda: False, clock)
        found[number] = saves(timer, clock, range(1, 4001), (1.0, 0.3, 2.0)[number])

    class Counted:  # each thread counts its own messages, as each process does
        def __next__(self):
            here.count = getattr(here, "count", 0) + 1
            return here.count

    monkeypatch.setattr(telling, "_numbers", Counted())
    threads = [threading.Thread(target=rank, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] == found[1] == found[2] and len(found[0]) == 4
    # One message some ten seconds of rank 0's, not one a step.
    assert service.asked / 2 < 4000 / 8


def test_what_all_say_is_heard_in_the_order_of_ranks(monkeypatch):
    service, here = Service(), threading.local()
    monkeypatch.setattr(telling, "_coordination", lambda: (service, here.rank, 3))
    monkeypatch.setattr(telling, "_numbers", iter([5] * 3))
    found = {}

    def rank(number):
        here.rank = number
        found[number] = telling.all_say("rows", {"rank": number})

    threads = [threading.Thread(target=rank, args=(number,)) for number in (2, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] == found[1] == found[2] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]


def test_a_rank_that_does_not_answer_is_named(monkeypatch):
    from sleeplm_jax.errors import UserError

    monkeypatch.setattr(telling, "_coordination", lambda: (Service(), 0, 2))
    with pytest.raises(UserError, match="checkpoint 8: rank 1 did not answer within 0 s"):
        telling.all_say("checkpoint 8", "", timeout=0.01)
