"""Values that processes of one training tell one another, through JAX's coordination service.

No devices take part: a message costs a round trip to rank 0's host and waits for no step that is
queued. All processes must call these functions in the same order.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from sleeplm_jax.errors import UserError

PATIENCE_S = 1800.0  # a rank may be reading a large checkpoint from a slow disk
_numbers = itertools.count()


def first_says(subject: str, value: Any = None, timeout: float = PATIENCE_S) -> Any:
    """Rank 0's `value` (JSON), on every process; the others' is not looked at.

    Raises UserError when it does not come within `timeout` seconds.
    """
    client, rank, _ = _coordination()
    if client is None:
        return value
    key = f"sleeplm/told/{next(_numbers)}"
    if rank == 0:
        client.key_value_set(key, json.dumps(value))
        return value
    return json.loads(_heard(client, key, timeout, subject, 0))


def all_say(subject: str, value: Any, timeout: float = PATIENCE_S) -> list:
    """Every process' `value` (JSON), in the order of ranks, on every process.

    Raises UserError when one does not come within `timeout` seconds.
    """
    client, rank, processes = _coordination()
    if client is None:
        return [value]
    key = f"sleeplm/told/{next(_numbers)}"
    if rank != 0:
        client.key_value_set(f"{key}/{rank}", json.dumps(value))
        return json.loads(_heard(client, key, timeout, subject, 0))
    said = [value] + [
        json.loads(_heard(client, f"{key}/{other}", timeout, subject, other))
        for other in range(1, processes)
    ]
    client.key_value_set(key, json.dumps(said))
    return said


def _coordination() -> tuple[Any, int, int]:
    """JAX's client of the coordinator (None for a process alone), this rank, all of them."""
    import jax

    if jax.process_count() == 1:
        return None, 0, 1
    from jax._src import distributed  # no public function tells values without devices

    return distributed.global_state.client, jax.process_index(), jax.process_count()


def _heard(client: Any, key: str, timeout: float, subject: str, rank: int) -> str:
    try:
        return client.blocking_key_value_get(key, int(timeout * 1000))
    except Exception as error:
        raise UserError(
            subject, f"rank {rank} did not answer within {timeout:.0f} s "
            f"({str(error).partition(chr(10))[0][:120]})", "see that rank's log",
        ) from error
