-- Mark events as handed over to the bus.
--   $1 outbox ids (bigint[])
UPDATE outbox SET bus_at = darkstore_now() WHERE id = ANY ($1::bigint[])
  AND published_at IS NOT NULL AND bus_at IS NULL
