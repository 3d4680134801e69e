"""The parts of the stream worker that need no broker."""

import asyncio
import logging
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from aiokafka.errors import NodeNotReadyError

from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.units import MINUTE_MS
from streams.core.records import Record
from streams.kafka.consumer import PROVED, Slice
from streams.kafka.heartbeats import SilentPartitions
from streams.kafka.topics import AHEAD_MAX_MS, topic_config, topic_faults
from streams.kafka.whole_batches import WholeBatchFetcher
from streams.worker.faust_app import Fetched
from streams.worker.logs import RateLimit, limited_logs
from streams.worker.partition import first_offset
from streams.worker.partition_owner import sound_part
from streams.worker.watchdog import StallJudge, message_of

NOW_MS = 1_700_000_000_000
LOG = Log(log_id="unit", partitions=4)
BACKFILL = Log(log_id="unit", partitions=4, timestamp_type="CreateTime")


def test_the_transport_was_proved_with_the_versions_installed() -> None:
    installed = {name: version(name) for name in PROVED}
    assert installed == PROVED, (
        "streams/adapters/consumer.py and two files beside it override private parts of Faust and aiokafka. Read what"
        " changed there, run tests/crash and `python -m tests.crash.rounds --rounds 40`, then write the new versions to"
        " PROVED"
    )


class TestTopic:
    def test_as_it_is_made_it_is_fit(self) -> None:
        assert topic_faults(LOG, 4, topic_config(LOG)) == []
        assert topic_config(LOG)["message.timestamp.type"] == "LogAppendTime"

    def test_where_producers_stamp_the_broker_refuses_what_is_stamped_ahead(self) -> None:
        config = topic_config(BACKFILL)
        assert config["message.timestamp.after.max.ms"] == str(AHEAD_MAX_MS)
        (fault,) = topic_faults(BACKFILL, 4, config | {"message.timestamp.after.max.ms": "9223372036854775807"})
        assert fault.endswith("would stop the log: set message.timestamp.after.max.ms=600000 on the topic")

    @pytest.mark.parametrize(
        ("name", "value", "remedy"),
        [
            ("retention.ms", "604800000", "set retention.ms=-1"),
            ("retention.bytes", "1000", "set retention.bytes=-1"),
            ("cleanup.policy", "compact,delete", "set cleanup.policy=delete"),
            ("message.timestamp.type", "CreateTime", "name the topic made for this log"),
        ],
    )
    def test_each_wrong_setting_is_named_with_its_remedy(self, name: str, value: str, remedy: str) -> None:
        (fault,) = topic_faults(LOG, 4, topic_config(LOG) | {name: value})
        assert name in fault
        assert value in fault
        assert remedy in fault

    def test_another_number_of_partitions(self) -> None:
        (fault,) = topic_faults(LOG, 5, topic_config(LOG))
        assert "5 partitions" in fault


class TestFirstOffset:
    def test_goes_on_from_the_checkpoint_or_begins_at_zero(self) -> None:
        assert first_offset("t", 0, None, (0, 0)) == 0
        assert first_offset("t", 0, 7, (0, 7)) == 7

    @pytest.mark.parametrize(("stored", "held"), [(None, (3, 9)), (2, (3, 9)), (10, (3, 9))])
    def test_a_log_that_lost_its_place_is_refused(self, stored: int | None, held: tuple[int, int]) -> None:
        with pytest.raises(InvalidInput, match="3 to 9"):
            first_offset("t", 0, stored, held)


class TestWallClock:
    def records(self, *timestamps: int) -> Slice:
        records = [Record(10 + 2 * place, time, None, b"") for place, time in enumerate(timestamps)]
        return Slice(2, 9, 20, 1, records)

    def test_the_limit_itself_passes(self) -> None:
        piece = self.records(NOW_MS, NOW_MS + AHEAD_MAX_MS)
        assert sound_part(BACKFILL, piece, NOW_MS) == (piece, None)

    def test_a_record_from_the_future_and_all_after_it_are_left(self) -> None:
        piece = self.records(NOW_MS, NOW_MS + AHEAD_MAX_MS + MINUTE_MS, NOW_MS)
        sound, refused = sound_part(BACKFILL, piece, NOW_MS)
        assert sound == Slice(2, 9, 12, 1, piece.records[:1])
        assert (
            "the record at offset 12 of partition 2 is stamped 11 minutes ahead: whoever sent it had a wrong clock"
            in str(refused)
        )

    def test_the_first_record_may_be_the_one(self) -> None:
        sound, refused = sound_part(BACKFILL, self.records(NOW_MS + 2 * AHEAD_MAX_MS), NOW_MS)
        assert (sound.next, sound.records) == (10, [])
        assert refused is not None

    def test_a_slice_without_records_is_sound(self) -> None:
        piece = Slice(0, 3, 5, 1, ())
        assert sound_part(BACKFILL, piece, 0) == (piece, None)


class TestStallJudge:
    """A limit of 10 s, a look every second."""

    def looks(self, states: list[tuple[Fetched | str | None, int, int]]) -> list[str | None]:
        judge = StallJudge(10)
        return [
            judge.verdict(float(now), state if isinstance(state, str) else {3: state}, {3: delivered}, {3: committed})
            for now, (state, delivered, committed) in enumerate(states)
        ]

    def test_idle_and_answered_is_well(self) -> None:
        assert not any(self.looks([(Fetched(5, 5, now), 5, 5) for now in range(60)]))

    def test_slow_progress_is_well(self) -> None:
        assert not any(self.looks([(Fetched(99, 99, 0), 99, now // 5) for now in range(200)]))

    def test_a_record_after_a_long_rest_is_no_stall_yet(self) -> None:
        rest = [(Fetched(5, 5, now), 5, 5) for now in range(600)]
        assert not any(self.looks([*rest, (Fetched(5, 6, 700), 5, 5), (Fetched(6, 6, 701), 6, 5)]))

    @pytest.mark.parametrize(
        ("state", "delivered", "says"),
        [
            ((8, 9), 5, "partition 3 has records to commit and makes no progress for 11 s"),
            ((5, 5), 8, "partition 3 has records to commit and makes no progress for 11 s"),
        ],
    )
    def test_records_that_nobody_commits(self, state: tuple[int, int], delivered: int, says: str) -> None:
        verdicts = self.looks([(Fetched(*state, now), delivered, 5) for now in range(13)])
        assert verdicts == [None] * 12 + [says]

    @pytest.mark.parametrize(("delivered", "is_well"), [(8, True), (5, False)])
    def test_while_another_is_committed_a_partition_may_wait_for_its_turn(self, delivered: int, is_well: bool) -> None:
        judge = StallJudge(10)
        verdicts = [
            judge.verdict(
                float(now),
                {0: Fetched(99, 99, now), 3: Fetched(8, 9, now)},
                {0: 99, 3: delivered},
                {0: now // 5, 3: 5},
            )
            for now in range(60)
        ]
        assert (not any(verdicts)) == is_well

    def test_a_broker_that_answers_no_more(self) -> None:
        verdicts = self.looks([(Fetched(5, 5, 77), 5, 5) for _ in range(13)])
        assert verdicts[-1] == "partition 3 gets no answer from its broker for 11 s"

    def test_a_reason_for_reading_nothing(self) -> None:
        assert self.looks([("the group is rebalancing", 0, 0)] * 12)[-1] == "the group is rebalancing for 11 s"
        assert self.looks([(None, 0, 0)] * 12)[-1] == "partition 3 was never fetched for 11 s"

    def test_what_had_an_excuse_counts_anew(self) -> None:
        judge = StallJudge(10)
        assert judge.verdict(0, "x", {}, {}) is None
        assert judge.verdict(11, "x", {}, {}) == "x for 11 s"
        judge.forget()
        assert judge.verdict(12, "x", {}, {}) is None


class TestQuietPartitions:
    def test_one_that_nothing_comes_to_is_due_once_a_time(self) -> None:
        silent = SilentPartitions(60)
        assert silent.due({1, 2}, 0.0) == []
        silent.heard(1, 30.0)
        assert silent.due({1, 2}, 60.0) == [2]
        silent.heard(2, 60.0)
        assert silent.due({1, 2}, 90.0) == [1]

    def test_one_that_comes_back_is_given_the_whole_time(self) -> None:
        silent = SilentPartitions(60)
        silent.heard(1, 0.0)
        assert silent.due(set(), 50.0) == []
        assert silent.due({1}, 100.0) == []
        assert silent.due({1}, 160.0) == [1]

    def test_one_whose_window_waits_to_be_sealed_is_due_at_once_and_once(self) -> None:
        silent = SilentPartitions(60)
        silent.heard(1, 0.0, 1_000)
        silent.heard(2, 0.0, 2_000)
        assert silent.due({1, 2}, 0.5, 1_000) == []
        assert silent.due({1, 2, 3}, 1.0, 2_000) == [1]
        silent.heard(1, 1.0, 2_000)
        silent.heard(1, 1.5, 1_000)  # an old record of a backlog
        assert silent.due({1, 2, 3}, 2.0, 2_000) == []
        assert silent.due({1, 2, 3}, 2.0, 3_000) == [1, 2, 3]


def test_errors_that_are_written_to_be_read_are_one_line() -> None:
    assert message_of(InvalidInput("do this")) == "tallyroot: do this"
    assert message_of(InvariantBroken("never")) == "tallyroot: never"
    assert "Traceback" not in message_of(InvalidInput("x"))
    with pytest.raises(KeyError) as caught:
        raise KeyError("k")
    assert "test_worker_parts" in message_of(caught.value)


class TestQuiet:
    def record(self, moment: float, message: str = "away: %s", level: int = logging.ERROR) -> logging.LogRecord:
        record = logging.LogRecord("aiokafka", level, __file__, 1, message, ("x",) if "%" in message else None, None)
        record.created = moment
        return record

    def test_one_line_in_ten_seconds_tells_of_the_others(self) -> None:
        limit = RateLimit()
        assert [limit.filter(self.record(moment)) for moment in (0.0, 1.0, 9.9)] == [True, False, False]
        late = self.record(10.0)
        assert limit.filter(late)
        assert late.getMessage() == "away: x (and 2 more like it)"

    def test_what_passes_by_itself_is_not_said(self) -> None:
        assert not RateLimit().filter(self.record(0.0, "failed: GroupCoordinatorNotAvailableError"))

    def test_loggers_are_given_back_as_they_were(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger = logging.getLogger("aiokafka")
        before = (logger.level, logger.propagate, list(logger.handlers))
        with limited_logs():
            logger.warning("a rebalance")
            logging.getLogger("aiokafka.client").error("a fault")
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "tallyroot: aiokafka.client: a fault\n")
        assert (logger.level, logger.propagate, list(logger.handlers)) == before


class NobodyThere:
    """aiokafka's client when the broker is gone."""

    async def send(self, node_id: int, request: object) -> None:
        raise NodeNotReadyError


def test_a_fetch_that_pauses_after_an_error_can_be_ended() -> None:
    """aiokafka's own can't: a worker that was told to stop while Kafka was away took 8 s and ended with 143."""
    fetcher = object.__new__(WholeBatchFetcher)
    fetcher._client, fetcher._retry_backoff, fetcher._preferred_read_replica = NobodyThere(), 60, {}

    async def end_it() -> object:
        fetch = asyncio.create_task(fetcher._proc_fetch_request(None, 1, SimpleNamespace(topics=[])))
        await asyncio.sleep(0.01)
        fetch.cancel()
        return await fetch

    assert asyncio.run(end_it()) is False
