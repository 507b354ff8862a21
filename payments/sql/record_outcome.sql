-- Write down what the gateway said.
--   $1 operation id, $2 status, $3 gateway's reference or null, $4 code or null
--   $5 real seconds until the next look, for 'pending' and 'unknown': networks do not hurry for a
--      simulated day
UPDATE payment_operations SET
    status = $2::text,
    reference = coalesce($3::text, reference),
    code = $4::text,
    answers = answers + 1,
    token = CASE WHEN $2::text IN ('pending', 'unknown') THEN token END,
    route = CASE WHEN $2::text IN ('pending', 'unknown') THEN route END,
    next_attempt_at = darkstore_now() + make_interval(secs => $5::float8 * (SELECT speed FROM clock)),
    settled_at = CASE WHEN $2::text NOT IN ('pending', 'unknown') THEN darkstore_now() END
WHERE id = $1::text
