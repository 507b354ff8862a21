-- Mark events as relayed.
--   $1 outbox ids (bigint[])
UPDATE outbox SET published_at = darkstore_now() WHERE id = ANY ($1::bigint[])
