-- The rows of $table, of ended epochs and of the present one. As in sealed windows, one boundary says for each partition
-- which epochs' rows come from epochs/ and which from live/.
CREATE VIEW files.shown_$table AS
WITH boundaries AS MATERIALIZED (FROM files.boundaries),
ended AS (
    SELECT $columns, "partition", epoch_ms(strptime(split_part("name", '/', 1), '%Y%m%dT%H%M%SZ')) AS start_ms FROM files.epoch_$table
),
live AS (
    SELECT $columns, start_ms, regexp_extract(filename, '([0-9]+)/[0-9]+\.$table\.parquet$$', 1)::BIGINT AS "partition"
    FROM (SELECT *, NULL::VARCHAR AS filename FROM ($no_live_rows)
          UNION ALL BY NAME
          SELECT * FROM read_parquet($live_files, allow_empty = true, filename = true))
)
SELECT ended.*, true AS final
FROM ended LEFT JOIN boundaries ON boundaries."partition" = ended."partition"
WHERE from_ms IS NULL OR start_ms < from_ms
UNION ALL BY NAME
SELECT live.*, strftime(make_timestamp(start_ms * 1000), '%Y%m%dT%H%M%SZ/') || live."partition"
                   IN (SELECT "name" FROM files.published) AS final
FROM live JOIN boundaries ON boundaries."partition" = live."partition" WHERE start_ms >= from_ms;
