-- Write a plain yes and the checkout's answer down: see the routine confirm_authorised.
--   $1 operation id, $2 gateway's reference or null, $3 code or null
--   $4 actor, $5 key, $6 HTTP status, $7 body (bytea), $8 order id, $9 the order's version in it
SELECT status, answer FROM confirm_authorised(
    $1::text, $2::text, $3::text, $4::text, $5::text, $6::smallint, $7::bytea, $8::text, $9::integer)
