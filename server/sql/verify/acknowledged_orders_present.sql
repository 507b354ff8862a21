-- What a client was told is there: every order that was acknowledged exists.
--   $1 order ids (text[])
-- Returns the ids that are missing.
SELECT told.id FROM unnest($1::text[]) AS told(id)
WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = told.id)
