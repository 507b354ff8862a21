-- Alerts about payments that the caller may see, newest first.
--   $1 store ids, $2 city ids, $3 whether all
--   $4 whether resolved ones too, $5 from before this id or null, $6 how many
SELECT a.* FROM payment_alerts a LEFT JOIN orders o ON o.id = a.order_id
WHERE ($3::boolean OR o.store_id = ANY ($1::text[]) OR o.city_id = ANY ($2::text[]))
  AND ($4::boolean OR a.resolved_at IS NULL)
  AND ($5::text IS NULL OR a.id < $5::text)
ORDER BY a.id DESC LIMIT $6::integer
