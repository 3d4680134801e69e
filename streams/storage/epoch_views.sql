-- The rows of one table of ended epochs, $table: of merged epochs from merged/, of all later ones from epochs/, where their
-- manifest is. Which are which is written in here: `merge` writes its files, then makes the views again, and removes
-- nothing, so a row shows once in the old views and once in the new ones. `name` is an epoch's folder and the partition.

CREATE VIEW files.epoch_$table AS
SELECT $columns, "name", "partition"
FROM (SELECT $columns,
             regexp_extract(filename, '([0-9TZ]+/[0-9]+)\.$table\.parquet$$', 1) AS "name",
             regexp_extract(filename, '([0-9]+)\.$table\.parquet$$', 1)::BIGINT AS "partition"
      FROM (SELECT *, NULL::VARCHAR AS filename FROM ($no_rows)
            UNION ALL BY NAME
            SELECT * FROM read_parquet($epoch_files, allow_empty = true, filename = true)))
WHERE "name" IN (SELECT "name" FROM files.published)
UNION ALL
SELECT $columns, "name", "partition"
FROM (SELECT *, NULL::VARCHAR AS "name", NULL::BIGINT AS "partition" FROM ($no_rows)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($merged_files, allow_empty = true))
WHERE "name" < $merged_until;
