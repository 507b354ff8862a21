-- Add to what the dispatchers of a partition have counted, under the lease that they hold.
--   $1 partition id, $2 its city's id, $3 lease epoch
--   $4 decisions by bucket (bigint[]), $5 their seconds, $6 counts by name (jsonb)
--   $7 orders held, $8 orders without a rider, $9 riders missing, as of now
INSERT INTO dispatch_figures AS f (
    partition_id, city_id, looked_at, decision_buckets, decision_s, counts, orders_held,
    orders_unassigned, riders_missing)
SELECT $1::text, $2::text, darkstore_now(), $4::bigint[], $5::float8, $6::text::jsonb, $7::integer,
       $8::integer, $9::integer
FROM dispatch_leases
WHERE partition_id = $1::text AND epoch = $3::bigint AND expires_at > clock_timestamp()
ON CONFLICT (partition_id) DO UPDATE SET
    looked_at = excluded.looked_at,
    decision_buckets = (
        SELECT array_agg(coalesce(f.decision_buckets[i], 0) + excluded.decision_buckets[i]
                         ORDER BY i)
        FROM generate_subscripts(excluded.decision_buckets, 1) AS i),
    decision_s = f.decision_s + excluded.decision_s,
    counts = f.counts || (
        SELECT coalesce(jsonb_object_agg(
            c.key, coalesce((f.counts ->> c.key)::bigint, 0) + c.value::bigint), '{}')
        FROM jsonb_each_text(excluded.counts) AS c),
    orders_held = excluded.orders_held,
    orders_unassigned = excluded.orders_unassigned,
    riders_missing = excluded.riders_missing
