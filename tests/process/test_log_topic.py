"""A log's topic in a real Kafka: made, checked, and read by exact ranges."""

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.errors import InvalidInput
from schemas.log import Log
from streams.core.records import Record
from streams.kafka.reader import KafkaLogReader
from streams.kafka.security import client_config
from streams.kafka.topics import check_topic, create_topic
from tests.support.kafka_log import CODECS, ODD_HEADERS, Sender, a_log, drop_topic


@pytest.fixture
def log(kafka: str, request: pytest.FixtureRequest) -> Log:
    """An empty log named after the test."""
    log = a_log(f"topic-{request.node.name[:40].strip('_[]')}".replace("[", "-"))
    create_topic(kafka, log)
    return log


@pytest.fixture
def reader(kafka: str, log: Log) -> Iterator[KafkaLogReader]:
    reader = KafkaLogReader(kafka, log.topic)
    yield reader
    reader.close()


def filled(kafka: str, log: Log, count: int, **settings: str) -> None:
    """`count` records of one second each in partition 1."""
    sender = Sender(kafka, log, **settings)
    sender.send([Record(0, 1_000 * place, b"k", b"%d" % place, []) for place in range(count)], 1)
    assert sender.kafka.flush(30) == 0


class TestTopics:
    def test_made_once_and_fit(self, kafka: str, log: Log) -> None:
        topic_id = check_topic(kafka, log)
        assert create_topic(kafka, log) == topic_id
        assert topic_id

    def test_records_of_long_ago_stay(self, kafka: str, log: Log, reader: KafkaLogReader) -> None:
        filled(kafka, log, 10)
        assert reader.range(1) == (0, 10)

    def test_all_that_is_wrong_with_one_in_one_line(self, kafka: str) -> None:
        config = {"retention.ms": "1000", "cleanup.policy": "compact"}
        admin = AdminClient(client_config(kafka))
        admin.create_topics([NewTopic("topic-wrong", 3, 1, config=config)])["topic-wrong"].result(10)
        with pytest.raises(InvalidInput) as caught:
            create_topic(kafka, a_log("topic-wrong"))
        message = str(caught.value)
        assert "\n" not in message
        for word in ("3 partitions", "retention.ms=-1", "cleanup.policy=delete"):
            assert word in message
        assert "message.timestamp.type" not in message

    def test_a_log_of_live_records_wants_the_brokers_time(self, kafka: str, log: Log) -> None:
        with pytest.raises(InvalidInput, match=r"message\.timestamp\.type is CreateTime, not LogAppendTime"):
            check_topic(kafka, a_log(log.topic, timestamp_type="LogAppendTime"))

    def test_no_topic(self, kafka: str) -> None:
        with pytest.raises(InvalidInput, match="there is no topic topic-none"):
            check_topic(kafka, a_log("topic-none"))

    def test_no_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("streams.kafka.reader.REQUEST_SECONDS", 0.3)
        with pytest.raises(InvalidInput, match="doesn't answer about the topic"):
            check_topic("127.0.0.1:1", a_log("topic-none"))

    def test_another_topic_of_the_same_name_has_another_id(self, kafka: str, log: Log, reader: KafkaLogReader) -> None:
        before = reader.topic_id()
        assert before == check_topic(kafka, log)
        drop_topic(kafka, log)
        assert create_topic(kafka, log) != before
        assert reader.topic_id() != before


class TestReader:
    def test_ranges_are_exact(self, kafka: str, log: Log, reader: KafkaLogReader) -> None:
        filled(kafka, log, 50)
        assert reader.ranges([0, 1, 2]) == {0: (0, 0), 1: (0, 50), 2: (0, 0)}
        assert [record.value for record in reader.read(1, 7, 10)] == [b"7", b"8", b"9"]
        assert [record.offset for record in reader.read(1, 0, 50)] == list(range(50))
        assert [record.timestamp for record in reader.read(1, 49, 50)] == [49_000]
        assert list(reader.read(1, 20, 20)) == []
        assert list(reader.read(0, 0, 0)) == []

    def test_a_reader_left_in_the_middle_reads_on(self, kafka: str, log: Log, reader: KafkaLogReader) -> None:
        filled(kafka, log, 50)
        first = reader.read(1, 0, 50)
        assert next(first).offset == 0
        del first
        assert [record.offset for record in reader.read(1, 3, 5)] == [3, 4]

    def test_what_the_log_does_not_hold_is_refused(self, kafka: str, log: Log, reader: KafkaLogReader) -> None:
        filled(kafka, log, 5)
        with pytest.raises(InvalidInput, match="holds the offsets 0 to 5, not 3 to 6"):
            list(reader.read(1, 3, 6))

    def test_transactions_leave_gaps_and_hide_what_was_aborted(
        self, kafka: str, log: Log, reader: KafkaLogReader
    ) -> None:
        sender = Sender(kafka, log, **{"transactional.id": log.log_id})
        sender.kafka.init_transactions()
        for end in (sender.kafka.commit_transaction, sender.kafka.abort_transaction, None):
            sender.kafka.begin_transaction()
            sender.send([Record(0, 1, None, b"x", [])] * 3, 1)
            sender.kafka.flush(10)
            if end is not None:
                end()
        # Offsets 0-2 and a marker, 4-6 aborted and a marker, 8-10 still open.
        assert reader.range(1) == (0, 8)
        assert [record.offset for record in reader.read(1, 0, 8)] == [0, 1, 2]
        assert list(reader.read(1, 3, 8)) == []
        assert [record.offset for record in reader.read(1, 2, 4)] == [2]
        with pytest.raises(InvalidInput, match="0 to 8, not 0 to 9"):
            list(reader.read(1, 0, 9))
        sender.kafka.abort_transaction()

    def test_bytes_are_as_they_were_sent(self, kafka: str, log: Log, reader: KafkaLogReader) -> None:
        odd = [
            Record(0, 5, key, value, headers)
            for key in (None, b"", b"k", b"\x00\xff")
            for value in (None, b"", b"v", b"\xff" * 70_000)
            for headers in ([], ODD_HEADERS, [("a", None), ("a", b"")])
        ]
        for codec in CODECS:
            sender = Sender(kafka, log, **{"compression.type": codec})
            sender.send(odd, 2)
            sender.kafka.flush(30)
        _, end = reader.range(2)
        read = [Record(0, r.timestamp, r.key, r.value, list(r.headers)) for r in reader.read(2, 0, end)]
        assert read == odd * len(CODECS)
