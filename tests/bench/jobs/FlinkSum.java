import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/**
 * A 15-minute tumbling sum and count by machine in Flink: one slot, windows on the heap, no checkpoints, objects reused,
 * all operators in one task (the readings are not sent to another one by key, as one slot has all keys).
 * Arguments: the broker, the topic, how many records it holds, a folder for state, the result's file.
 */
public final class FlinkSum {
    private static final Duration WINDOW = Duration.ofMinutes(15);

    public static void main(String[] arguments) throws Exception {
        Bench.endWithParent();
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.createLocalEnvironment(1);
        flink.getConfig().enableObjectReuse();
        KafkaSource<Reading> source =
                KafkaSource.<Reading>builder()
                        .setBootstrapServers(arguments[0])
                        .setTopics(arguments[1])
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setBounded(OffsetsInitializer.latest())
                        .setProperty("max.poll.records", "20000")
                        .setValueOnlyDeserializer(new Decoder())
                        .build();
        DataStream<Reading> readings =
                flink.fromSource(source, WatermarkStrategy.forMonotonousTimestamps(), "readings");
        DataStreamUtils.reinterpretAsKeyedStream(readings, reading -> reading.machine)
                .window(TumblingEventTimeWindows.of(WINDOW))
                .aggregate(new Sum(), new Closed())
                .sinkTo(new DiscardingSink<>());
        flink.execute();
        Bench.write(Path.of(arguments[4]));
    }

    private static final class Decoder extends AbstractDeserializationSchema<Reading> {
        @Override
        public Reading deserialize(byte[] value) throws IOException {
            Reading reading = Reading.of(value);
            Bench.taken();
            return reading;
        }
    }

    private static final class Sum implements AggregateFunction<Reading, Window, Window> {
        @Override
        public Window createAccumulator() {
            return new Window();
        }

        @Override
        public Window add(Reading reading, Window window) {
            return window.add(1, reading.register);
        }

        @Override
        public Window getResult(Window window) {
            return window;
        }

        @Override
        public Window merge(Window one, Window other) {
            return one.add(other.count, other.total);
        }
    }

    private static final class Closed implements WindowFunction<Window, Window, String, TimeWindow> {
        @Override
        public void apply(String machine, TimeWindow time, Iterable<Window> windows, Collector<Window> out) {
            windows.forEach(window -> Bench.closed(machine, window));
        }
    }
}
