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

-- Flags are bits in the files; here their names.
CREATE MACRO files.flag_names(bits) AS
if(bits = 0, []::VARCHAR[], list_filter($flags, lambda flag, place: bits >> (place - 1) & 1 = 1));

-- The views of epoch_views.sql, for all tables, of sealed_views.sql, for windows, lines, statements and
-- dues, and of record_views.sql, for orders and payments.
$epoch_views
$sealed_views
$record_views
CREATE VIEW files.availability AS
SELECT unnest(machines, recursive := true)
FROM (SELECT * FROM ($availability_columns)
      UNION ALL BY NAME
      SELECT * FROM read_json($availability_file, allow_empty = true, columns = {machines: $availability_type}));

CREATE VIEW windows AS
SELECT machine,
       make_timestamp(start_ms * 1000) AS "start",
       make_timestamp(end_ms * 1000) AS "end",
       make_timestamp(adjusts_ms * 1000) AS adjusts,
       make_timestamp((start_ms + utc_offset_s * 1000) * 1000) AS start_local,
       make_timestamp((end_ms + utc_offset_s * 1000) * 1000) AS end_local,
       make_timestamp((adjusts_ms + utc_offset_s * 1000) * 1000) AS adjusts_local,
       gross_micros * 0.000001::DECIMAL(7, 6) AS gross,
       expenses_micros * 0.000001::DECIMAL(7, 6) AS expenses,
       uncollected_micros * 0.000001::DECIMAL(7, 6) AS uncollected,
       net_micros * 0.000001::DECIMAL(7, 6) AS net,
       collected_micros * 0.000001::DECIMAL(7, 6) AS collected,
       $currency AS currency,
       kind,
       route,
       nullif(route, machine) AS site,
       starts_with(machine, $simulated) AS simulated,
       readings,
       trust,
       files.flag_names(flags) AS flags,
       skipped,
       registration_version,
       agreement,
       carry_in,
       carry_out,
       "partition",
       start_ms // $epoch_ms AS epoch,
       first_offset,
       last_offset,
       gross_micros,
       expenses_micros,
       uncollected_micros,
       net_micros,
       collected_micros,
       start_ms,
       end_ms,
       adjusts_ms,
       utc_offset_s,
       lower(hex(digest)) AS digest,
       final
FROM files.sealed_windows;

CREATE VIEW lines AS
SELECT machine,
       make_timestamp(start_ms * 1000) AS "start",
       make_timestamp(adjusts_ms * 1000) AS adjusts,
       make_timestamp((start_ms + utc_offset_s * 1000) * 1000) AS start_local,
       make_timestamp((start_ms + $window_ms + utc_offset_s * 1000) * 1000) AS end_local,
       make_timestamp((adjusts_ms + utc_offset_s * 1000) * 1000) AS adjusts_local,
       meter,
       usage,
       unit,
       price_micros * 0.000001::DECIMAL(7, 6) AS price,
       per,
       amount_micros * 0.000001::DECIMAL(7, 6) AS amount,
       $currency AS currency,
       starts_with(machine, $simulated) AS simulated,
       "version",
       amount_micros,
       "partition",
       start_ms // $epoch_ms AS epoch,
       start_ms,
       adjusts_ms,
       final
FROM files.sealed_lines;

CREATE VIEW adjustments AS
SELECT machine, adjusts, "start", adjusts_local, start_local, end_local, net, gross, currency, simulated, readings, flags,
       trust, adjusts_ms, start_ms, net_micros, gross_micros,
       "partition", epoch, digest, final
FROM windows
WHERE adjusts_ms IS NOT NULL;

CREATE VIEW statements AS
SELECT machine,
       make_timestamp(start_ms * 1000) AS "start",
       session,
       payer,
       paid_micros * 0.000001::DECIMAL(7, 6) AS paid,
       used_micros * 0.000001::DECIMAL(7, 6) AS used,
       refund_micros * 0.000001::DECIMAL(7, 6) AS refund,
       greatest(used_micros - paid_micros, 0) * 0.000001::DECIMAL(7, 6) AS uncollected,
       $currency AS currency,
       starts_with(machine, $simulated) AS simulated,
       paid_micros,
       used_micros,
       refund_micros,
       "partition",
       start_ms // $epoch_ms AS epoch,
       start_ms,
       final
FROM files.sealed_statements;

-- A session may open again after it closed: here it is one row, for each who paid.
CREATE VIEW sessions AS
SELECT machine,
       session,
       payer,
       count(*) AS statements,
       min("start") AS first_closed,
       max("start") AS last_closed,
       sum(paid_micros)::BIGINT * 0.000001::DECIMAL(7, 6) AS paid,
       sum(used_micros)::BIGINT * 0.000001::DECIMAL(7, 6) AS used,
       sum(refund_micros)::BIGINT * 0.000001::DECIMAL(7, 6) AS refund,
       sum(uncollected) AS uncollected,
       sum(paid_micros - refund_micros)::BIGINT * 0.000001::DECIMAL(7, 6) AS collected,
       currency,
       simulated,
       sum(paid_micros)::BIGINT AS paid_micros,
       sum(used_micros)::BIGINT AS used_micros,
       sum(refund_micros)::BIGINT AS refund_micros,
       sum(paid_micros - refund_micros)::BIGINT AS collected_micros,
       "partition",
       bool_and(final) AS final
FROM statements
GROUP BY machine, session, payer, currency, simulated, "partition";

CREATE VIEW dues AS
SELECT machine,
       make_timestamp(start_ms * 1000) AS "start",
       make_timestamp(adjusts_ms * 1000) AS adjusts,
       kind,
       account,
       ref,
       micros * 0.000001::DECIMAL(7, 6) AS amount,
       $currency AS currency,
       starts_with(machine, $simulated) AS simulated,
       micros AS amount_micros,
       "partition",
       start_ms // $epoch_ms AS epoch,
       start_ms,
       adjusts_ms,
       final
FROM files.sealed_dues;

CREATE VIEW agreements AS
SELECT DISTINCT agreement, payee, points, make_timestamp(locked_until_ms * 1000) AS locked_until, pays_trust
FROM (SELECT * FROM ($agreements_columns)
      UNION ALL BY NAME
      SELECT * EXCLUDE ("name", "partition") FROM files.epoch_agreements
      UNION ALL BY NAME
      SELECT * FROM read_parquet($live_agreements_files, allow_empty = true));

CREATE VIEW open_windows AS
SELECT machine,
       make_timestamp(start_ms * 1000) AS "start",
       make_timestamp(adjusts_ms * 1000) AS adjusts,
       readings,
       gross_micros * 0.000001::DECIMAL(7, 6) AS gross_so_far,
       $currency AS currency,
       starts_with(machine, $simulated) AS simulated,
       files.flag_names(flags) AS flags,
       "partition",
       start_ms,
       adjusts_ms,
       first_offset,
       last_offset,
       make_timestamp(stream_time_ms * 1000) AS stream_time
FROM (SELECT * FROM ($open_columns)
      UNION ALL BY NAME
      SELECT * FROM read_parquet($open_files, allow_empty = true));

-- An order that settled is an expense of its machine: the due that names it.
CREATE VIEW orders AS
WITH expenses AS (SELECT machine, ref, amount, amount_micros FROM dues WHERE kind = 'expense')
SELECT shown.machine,
       item,
       "number",
       make_timestamp(placed_at * 1000) AS placed,
       quantity,
       unit_price * 0.000001::DECIMAL(7, 6) AS unit_price,
       supplier,
       expenses.amount AS expense,
       $currency AS currency,
       starts_with(shown.machine, $simulated) AS simulated,
       unit_price AS unit_price_micros,
       expenses.amount_micros AS expense_micros,
       "partition",
       start_ms // $epoch_ms AS epoch,
       "offset",
       "row",
       final
FROM files.shown_orders AS shown
LEFT JOIN expenses ON expenses.machine = shown.machine AND ref = item || '/' || "number";

-- What was paid before a session; `sessions` says what became of it.
CREATE VIEW payments AS
SELECT machine,
       session,
       payer,
       amount_micros * 0.000001::DECIMAL(7, 6) AS amount,
       $currency AS currency,
       make_timestamp(valid_until_ms * 1000) AS valid_until,
       block,
       "transaction",
       log_index,
       starts_with(machine, $simulated) AS simulated,
       amount_micros,
       payment,
       "partition",
       start_ms // $epoch_ms AS epoch,
       "offset",
       final
FROM files.shown_payments;

-- As in windows, one boundary says for each partition which epochs' rows come from epochs/ and which from live/.
CREATE VIEW rejects AS
WITH boundaries AS MATERIALIZED (FROM files.boundaries),
refused AS (
    SELECT "offset", "row", reason, "name" FROM files.epoch_rejects
),
records AS (
    SELECT *, epoch_ms(strptime(split_part("name", '/', 1), '%Y%m%dT%H%M%SZ')) AS start_ms
    FROM files.epoch_rejected_records
),
live AS (
    SELECT * EXCLUDE filename, regexp_extract(filename, '([0-9]+)/[0-9]+\.rejects\.parquet$$', 1)::BIGINT AS "partition"
    FROM (SELECT *, NULL::VARCHAR AS filename FROM ($live_rejects_columns)
          UNION ALL BY NAME
          SELECT * FROM read_parquet($live_rejects_files, allow_empty = true, filename = true))
),
shown AS (
    SELECT records."partition", start_ms, "offset", "row", reason, timestamp_ms, "key", "value", value_size, value_sha256,
           true AS final
    FROM refused JOIN records USING ("name", "offset") LEFT JOIN boundaries ON boundaries."partition" = records."partition"
    WHERE from_ms IS NULL OR start_ms < from_ms
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
       manifest.orders AS orders,
       manifest.gross_micros::DECIMAL(38, 0) * 0.000001::DECIMAL(7, 6) AS gross,
       manifest.expenses_micros::DECIMAL(38, 0) * 0.000001::DECIMAL(7, 6) AS expenses,
       manifest.uncollected_micros::DECIMAL(38, 0) * 0.000001::DECIMAL(7, 6) AS uncollected,
       manifest.net_micros::DECIMAL(38, 0) * 0.000001::DECIMAL(7, 6) AS net,
       manifest.deposits_micros::DECIMAL(38, 0) * 0.000001::DECIMAL(7, 6) AS deposits,
       manifest.currency AS currency,
       manifest.log_root AS log_root,
       manifest_digest
FROM (SELECT * FROM ($manifest_columns)
      UNION ALL BY NAME
      SELECT * FROM read_json($manifest_files, allow_empty = true,
                     columns = {manifest: $manifest_type, manifest_digest: 'VARCHAR'})
      UNION ALL BY NAME
      SELECT * FROM (SELECT * FROM ($manifest_columns)
                     UNION ALL BY NAME
                     SELECT * FROM read_parquet($merged_epochs_files, allow_empty = true))
      WHERE manifest.start_ms < $merged_until_ms);

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
           count(adjusts_ms) AS adjustments,
           sum(readings) AS readings,
           sum(gross_micros) AS gross_micros,
           sum(expenses_micros) AS expenses_micros,
           sum(uncollected_micros) AS uncollected_micros,
           sum(net_micros) AS net_micros,
           sum(collected_micros) AS collected_micros,
           arg_max(kind, registration_version) AS kind,
           any_value(route) AS route,
           min(trust) AS trust,
           max(registration_version) AS registration_version,
           bit_or(flags) AS flags
    FROM (SELECT *, coalesce(adjusts_ms, start_ms) // $window_ms AS slot FROM files.sealed_windows)
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
           sum(expenses_micros) * 0.000001::DECIMAL(7, 6) AS expenses,
           sum(uncollected_micros) * 0.000001::DECIMAL(7, 6) AS uncollected,
           sum(net_micros) * 0.000001::DECIMAL(7, 6) AS net,
           sum(collected_micros) * 0.000001::DECIMAL(7, 6) AS collected,
           arg_max(kind, registration_version) AS kind,
           any_value(route) AS route,
           min(trust) AS trust,
           max(registration_version) AS registration_version,
           files.flag_names(bit_or(flags)) AS flags
    FROM stretches LEFT JOIN reached USING ("partition")
    GROUP BY machine
),
equivocating AS (
    SELECT coalesce(document ->> '$$.machine', document ->> ('$$[' || "row" || '].machine')) AS machine, count(*) AS entries
    FROM (SELECT "row", TRY_CAST(TRY(decode("value")) AS JSON) AS document FROM rejects WHERE reason = 'equivocation')
    GROUP BY 1
)
SELECT machine, kind, route, nullif(route, machine) AS site, "partition",
       make_timestamp(first_ms * 1000) AS first_seen,
       make_timestamp(last_slot * $window_ms * 1000) AS last_seen,
       windows, adjustments, readings, gross, expenses, uncollected, net, collected, $currency AS currency, starts_with(machine, $simulated) AS simulated,
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
       total_micros * 0.000001::DECIMAL(7, 6) AS total,
       deposits_micros * 0.000001::DECIMAL(7, 6) AS deposits, $currency AS currency, total_micros, deposits_micros,
       posted_block
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
