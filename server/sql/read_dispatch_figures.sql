-- What the dispatchers of each partition have counted since it exists.
--   $1 how many partitions at most
SELECT partition_id, city_id, decision_buckets, decision_s, counts, orders_held, orders_unassigned,
       riders_missing
FROM dispatch_figures ORDER BY partition_id LIMIT $1::integer
