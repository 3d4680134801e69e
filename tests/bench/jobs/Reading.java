import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import java.io.IOException;

/** One reading, as far as the sum needs it. */
public final class Reading {
    private static final JsonFactory JSON = new JsonFactory();

    public String machine = "";
    public long register;

    /** Decodes a JSON value token by token, which costs Jackson less than binding it to a class. */
    static Reading of(byte[] value) throws IOException {
        Reading reading = new Reading();
        try (JsonParser parser = JSON.createParser(value)) {
            parser.nextToken();
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                switch (name) {
                    case "machine" -> reading.machine = parser.nextTextValue();
                    case "register" -> reading.register = parser.nextLongValue(0);
                    default -> parser.nextToken();
                }
            }
        }
        return reading;
    }
}
