"""What a worker tells of itself: /health and lines of JSON."""

import json
import logging
import threading

import pytest

from streams.worker.health import Condition
from streams.worker.logs import RejectSummary, event_line, limited_logs, say
from streams.worker.watchdog import StallJudge


class TestCondition:
    def judge(
        self, fetched: object = None, standing: str | None = None, *, draining: bool = False, away: bool = False
    ) -> Condition:
        states = {1: None, 0: None} if fetched is None else fetched
        return Condition.judge(is_draining=draining, fetched=states, standing=standing, is_away=lambda: away)  # type: ignore[arg-type]

    def test_all_is_well(self) -> None:
        assert self.judge() == Condition(reason=None, partitions=(0, 1))
        assert self.judge(away=True).reason is None, "nobody asks a broker that nothing is wrong with"

    def test_a_worker_to_spare_is_well(self) -> None:
        assert self.judge({}) == Condition(reason=None)

    @pytest.mark.parametrize(
        ("fetched", "standing", "draining", "away", "says"),
        [
            ("the group is rebalancing", None, False, False, "not assigned: the group is rebalancing"),
            ("the group is rebalancing", None, False, True, "Kafka is away"),
            (None, "partition 1 stands still for 9 s", False, False, "stalled: partition 1"),
            (None, "partition 1 gets no answer", False, True, "Kafka is away"),
            (None, None, True, False, "draining"),
            ("it is not subscribed", None, True, True, "draining"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, fetched: object, standing: str | None, draining: bool, away: bool, says: str
    ) -> None:
        reason = self.judge(fetched, standing, draining=draining, away=away).reason
        assert reason is not None
        assert reason.startswith(says)

    def test_what_stands_still_is_known_before_the_watchdog_acts(self) -> None:
        judge = StallJudge(60)
        for now in (0.0, 6.0):
            assert judge.verdict(now, "x", {}, {}) is None
        assert judge.standing(6.0, 5.0) == "x for 6 s"
        assert judge.standing(6.0, 10.0) is None


class TestJsonLines:
    def test_events_and_errors_are_one_object_a_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        with limited_logs(as_json=True):
            for epoch in (1, 2):
                say("epoch_cut", partition=3, epoch=epoch)
            try:
                raise KeyError("k\nl")
            except KeyError:
                logging.getLogger("aiokafka").exception("a fault\nof two lines")
        said = capsys.readouterr()
        first, second, third = (json.loads(line) for line in said.err.splitlines())
        assert said.out == ""
        assert (first["event"], first["partition"], first["epoch"], first["level"]) == ("epoch_cut", 3, 1, "info")
        assert second["epoch"] == 2, "events are not rate-limited"
        assert first["time"].endswith("+00:00")
        assert (third["event"], third["level"], third["logger"]) == ("a fault\nof two lines", "error", "aiokafka")
        assert "KeyError" in third["traceback"]

    def test_a_flood_of_rejects_is_a_line_now_and_then(self, capsys: pytest.CaptureFixture[str]) -> None:
        with limited_logs(as_json=True):
            rejects = RejectSummary(10.0)
            for now in (0.0, 1.0, 9.0, 10.0, 11.0):
                rejects.add({"undecodable": 2} if now else {"too_late": 1, "stale_boot": 1}, now)
            rejects.add({}, 60.0)
            rejects.tell(61.0)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [(line["rejected"], line["by_reason"]) for line in lines] == [
            (2, {"stale_boot": 1, "too_late": 1}),
            (6, {"undecodable": 6}),
            (2, {"undecodable": 2}),
        ]

    def test_a_thread_that_dies_is_an_error_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        with limited_logs(as_json=True):
            dying = threading.Thread(target=lambda: 1 // 0, name="t1")
            dying.start()
            dying.join()
        (line,) = capsys.readouterr().err.splitlines()
        assert json.loads(line)["event"] == "the thread t1 died"
        assert "ZeroDivisionError" in json.loads(line)["traceback"]

    def test_people_are_spared_the_events(self, capsys: pytest.CaptureFixture[str]) -> None:
        with limited_logs():
            say("epoch_cut", partition=3)
        assert capsys.readouterr().err == ""

    def test_the_last_line_needs_no_logger(self) -> None:
        document = json.loads(event_line("stopped", exit_code=75, reason="it stands still"))
        assert (document["event"], document["exit_code"], document["reason"]) == ("stopped", 75, "it stands still")
