import threading
import time

import pytest

from sleeplm_jax.parallel.feeding import Feed


def fed():
    return [t for t in threading.enumerate() if t.name == "feed"]


def test_batches_come_in_order_and_placed():
    with Feed(iter(range(20)), lambda batch: batch * 10) as feed:
        assert list(feed) == [n * 10 for n in range(20)]
    assert not fed()


def test_no_more_than_wanted_are_made_ahead():
    made = []

    def batches():
        for n in range(100):
            made.append(n)
            yield n

    with Feed(batches(), str, ahead=2) as feed:
        time.sleep(0.2)
        assert len(made) == 3  # two wait, one could not be handed over
        assert next(feed) == "0"
        time.sleep(0.2)
        assert len(made) == 4
    assert not fed()


def test_making_goes_on_while_the_last_batch_is_in_use():
    def slow():
        for n in range(6):
            time.sleep(0.05)
            yield n

    with Feed(slow(), lambda batch: batch) as feed:
        waits = []
        for _ in range(6):
            start = time.monotonic()
            next(feed)
            waits.append(time.monotonic() - start)
            time.sleep(0.1)  # longer than making one takes
    assert waits[0] > 0.04 and sum(waits[1:]) < 0.1


@pytest.mark.parametrize("where", ["batches", "place"])
def test_an_error_is_raised_at_its_turn_and_ends_the_feed(where):
    def batches():
        yield 1
        yield 2
        if where == "batches":
            raise FileNotFoundError("shard-3")
        yield 3

    def place(batch):
        if batch == 3:
            raise FileNotFoundError("shard-3")
        return batch

    with Feed(batches(), place) as feed:
        assert [next(feed), next(feed)] == [1, 2]
        with pytest.raises(FileNotFoundError, match="shard-3"):
            next(feed)
        with pytest.raises(StopIteration):
            next(feed)
    assert not fed()


def test_closing_ends_the_thread_and_the_batches_in_it():
    ended = []

    def batches():
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            ended.append(threading.current_thread().name)

    feed = Feed(batches(), lambda batch: batch)
    assert next(feed) == 0
    feed.close()
    feed.close()
    assert ended == ["feed"] and not fed()
