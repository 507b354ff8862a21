-- The event of a dead letter, locked; no row when it was replayed meanwhile.
--   $1 outbox id
SELECT o.id, o.stream, o.seq, o.type, o.data, o.at, o.attempts
FROM dead_letters d JOIN outbox o ON o.stream = d.stream AND o.seq = d.seq
WHERE d.outbox_id = $1::bigint AND d.replayed_at IS NULL
FOR UPDATE OF d
