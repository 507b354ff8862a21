-- A store's slots, in order, with their places.
--   $1 store id, $2 the first start (timestamptz, a quarter of an hour), $3 the last start
--   $4 how many at most, $5 true for those alone in which there is room
SELECT t.starts_at, c.capacity, coalesce(d.taken, 0) AS taken,
       coalesce(d.blocked, false) AS blocked, d.blocked_reason,
       CASE WHEN coalesce(d.blocked, false) THEN 0
            ELSE greatest(0, c.capacity - coalesce(d.taken, 0)) END AS remaining
FROM generate_series($2::timestamptz, $3::timestamptz, interval '15 minutes') AS t(starts_at)
CROSS JOIN LATERAL (SELECT slot_capacity($1::text, t.starts_at) AS capacity) c
LEFT JOIN delivery_slots d ON d.store_id = $1::text AND d.starts_at = t.starts_at
WHERE c.capacity IS NOT NULL
  AND (NOT $5::boolean OR (NOT coalesce(d.blocked, false) AND c.capacity > coalesce(d.taken, 0)))
ORDER BY t.starts_at LIMIT $4::integer
