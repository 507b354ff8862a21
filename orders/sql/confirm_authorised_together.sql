-- Write many plain yeses and their answers down: see the routine confirm_authorised_together.
--   $1 operation ids, $2 references, $3 codes, $4 actors, $5 keys, $6 order ids (text[])
--   $7 the orders' versions in the answers (integer[]), $8 bodies (bytea[]), $9 HTTP status of all
SELECT operation_id, status, answer FROM confirm_authorised_together(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[],
    $8::bytea[], $9::smallint)
