"""Reading ahead: in order, never more at once than allowed, fewer when the server is slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli.pace import BIG_BYTES, SAMPLE, Pace, ahead, one_big_at_a_time

WAIT = 30  # seconds; far more than anything here takes


@given(st.lists(st.integers()), st.integers(min_value=1, max_value=8))
def test_results_come_in_order_with_their_jobs(jobs: list[int], most: int) -> None:
    done = [(job, future.result()) for job, future in ahead(jobs, lambda job: job * 2, most)]
    assert done == [(job, job * 2) for job in jobs]


@pytest.mark.parametrize("most", [1, 3])
def test_at_most_so_many_at_once(most: int) -> None:
    """All that may run at once do, and not one more: each waits for the others to be there."""
    meeting = threading.Barrier(most)
    lock, now, peak = threading.Lock(), [0], [0]

    def work(_job: int) -> None:
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        meeting.wait(WAIT)
        with lock:
            now[0] -= 1

    assert len(list(ahead(range(most * 4), work, most, clock=lambda: 0.0))) == most * 4
    assert peak == [most]


def test_jobs_are_taken_as_their_work_begins() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = ahead(jobs(), lambda job: job, 4)
    next(results)
    assert len(taken) <= 5


def test_an_error_is_raised_where_the_result_is_asked_for_and_the_others_come() -> None:
    def work(job: int) -> int:
        if job == 1:
            raise ValueError("no")
        return job

    futures = [future for _, future in ahead(range(3), work, 2)]
    assert (futures[0].result(), futures[2].result()) == (0, 2)
    with pytest.raises(ValueError, match="no"):
        futures[1].result()


def paced(most: int, *seconds: float) -> int:
    pace = Pace(most)
    for each in seconds:
        pace.took(each)
    return pace.limit


@pytest.mark.parametrize(
    ("later", "limit"),
    [
        ([0.1] * 50, 8),
        ([0.29] * 50, 8),  # not three times as long
        ([0.4] * SAMPLE, 4),
        ([0.4] * (2 * SAMPLE), 2),
        ([0.4] * 50, 1),  # never none
        ([9.0, 0.1, 9.0, 0.1, 0.1], 8),  # one that is slow is one big log
        ([0.4] * SAMPLE + [0.1] * 50, 4),
    ],
)
def test_fewer_at_once_when_the_server_answers_slower(later: Sequence[float], limit: int) -> None:
    assert paced(8, *([0.1] * SAMPLE), *later) == limit


def test_one_big_log_at_a_time() -> None:
    """Small ones run beside a big one; the second big one waits for the first one's end."""
    turn = threading.Lock()
    piece = b"x" * (BIG_BYTES // 2)
    big = one_big_at_a_time(iter([piece] * 4), turn)
    assert not turn.locked()
    for _ in range(3):
        next(big)
    assert turn.locked()
    assert len(list(one_big_at_a_time(iter([piece, b"y"]), turn))) == 2
    told: list[str] = []

    def second() -> None:
        for _ in one_big_at_a_time(iter([piece] * 3), turn):
            told.append("piece")

    other = threading.Thread(target=second, daemon=True)
    other.start()
    while len(told) < 2:
        pass  # two pieces are not big yet
    assert list(big) == [piece]
    other.join(WAIT)
    assert len(told) == 3
    assert not turn.locked()


def test_who_stops_early_gives_the_turn_back() -> None:
    turn = threading.Lock()
    big = one_big_at_a_time(iter([b"x" * BIG_BYTES] * 4), turn)
    next(big)
    next(big)
    assert turn.locked()
    big.close()
    assert not turn.locked()
