-- Orders that were placed lately for as soon as possible, whatever became of them.
--   $1 store ids (text[]), $2 placed after
SELECT o.store_id, o.placed_at, o.packed_at, o.lat, o.lon
FROM orders o
WHERE o.store_id = ANY ($1::text[]) AND o.placed_at > $2::timestamptz AND o.slot_start IS NULL
  AND o.status NOT IN ('placed', 'payment_failed')
ORDER BY o.placed_at DESC LIMIT 20000
