-- The three machines of an order fit together: nothing is picked without a yes to the money, and
-- bags and rider move as one.  An order that failed because nobody could tell whether it was paid
-- may still learn that it was, and is voided then.
-- Returns order ids with the three states.
SELECT id, status, delivery_status, payment_status
FROM orders
WHERE (status IN ('confirmed', 'picking', 'packed', 'picked_up', 'arriving')
       AND payment_status <> 'authorised')
   OR (status = 'delivered' AND payment_status NOT IN
       ('authorised', 'captured', 'partially_refunded', 'refunded', 'disputed'))
   OR (status = 'placed' AND payment_status NOT IN ('pending', 'unknown'))
   OR (status = 'payment_failed' AND payment_status NOT IN
       ('declined', 'unknown', 'authorised', 'voided'))
   OR (status IN ('placed', 'confirmed', 'picking', 'packed') AND delivery_status NOT IN
       ('unassigned', 'offered', 'assigned', 'at_store'))
   OR (status = 'picked_up') <> (delivery_status = 'collected')
   OR (status = 'arriving') <> (delivery_status = 'at_door')
   OR (status = 'delivered') <> (delivery_status = 'done')
   OR (status IN ('undeliverable', 'returned')) <> (delivery_status = 'failed')
   OR (status IN ('cancelled', 'payment_failed')) <> (delivery_status = 'cancelled')
