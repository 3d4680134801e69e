import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * What ties a job to the bench: seconds (wall, CPU of the whole process) from its first reading to its end, and what its
 * closed windows come to by machine. A job has one thread at work, so readings and windows arrive one by one.
 */
final class Bench {
    private static final Map<String, Window> MACHINES = new ConcurrentHashMap<>();
    private static volatile double[] began;

    private Bench() {}

    /** Ends this process with the one that started it, which keeps our standard input open. */
    static void endWithParent() {
        Thread watch =
                new Thread(
                        () -> {
                            try {
                                System.in.readAllBytes();
                            } catch (IOException gone) {
                                // as good as closed
                            }
                            Runtime.getRuntime().halt(1);
                        });
        watch.setDaemon(true);
        watch.start();
    }

    /** A reading is decoded. The first one ends what is not measured, such as the start of the JVM. */
    static void taken() {
        if (began == null) {
            began = now();
        }
    }

    /** A machine's window is closed. */
    static void closed(String machine, Window window) {
        MACHINES.computeIfAbsent(machine, name -> new Window()).add(window.count, window.total);
    }

    /** All windows are closed. Writes a line of wall and CPU seconds, then one of machine, count and sum for each. */
    static void write(Path file) throws IOException {
        double[] ended = now();
        List<String> lines = new ArrayList<>();
        lines.add((ended[0] - began[0]) + "\t" + (ended[1] - began[1]));
        MACHINES.forEach((machine, window) -> lines.add(machine + "\t" + window.count + "\t" + window.total));
        Files.write(file, lines);
    }

    private static double[] now() {
        double cpu = ProcessHandle.current().info().totalCpuDuration().orElseThrow().toNanos() / 1e9;
        return new double[] {System.nanoTime() / 1e9, cpu};
    }
}
