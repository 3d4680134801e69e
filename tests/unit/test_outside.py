"""A supervisor judges its workers from outside: their silence, and partitions that stand still."""

from deploy.stack.outside import SILENT_S, START_S, STILL_S, Answer, Silence, Standstill


def test_a_worker_may_take_its_time_to_start_and_not_to_answer() -> None:
    silence = Silence(100.0)
    assert silence.fault(100.0 + START_S, None) == ""
    assert silence.fault(101.0 + START_S, None) == f"its /health has not answered for {START_S + 1:.0f} s"
    assert silence.fault(300.0, Answer(reason="stalled: x")) == "", "an answer is one, well or not"
    assert silence.fault(300.0 + SILENT_S, None) == ""
    assert silence.fault(301.0 + SILENT_S, None) == f"its /health has not answered for {SILENT_S + 1:.0f} s"


def test_a_partition_below_the_end_of_its_log_must_move() -> None:
    standstill = Standstill()
    assert standstill.look(0.0, {0: 5, 1: 9, 2: 1}, {0: 9, 1: 9, 2: 9}) == {}
    assert standstill.look(STILL_S, {0: 5, 1: 9, 2: 1}, {0: 9, 1: 9, 2: 9}) == {}
    assert standstill.look(STILL_S + 1, {0: 5, 1: 9, 2: 2}, {0: 9, 1: 12, 2: 9}) == {0: STILL_S + 1}
    assert standstill.look(STILL_S + 2, {0: 9, 1: 9, 2: 2}, {0: 9, 1: 12, 2: 9}) == {}
