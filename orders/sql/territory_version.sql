-- A fingerprint of stores, zones and road networks; decoding a city's travel times takes a second,
-- this a millisecond.
SELECT md5(concat_ws('|',
    (SELECT string_agg(concat_ws(',', id, city_id, name, lat, lon, dispatch_part), ';' ORDER BY id)
     FROM stores),
    (SELECT string_agg(concat_ws(',', id, store_id, polygon::text, priority), ';' ORDER BY id)
     FROM zones),
    (SELECT string_agg(concat_ws(',', city_id, built_at), ';' ORDER BY city_id)
     FROM road_networks))) AS version
