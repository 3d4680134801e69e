"""What reads from Kafka and writes to it."""
