-- Put a poison event among the dead letters; its stream goes on without its consumers.
--   $1 outbox id, $2 what went wrong
INSERT INTO dead_letters (outbox_id, stream, seq, type, error, died_at)
SELECT id, stream, seq, type, $2::text, darkstore_now() FROM outbox
WHERE id = $1::bigint AND published_at IS NULL
ON CONFLICT DO NOTHING
