import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;
import org.apache.kafka.streams.state.WindowStore;

/**
 * A 15-minute tumbling sum and count by key in Kafka Streams: one thread, windows in memory without a changelog, sent
 * once they close (cheaper than `suppress`, and than a cache in front of the store).
 * Arguments: the broker, the topic, how many records it holds, a folder for state, the result's file.
 */
public final class KafkaStreamsSum {
    private static final Duration WINDOW = Duration.ofMinutes(15);
    private static final Serde<Reading> READINGS =
            Serdes.serdeFrom(
                    (topic, reading) -> {
                        throw new UnsupportedOperationException("readings are only read");
                    },
                    (topic, value) -> {
                        try {
                            return Reading.of(value);
                        } catch (IOException error) {
                            throw new UncheckedIOException(error);
                        }
                    });
    private static final Serde<Window> WINDOWS =
            Serdes.serdeFrom(
                    (topic, window) -> ByteBuffer.allocate(16).putLong(window.count).putLong(window.total).array(),
                    (topic, bytes) -> {
                        ByteBuffer buffer = ByteBuffer.wrap(bytes);
                        return new Window().add(buffer.getLong(), buffer.getLong());
                    });

    private static long left;

    public static void main(String[] arguments) throws Exception {
        Bench.endWithParent();
        left = Long.parseLong(arguments[2]);
        CountDownLatch all = new CountDownLatch(1);
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(arguments[1], Consumed.with(Serdes.String(), READINGS))
                .peek(
                        (machine, reading) -> {
                            Bench.taken();
                            if (--left == 0) {
                                all.countDown();
                            }
                        })
                .groupByKey(Grouped.with(Serdes.String(), READINGS))
                .windowedBy(TimeWindows.ofSizeWithNoGrace(WINDOW))
                .emitStrategy(EmitStrategy.onWindowClose())
                .aggregate(
                        Window::new,
                        (machine, reading, window) -> window.add(1, reading.register),
                        Materialized.<String, Window, WindowStore<Bytes, byte[]>>as("sums")
                                .withStoreType(BuiltInDslStoreSuppliers.IN_MEMORY)
                                // A window must outlive its end, or the reading that closes it removes it first.
                                .withRetention(Duration.ofDays(1))
                                .withValueSerde(WINDOWS)
                                .withCachingDisabled()
                                .withLoggingDisabled())
                .toStream()
                .foreach((key, window) -> Bench.closed(key.key(), window));
        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings(arguments[0], arguments[3]))) {
            streams.setUncaughtExceptionHandler(
                    error -> {
                        error.printStackTrace();
                        Runtime.getRuntime().halt(1);
                        return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
                    });
            streams.start();
            all.await();
        } // closing waits for the record in hand, whose windows close all others
        Bench.write(Path.of(arguments[4]));
    }

    private static Properties settings(String broker, String folder) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "sum-" + ProcessHandle.current().pid());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, folder);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 20_000);
        // Else windows are sent at most once a second, and those that the last record closes never.
        settings.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
        return settings;
    }
}
