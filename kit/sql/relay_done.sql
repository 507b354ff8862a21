-- Mark events as relayed.
--   $1 outbox ids (bigint[])
--   $2 whether the event bus waits for them; without a bus they count as handed over
-- The clock is read once, not for every row.  Only what waits can be found by its id: so do all
-- statements that name one.
WITH clock AS MATERIALIZED (SELECT darkstore_now() AS now)
UPDATE outbox SET published_at = clock.now,
                  bus_at = CASE WHEN NOT $2::boolean THEN clock.now END
FROM clock WHERE id = ANY ($1::bigint[]) AND published_at IS NULL
