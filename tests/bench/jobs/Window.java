/** The count and the sum of a machine's readings in one window, or in all. */
public final class Window {
    public long count;
    public long total;

    Window add(long readings, long registers) {
        count += readings;
        total += registers;
        return this;
    }
}
