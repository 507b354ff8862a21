-- Count the orders of the quarters of an hour that are over and not counted yet, three hours back.
--   $1 store ids (text[]), $2 the beginning of the quarter that is not over
INSERT INTO store_demand (store_id, bucket_at, orders)
SELECT s.id, q.at,
       (SELECT count(*) FROM orders o
        WHERE o.store_id = s.id AND o.placed_at >= q.at
          AND o.placed_at < q.at + interval '15 minutes' AND o.slot_start IS NULL
          AND o.status NOT IN ('placed', 'payment_failed'))
FROM unnest($1::text[]) AS s(id)
CROSS JOIN generate_series($2::timestamptz - interval '3 hours',
                           $2::timestamptz - interval '15 minutes', interval '15 minutes') AS q(at)
WHERE NOT EXISTS (SELECT FROM store_demand d WHERE d.store_id = s.id AND d.bucket_at = q.at)
ON CONFLICT DO NOTHING
