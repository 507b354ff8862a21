-- The next events to relay, oldest first: see the routine relay_batch.
--   $1 how many at most
SELECT id, stream, seq, type, data, at, attempts FROM relay_batch($1::integer)
