-- Disputes of orders that the caller may see, newest first.
--   $1 store ids, $2 city ids, $3 whether all
--   $4 states or null, $5 from before this id or null, $6 how many
SELECT d.* FROM disputes d JOIN orders o ON o.id = d.order_id
WHERE ($3::boolean OR o.store_id = ANY ($1::text[]) OR o.city_id = ANY ($2::text[]))
  AND ($4::text[] IS NULL OR d.status = ANY ($4::text[]))
  AND ($5::text IS NULL OR d.id < $5::text)
ORDER BY d.id DESC LIMIT $6::integer
