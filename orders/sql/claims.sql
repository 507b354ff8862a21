-- Claims with their units, as support and customers see them.
--   $1 claim id or null, $2 order id or null
--   $3 store ids (text[]) and $4 city ids (text[]) of the reader's scope; $5 true for everything
--   $6 statuses (text[]) or null, $7 ids above this one or null, $8 how many
-- The oldest first: support works through a queue.
SELECT c.*, o.number, o.store_id, o.city_id, o.currency,
       o.total_minor - o.refunded_minor AS left_minor,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'line_id', l.line_id,
            'substitution_id', CASE WHEN l.item_id <> l.line_id THEN l.item_id END,
            'name', coalesce(s.name, n.name), 'quantity', l.quantity,
            'refunded_minor', l.refunded_minor) ORDER BY n.n, l.item_id), '[]')
        FROM order_claim_lines l
        JOIN order_lines n ON n.order_id = l.order_id AND n.line_id = l.line_id
        LEFT JOIN order_substitutions s ON s.id = l.item_id
        WHERE l.claim_id = c.id) AS items
FROM order_claims c JOIN orders o ON o.id = c.order_id
WHERE ($1::text IS NULL OR c.id = $1::text)
  AND ($2::text IS NULL OR c.order_id = $2::text)
  AND ($5::boolean OR o.store_id = ANY ($3::text[]) OR o.city_id = ANY ($4::text[]))
  AND ($6::text[] IS NULL OR c.status = ANY ($6::text[]))
  AND ($7::text IS NULL OR c.id > $7::text)
ORDER BY c.id LIMIT $8::integer
