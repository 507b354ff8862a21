-- What some orders weigh together, as ordered.
--   $1 order ids (text[])
SELECT coalesce(sum(quantity::bigint * weight_g), 0)::bigint AS weight_g
FROM order_lines WHERE order_id = ANY ($1::text[])
