-- record_attempt: how one attempt went, and what becomes of the delivery and its endpoint.
--   $1 text    delivery id
--   $2 int     number of the attempt
--   $3 int     duration in milliseconds
--   $4 int     HTTP status, or null
--   $5 text    why there was no answer, or null
--   $6 text    the beginning of the answer, or null
--   $7 text    'delivered', 'dead', or 'waiting' for another attempt
--   $8 float8  real seconds until that attempt
--   $9 float8  an endpoint that failed for longer is switched off
-- Returns whether the endpoint was switched off now.
WITH kept AS (
    INSERT INTO webhook_attempts (delivery_id, n, at, duration_ms, status_code, error, answer)
    VALUES ($1::text, $2::smallint, clock_timestamp(), $3::integer, $4::smallint, $5::text,
            $6::text)
    ON CONFLICT DO NOTHING
), moved AS (
    UPDATE webhook_deliveries SET
        status = $7::text,
        next_attempt_at = clock_timestamp() + make_interval(secs => $8::float8),
        finished_at = CASE WHEN $7::text <> 'waiting' THEN darkstore_now() END
    -- A sender that lost its claim reports late: the newer attempt decides.
    WHERE id = $1::text AND status = 'waiting' AND attempts = $2::smallint
    RETURNING endpoint_id
), judged AS (
    SELECT e.id, $7::text = 'delivered' AS well,
           e.failing_since < clock_timestamp() - make_interval(secs => $9::float8) AS given_up
    FROM webhook_endpoints e JOIN moved m ON m.endpoint_id = e.id
    WHERE $7::text <> 'delivered' OR e.failing_since IS NOT NULL
    FOR UPDATE OF e
)
UPDATE webhook_endpoints e SET
    failing_since = CASE WHEN NOT j.well THEN coalesce(e.failing_since, clock_timestamp()) END,
    active = e.active AND NOT (NOT j.well AND coalesce(j.given_up, false)),
    disabled_reason = CASE WHEN NOT j.well AND coalesce(j.given_up, false)
                           THEN 'every attempt has failed for too long'
                           ELSE e.disabled_reason END
FROM judged j WHERE e.id = j.id
RETURNING NOT e.active AS switched_off
