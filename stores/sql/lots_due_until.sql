-- The date from which on no lot of any store is due to be blocked.
-- A query of its own: with the date as a parameter Postgres knows how few lots lie before it, and
-- reads those alone.
SELECT (max((m.now AT TIME ZONE c.timezone)::date)
        + greatest(max(t.expiry_block_days), (SELECT max(expiry_block_days) FROM stock)))::date
       AS until
FROM stores t JOIN cities c ON c.id = t.city_id
CROSS JOIN (SELECT darkstore_now() AS now OFFSET 0) m
