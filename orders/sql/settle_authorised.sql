-- Write a plain yes down: see the routine settle_authorised.
--   $1 operation id, $2 gateway's reference or null, $3 code or null
SELECT settle_authorised($1::text, $2::text, $3::text)
