-- What was changed about an order besides its states, oldest first; never an address.
--   $1 order id
SELECT 'rescheduled' AS kind, r.version, r.at, r.actor, r.from_slot, r.to_slot
FROM order_reschedules r WHERE r.order_id = $1::text
UNION ALL
SELECT 'address_changed', a.version, a.at, a.actor, NULL, NULL
FROM order_past_addresses a WHERE a.order_id = $1::text
ORDER BY version
