-- Units between two stores are neither here nor there, but somewhere: what left one store's books
-- is in transit, has come onto the other's, or is booked as lost.
-- Returns transfer/sku with its sums.
WITH moved AS (
    SELECT m.reference, m.sku_id,
           -coalesce(sum(m.on_hand_delta) FILTER (WHERE m.kind = 'transfer_out'), 0) AS sent,
           coalesce(sum(m.on_hand_delta) FILTER (WHERE m.kind = 'transfer_in'), 0) AS came,
           coalesce(sum(m.on_hand_delta) FILTER (WHERE m.store_id = t.to_store_id), 0) AS arrived
    FROM stock_movements m JOIN stock_transfers t ON t.id = m.reference
    GROUP BY 1, 2
), lots_sent AS (
    SELECT transfer_id, sku_id, sum(sent) AS sent, sum(in_transit) AS in_transit
    FROM stock_transfer_lots GROUP BY 1, 2
), told AS (
    SELECT l.transfer_id, l.sku_id, t.status, l.quantity, l.received,
           coalesce(s.sent, 0) AS sent, coalesce(s.in_transit, 0) AS in_transit,
           coalesce(m.sent, 0) AS sent_moved, coalesce(m.came, 0) AS came,
           coalesce(m.arrived, 0) AS arrived
    FROM stock_transfer_lines l
    JOIN stock_transfers t ON t.id = l.transfer_id
    LEFT JOIN lots_sent s USING (transfer_id, sku_id)
    LEFT JOIN moved m ON m.reference = l.transfer_id AND m.sku_id = l.sku_id
)
SELECT transfer_id || '/' || sku_id AS id, status, quantity, sent, in_transit, sent_moved, came,
       received, arrived
FROM told
WHERE sent <> sent_moved OR sent NOT IN (0, quantity) OR sent_moved - came <> in_transit
   OR (status = 'created' AND sent <> 0)
   OR (status = 'dispatched' AND in_transit <> quantity)
   OR (status IN ('received', 'cancelled') AND in_transit <> 0)
   OR (status = 'received' AND received IS DISTINCT FROM arrived)
