-- The mean orders of each quarter of an hour at the same time of the last weeks, where known.
--   $1 store ids (text[]), $2 from and $3 until, moments of this week, $4 how many weeks back
SELECT d.store_id, d.bucket_at + w.week * interval '7 days' AS at, avg(d.orders)::float8 AS orders
FROM generate_series(1, $4::integer) AS w(week)
JOIN store_demand d ON d.store_id = ANY ($1::text[])
 AND d.bucket_at >= $2::timestamptz - w.week * interval '7 days'
 AND d.bucket_at < $3::timestamptz - w.week * interval '7 days'
GROUP BY 1, 2
