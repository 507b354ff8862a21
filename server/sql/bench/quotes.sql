-- Buyers, each with a quote.
--   $1 city id, $2 store id, $3 prefix of sku ids, $4 prefix of this batch
--   $5 how many, $6 lines of each, $7 of how many products (the first ones)
WITH made AS (
    SELECT n, 'usr_' || $4::text || '_' || n AS user_id, 'quo_' || $4::text || '_' || n AS quote_id,
           floor(random() * $7::integer)::integer AS first
    FROM generate_series(1, $5::integer) AS n
), buyer AS (
    INSERT INTO users (id, name, role, created_at)
    SELECT user_id, 'Buyer', 'customer', darkstore_now() FROM made
), quote AS (
    INSERT INTO quotes (
        id, user_id, store_id, city_id, lines, items_total_minor, tax_minor, delivery_fee_minor,
        small_order_fee_minor, discount_minor, tip_minor, total_minor, currency, lat, lon, address,
        travel_s, promise_low_s, promise_high_s, created_at, expires_at)
    SELECT m.quote_id, m.user_id, $2::text, $1::text,
           (SELECT jsonb_agg(jsonb_build_object(
                'sku_id', $3::text || '_' || lpad(
                    -- Far apart, so that baskets meet on single products and in every order.
                    (1 + (m.first + (l * 379)) % $7::integer)::text, 6, '0'),
                'name', 'Product', 'quantity', 1, 'unit_price_minor', 4900,
                'line_total_minor', 4900, 'discount_minor', 0, 'tax_rate_bp', 500,
                'tax_minor', 245, 'weight_g', 300))
            FROM generate_series(1, $6::integer) AS l),
           4900 * $6::bigint, 245 * $6::bigint, 0, 0, 0, 0, 5145 * $6::bigint, 'INR', 10.004, 70,
           '1 Bench Street', 240, 480, 720, darkstore_now(), darkstore_now() + interval '1 day'
    FROM made m
)
SELECT user_id, quote_id FROM made ORDER BY n
