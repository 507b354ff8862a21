-- queue_event: one delivery for each of some endpoints.
--   $1 text[]  delivery ids, one for each endpoint
--   $2 text[]  endpoint ids
--   $3 text    event id
--   $4 text    type
--   $5 bytea   body
-- An endpoint that has this event already gets nothing more.
INSERT INTO webhook_deliveries
    (id, endpoint_id, event_id, type, body, next_attempt_at, created_at)
SELECT d.id, d.endpoint_id, $3::text, $4::text, $5::bytea, clock_timestamp(), darkstore_now()
FROM unnest($1::text[], $2::text[]) AS d(id, endpoint_id)
ON CONFLICT (endpoint_id, event_id) DO NOTHING
