-- Mark a dead letter as replayed.
--   $1 outbox id
UPDATE dead_letters SET replayed_at = darkstore_now() WHERE outbox_id = $1::bigint
