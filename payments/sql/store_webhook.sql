-- Remember a webhook; no row comes back when it is a repeat.
--   $1 gateway, $2 event id, $3 type, $4 payload
INSERT INTO payment_webhooks (gateway, event_id, type, payload, received_at)
VALUES ($1::text, $2::text, $3::text, $4::text::jsonb, darkstore_now())
ON CONFLICT DO NOTHING RETURNING event_id
