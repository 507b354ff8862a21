-- Orders in the scope of a member of staff, newest first.
--   $1 store ids (text[]) and $2 city ids (text[]) of the scope; $3 true for everything
--   $4 statuses (text[]) or null, $5 ids below this one or null, $6 how many
SELECT id FROM orders
WHERE ($3::boolean OR store_id = ANY ($1::text[]) OR city_id = ANY ($2::text[]))
  AND ($4::text[] IS NULL OR status = ANY ($4::text[]))
  AND ($5::text IS NULL OR id < $5::text)
ORDER BY id DESC LIMIT $6::integer
