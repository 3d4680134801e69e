"""Everything of streams that touches Kafka, DuckDB, files or a clock."""
