-- The order whose hold on the stock ran out first, while nobody had asked for its money.
-- An unknown payment may still turn out to be paid: its stock stays held until it is resolved.
SELECT o.id FROM reservations r JOIN orders o ON o.id = r.order_id
WHERE r.status = 'held' AND r.expires_at <= darkstore_now()
  AND o.payment_status = 'pending' AND o.status = 'placed'
ORDER BY r.expires_at LIMIT 1 FOR UPDATE OF o SKIP LOCKED
