-- Orders whose hold on the stock has run out while nobody had asked for their money.
--   $1 how many at most
-- An unknown payment may still turn out to be paid: its stock stays held until it is resolved.
SELECT o.id FROM reservations r JOIN orders o ON o.id = r.order_id
WHERE r.status = 'held' AND r.expires_at <= darkstore_now()
  AND o.payment_status = 'pending' AND o.status = 'placed'
ORDER BY r.expires_at LIMIT $1::integer FOR UPDATE OF o SKIP LOCKED
