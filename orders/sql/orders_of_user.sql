-- A customer's orders, newest first.
--   $1 user id, $2 ids below this one (null for the first page), $3 how many
SELECT id FROM orders
WHERE user_id = $1::text AND ($2::text IS NULL OR id < $2::text)
ORDER BY id DESC LIMIT $3::integer
