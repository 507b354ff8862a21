-- Relayed events that the bus has not got yet, oldest first.
--   $1 how many at most
SELECT id, stream, seq, type, at, data FROM outbox
WHERE published_at IS NOT NULL AND bus_at IS NULL
ORDER BY id LIMIT $1::integer
