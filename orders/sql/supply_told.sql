-- What quotes of a city's stores were told last.
--   $1 store ids (text[])
SELECT s.store_id, s.growth_s, s.level_s, s.riders_short, s.at, s.valid_until
FROM store_supply s WHERE s.store_id = ANY ($1::text[])
