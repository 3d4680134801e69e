-- The rows of one table of sealed windows, $table, each once: from ended epochs before its partition's boundary and from live/
-- behind it; one boundary, read once.

CREATE VIEW files.live_$table AS
SELECT $columns,
       regexp_extract(filename, '([0-9]+)/[0-9]+\.$table\.parquet$$', 1)::BIGINT AS "partition"
FROM (SELECT *, NULL::VARCHAR AS filename FROM ($no_rows)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($live_files, allow_empty = true, filename = true));

CREATE VIEW files.sealed_$table AS
WITH boundaries AS MATERIALIZED (FROM files.boundaries)
SELECT $columns, e."partition", true AS final
FROM files.epoch_$table AS e LEFT JOIN boundaries AS b ON b."partition" = e."partition"
WHERE b.from_ms IS NULL OR e.start_ms < b.from_ms
UNION ALL
SELECT $columns, l."partition",
       strftime(make_timestamp(start_ms // $epoch_ms * $epoch_ms * 1000), '%Y%m%dT%H%M%SZ/') || l."partition"
           IN (SELECT "name" FROM files.published) AS final
FROM files.live_$table AS l JOIN boundaries AS b ON b."partition" = l."partition"
WHERE l.start_ms >= b.from_ms;
