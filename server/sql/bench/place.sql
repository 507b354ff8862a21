-- A city with one store, its one bin, and a zone around it.
--   $1 city id, $2 store id
WITH city AS (
    INSERT INTO cities (id, name, currency, lat, lon) VALUES ($1::text, $1::text, 'INR', 10, 70)
), store AS (
    INSERT INTO stores (id, city_id, name, lat, lon)
    VALUES ($2::text, $1::text, 'Bench', 10, 70)
), zone AS (
    INSERT INTO zones (id, store_id, polygon)
    VALUES ('zon_' || $2::text, $2::text, '{"type": "Polygon", "coordinates": [[
        [69.99, 9.99], [70.01, 9.99], [70.01, 10.01], [69.99, 10.01], [69.99, 9.99]]]}')
)
INSERT INTO bins (store_id, code, temperature, walk_order) VALUES ($2::text, 'A1', 'ambient', 1)
