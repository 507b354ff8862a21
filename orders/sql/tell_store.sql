-- What quotes of a store are told from now on.
--   $1 store id, $2 growth_s, $3 level_s, $4 riders short, $5 now, $6 valid until
INSERT INTO store_supply (store_id, growth_s, level_s, riders_short, at, valid_until)
VALUES ($1::text, $2::integer, $3::float8, $4::boolean, $5::timestamptz, $6::timestamptz)
ON CONFLICT (store_id) DO UPDATE
SET growth_s = excluded.growth_s, level_s = excluded.level_s,
    riders_short = excluded.riders_short, at = excluded.at, valid_until = excluded.valid_until
