-- claim_deliveries: deliveries whose turn has come, for this sender alone for a while.
--   $1 int     how many at most
--   $2 int     how many of one endpoint at most
--   $3 float8  real seconds until another sender may take them (a sender may die meanwhile)
--   $4 text[]  endpoints that have their share in flight already
-- Returns what the sender needs; the oldest first.
WITH due AS (
    SELECT d.id, row_number() OVER (PARTITION BY d.endpoint_id ORDER BY d.id) AS place
    FROM webhook_deliveries d
    WHERE d.status = 'waiting' AND d.next_attempt_at <= clock_timestamp()
      AND d.endpoint_id <> ALL ($4::text[])
      AND EXISTS (SELECT FROM webhook_endpoints e WHERE e.id = d.endpoint_id AND e.active)
), mine AS (
    SELECT w.id FROM webhook_deliveries w
    WHERE w.id IN (SELECT id FROM due WHERE place <= $2::integer)
      AND w.status = 'waiting' AND w.next_attempt_at <= clock_timestamp()
    ORDER BY w.id LIMIT $1::integer FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d
SET attempts = attempts + 1,
    next_attempt_at = clock_timestamp() + make_interval(secs => $3::float8)
FROM webhook_endpoints e
WHERE d.id IN (SELECT id FROM mine) AND e.id = d.endpoint_id
RETURNING d.id, d.endpoint_id, d.event_id, d.body, d.attempts, e.url, e.secret_version,
          coalesce(e.previous_secret_until > clock_timestamp(), false) AS overlap
