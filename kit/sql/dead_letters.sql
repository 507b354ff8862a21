-- Dead letters that nobody has replayed, oldest first.
--   $1 stream, or null for all
--   $2 outbox id, or null for all
SELECT outbox_id, stream, seq, type, error, died_at FROM dead_letters
WHERE replayed_at IS NULL AND ($1::text IS NULL OR stream = $1::text)
  AND ($2::bigint IS NULL OR outbox_id = $2::bigint)
ORDER BY outbox_id
