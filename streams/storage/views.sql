-- What analysts query. Files are listed whenever a view is queried, so nothing here is ever refreshed.
-- Times are UTC; amounts are units of the log's currency, exact to a millionth. Names with a dollar sign are put in by
-- analytics.py.

CREATE SCHEMA files;

CREATE VIEW files.boundaries AS
SELECT "partition", from_ms
FROM (SELECT * FROM ($boundary_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($boundary_files, allow_empty = true));

CREATE VIEW files.published AS
SELECT file AS manifest, regexp_extract(file, '([0-9TZ]+/[0-9]+)\.manifest\.json$$', 1) AS "name"
FROM glob($manifest_files);

CREATE VIEW files.epoch_windows AS
SELECT $windows_names,
       regexp_extract(filename, '([0-9TZ]+/[0-9]+)\.parquet$$', 1) AS "name",
       regexp_extract(filename, '([0-9]+)\.parquet$$', 1)::BIGINT AS "partition"
FROM (SELECT *, NULL::VARCHAR AS filename FROM ($windows_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($epoch_window_files, allow_empty = true, filename = true));

CREATE VIEW files.live_windows AS
SELECT $windows_names,
       regexp_extract(filename, '([0-9]+)/[0-9]+\.parquet$$', 1)::BIGINT AS "partition"
FROM (SELECT *, NULL::VARCHAR AS filename FROM ($windows_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($live_window_files, allow_empty = true, filename = true));

CREATE VIEW files.availability AS
SELECT unnest(machines, recursive := true)
FROM (SELECT * FROM ($availability_columns)
      UNION ALL BY NAME
      SELECT * FROM read_json($availability_file, allow_empty = true, columns = {machines: $availability_type}));

-- `name` is an epoch's folder and the partition. A row comes from epochs/ before its partition's boundary and from live/ behind it: one boundary, read once.
CREATE VIEW windows AS
WITH boundaries AS MATERIALIZED (FROM files.boundaries),
sealed AS (
    SELECT $windows_names, e."partition", true AS final
    FROM files.epoch_windows AS e LEFT JOIN boundaries AS b ON b."partition" = e."partition"
    WHERE e."name" IN (SELECT "name" FROM files.published) AND (b.from_ms IS NULL OR e.start_ms < b.from_ms)
    UNION ALL
    SELECT $windows_names, l."partition",
           strftime(make_timestamp(start_ms // $epoch_ms * $epoch_ms * 1000), '%Y%m%dT%H%M%SZ/') || l."partition"
               IN (SELECT "name" FROM files.published) AS final
    FROM files.live_windows AS l JOIN boundaries AS b ON b."partition" = l."partition"
    WHERE l.start_ms >= b.from_ms
)
SELECT machine,
       make_timestamp(start_ms * 1000) AS "start",
       make_timestamp(end_ms * 1000) AS "end",
       make_timestamp(mends_ms * 1000) AS mends,
       make_timestamp((start_ms + utc_offset_s * 1000) * 1000) AS start_local,
       make_timestamp((end_ms + utc_offset_s * 1000) * 1000) AS end_local,
       make_timestamp((mends_ms + utc_offset_s * 1000) * 1000) AS mends_local,
       gross_micros * 0.000001::DECIMAL(7, 6) AS gross,
       expenses_micros * 0.000001::DECIMAL(7, 6) AS expenses,
       net_micros * 0.000001::DECIMAL(7, 6) AS net,
       $currency AS currency,
       starts_with(machine, $simulated) AS simulated,
       readings,
       trust,
       flags,
       skipped,
       registration_version,
       lines,
       payees,
       make_timestamp(locked_until_ms * 1000) AS locked_until,
       pays_trust,
       carry_in,
       carry_out,
       "partition",
       start_ms // $epoch_ms AS epoch,
       first_offset,
       last_offset,
       gross_micros,
       expenses_micros,
       net_micros,
       start_ms,
       end_ms,
       mends_ms,
       utc_offset_s,
       lower(hex(digest)) AS digest,
       final
FROM sealed;

CREATE VIEW lines AS
SELECT machine,
       "start",
       mends,
       start_local,
       end_local,
       mends_local,
       line.meter AS meter,
       line.usage AS usage,
       line.unit AS unit,
       line.price_micros * 0.000001::DECIMAL(7, 6) AS price,
       line.per AS per,
       line.amount_micros * 0.000001::DECIMAL(7, 6) AS amount,
       currency,
       simulated,
       line.version AS "version",
       line.amount_micros AS amount_micros,
       "partition",
       epoch,
       final
FROM (SELECT *, unnest(lines) AS line FROM windows);

CREATE VIEW adjustments AS
SELECT machine, mends, "start", mends_local, start_local, end_local, net, gross, currency, simulated, readings, flags, trust,
       mends_ms, start_ms, net_micros, gross_micros,
       "partition", epoch, digest, final
FROM windows
WHERE mends_ms IS NOT NULL;

CREATE VIEW open_windows AS
SELECT machine,
       make_timestamp(start_ms * 1000) AS "start",
       make_timestamp(mends_ms * 1000) AS mends,
       readings,
       gross_micros * 0.000001::DECIMAL(7, 6) AS gross_so_far,
       $currency AS currency,
       starts_with(machine, $simulated) AS simulated,
       "partition",
       start_ms,
       mends_ms,
       first_offset,
       last_offset,
       make_timestamp(stream_time_ms * 1000) AS stream_time
FROM (SELECT * FROM ($open_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($open_files, allow_empty = true));

-- As in windows, one boundary says for each partition which epochs' rows come from epochs/ and which from live/.
CREATE VIEW rejects AS
WITH boundaries AS MATERIALIZED (FROM files.boundaries),
refused AS (
    SELECT "offset", "row", reason, regexp_extract(filename, '([0-9TZ]+/[0-9]+)\.rejects\.parquet$$', 1) AS "name"
    FROM (SELECT *, NULL::VARCHAR AS filename FROM ($rejects_columns)
          UNION ALL BY NAME
          SELECT * FROM read_parquet($reject_files, allow_empty = true, filename = true))
),
records AS (
    SELECT * EXCLUDE filename, regexp_extract(filename, '([0-9TZ]+/[0-9]+)\.rejected_records\.parquet$$', 1) AS "name",
           split_part("name", '/', 2)::BIGINT AS "partition",
           epoch_ms(strptime(split_part("name", '/', 1), '%Y%m%dT%H%M%SZ')) AS start_ms
    FROM (SELECT *, NULL::VARCHAR AS filename FROM ($rejected_records_columns)
          UNION ALL BY NAME
          SELECT * FROM read_parquet($rejected_record_files, allow_empty = true, filename = true))
),
live AS (
    SELECT * EXCLUDE filename, regexp_extract(filename, '([0-9]+)/[0-9]+\.rejects\.parquet$$', 1)::BIGINT AS "partition"
    FROM (SELECT *, NULL::VARCHAR AS filename FROM ($live_rejects_columns)
          UNION ALL BY NAME
          SELECT * FROM read_parquet($live_reject_files, allow_empty = true, filename = true))
),
shown AS (
    SELECT records."partition", start_ms, "offset", "row", reason, timestamp_ms, "key", "value", value_size, value_sha256,
           true AS final
    FROM refused JOIN records USING ("name", "offset") LEFT JOIN boundaries ON boundaries."partition" = records."partition"
    WHERE "name" IN (SELECT "name" FROM files.published) AND (from_ms IS NULL OR start_ms < from_ms)
    UNION ALL
    SELECT "partition", start_ms, "offset", entry."row", entry.reason, timestamp_ms, "key", "value", value_size,
           value_sha256,
           strftime(make_timestamp(start_ms * 1000), '%Y%m%dT%H%M%SZ/') || "partition"
               IN (SELECT "name" FROM files.published) AS final
    FROM (SELECT live.*, unnest(entries) AS entry
          FROM live JOIN boundaries ON boundaries."partition" = live."partition" WHERE start_ms >= from_ms)
)
SELECT "partition",
       "offset",
       "row",
       reason,
       make_timestamp(timestamp_ms * 1000) AS "timestamp",
       "key",
       "value",
       value_size,
       lower(hex(value_sha256)) AS value_sha256,
       start_ms // $epoch_ms AS epoch,
       final
FROM shown;

CREATE VIEW epochs AS
SELECT manifest."partition" AS "partition",
       manifest.epoch AS epoch,
       make_timestamp(manifest.start_ms * 1000) AS "start",
       make_timestamp(manifest.end_ms * 1000) AS "end",
       manifest.first_offset AS first_offset,
       manifest.next_offset AS next_offset,
       manifest.counts.entries AS entries,
       manifest.counts.accepted AS accepted,
       manifest.counts.duplicate AS duplicate,
       manifest.counts.rejected AS rejected,
       manifest.rejects_by_reason AS rejects_by_reason,
       manifest.windows AS windows,
       manifest.adjustments AS adjustments,
       manifest.gross_micros::DECIMAL(38, 0) * 0.000001::DECIMAL(7, 6) AS gross,
       manifest.net_micros::DECIMAL(38, 0) * 0.000001::DECIMAL(7, 6) AS net,
       manifest.currency AS currency,
       manifest.log_root AS log_root,
       manifest_digest
FROM (SELECT * FROM ($manifest_columns)
      UNION ALL BY NAME
      SELECT * FROM read_json($manifest_files, allow_empty = true,
                     columns = {manifest: $manifest_type, manifest_digest: 'VARCHAR'}));

-- Of the last year at most: reporting is what a log can tell, the share of windows that hold a reading; uptime counts as
-- 23 CFR 680.116 does, and only what a level meter `availability` said (deploy/explain/availability.py writes the file).
-- A window reports if it, or an adjustment to it, holds a reading. The windows are read once: by machine and stretch of 60
-- windows, a number's bits say which of them report, however many rows say it.
CREATE VIEW machines AS
WITH stretches AS (
    SELECT machine,
           slot // 60 AS stretch,
           bit_or(if(readings > 0, 1::BIGINT << (slot % 60), 0)) AS up,
           any_value("partition") AS "partition",
           min(start_ms) AS first_ms,
           count(*) AS entries,
           count(mends_ms) AS adjustments,
           sum(readings) AS readings,
           sum(gross_micros) AS gross_micros,
           sum(net_micros) AS net_micros,
           min(trust) AS trust,
           max(registration_version) AS registration_version,
           flatten(list(flags) FILTER (len(flags) > 0)) AS flags
    FROM (SELECT *, coalesce(mends_ms, start_ms) // $window_ms AS slot FROM windows)
    GROUP BY machine, stretch
),
reached AS (
    SELECT "partition", max(until_ms) AS until_ms,
           max(until_ms) // $window_ms - 31536000000 // $window_ms AS year_slot
    FROM (SELECT "partition", epoch_ms("end") AS until_ms FROM epochs
          UNION ALL
          SELECT "partition", end_ms FROM files.live_windows)
    GROUP BY "partition"
),
seen AS (
    SELECT machine,
           any_value("partition") AS "partition",
           min(first_ms) AS first_ms,
           min(stretch * 60 + bit_count((up & -up) - 1)) FILTER (up > 0) AS first_slot,
           max(stretch * 60 + length(bin(up))) FILTER (up > 0) AS last_slot,
           sum(bit_count(up >> least(greatest(year_slot - stretch * 60, 0), 60)))::BIGINT AS up_slots,
           any_value(until_ms) AS until_ms,
           greatest(first_slot, any_value(year_slot)) * $window_ms AS from_ms,
           sum(entries - adjustments)::BIGINT AS windows,
           sum(adjustments)::BIGINT AS adjustments,
           sum(readings)::BIGINT AS readings,
           sum(gross_micros) * 0.000001::DECIMAL(7, 6) AS gross,
           sum(net_micros) * 0.000001::DECIMAL(7, 6) AS net,
           min(trust) AS trust,
           max(registration_version) AS registration_version,
           coalesce(list_sort(list_distinct(flatten(list(flags) FILTER (flags IS NOT NULL)))), []) AS flags
    FROM stretches LEFT JOIN reached USING ("partition")
    GROUP BY machine
),
equivocating AS (
    SELECT coalesce(document ->> '$$.machine', document ->> ('$$[' || "row" || '].machine')) AS machine, count(*) AS entries
    FROM (SELECT "row", TRY_CAST(TRY(decode("value")) AS JSON) AS document FROM rejects WHERE reason = 'equivocation')
    GROUP BY 1
)
SELECT machine, "partition",
       make_timestamp(first_ms * 1000) AS first_seen,
       make_timestamp(last_slot * $window_ms * 1000) AS last_seen,
       windows, adjustments, readings, gross, net, $currency AS currency, starts_with(machine, $simulated) AS simulated,
       trust, registration_version, flags,
       coalesce(equivocating.entries, 0) AS equivocations,
       if(first_slot IS NULL, NULL, make_timestamp(from_ms * 1000)) AS reporting_from,
       if(first_slot IS NULL, NULL, make_timestamp(until_ms * 1000)) AS reporting_until,
       if(first_slot IS NULL, NULL, (until_ms - from_ms) // 60000) AS reporting_minutes,
       reporting_minutes - up_slots * $window_ms // 60000 AS silent_minutes,
       (100000 * (reporting_minutes - silent_minutes) // reporting_minutes) * 0.001::DECIMAL(4, 3) AS reporting,
       availability.period_minutes AS uptime_minutes,
       availability.outage_minutes,
       (100000 * (uptime_minutes - outage_minutes) // uptime_minutes) * 0.001::DECIMAL(4, 3) AS uptime
FROM seen LEFT JOIN equivocating USING (machine) LEFT JOIN files.availability AS availability USING (machine);

CREATE VIEW settlements AS
SELECT "sequence", first_epoch, last_epoch, windows_root, payouts_root, head, "transaction", "state",
       total_micros * 0.000001::DECIMAL(7, 6) AS total, $currency AS currency, total_micros, posted_block
FROM (SELECT * FROM ($settlements_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($settlement_files, allow_empty = true));

CREATE VIEW payouts AS
SELECT "sequence", account,
       amount_micros * 0.000001::DECIMAL(7, 6) AS amount,
       cumulative_micros * 0.000001::DECIMAL(7, 6) AS cumulative,
       $currency AS currency, amount_micros, cumulative_micros
FROM (SELECT * FROM ($payouts_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($payout_files, allow_empty = true));

CREATE VIEW claims AS
SELECT account, "sequence", amount, "transaction", block
FROM (SELECT * FROM ($claims_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($claim_files, allow_empty = true));

CREATE VIEW chain_seen AS
SELECT block, make_timestamp(time_s * 1000000) AS "timestamp"
FROM (SELECT * FROM ($seen_columns)
      UNION ALL BY NAME
      SELECT * FROM read_json($seen_file, allow_empty = true, columns = {block: 'BIGINT', time_s: 'BIGINT'}));
