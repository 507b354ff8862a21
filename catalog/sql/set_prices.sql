-- set_prices: what products cost in one store from now on.
--   $1 text   store id
--   $2 text   currency, ISO 4217
--   $3 jsonb  [{sku_id, price_minor, list_price_minor, active}], minor units, each sku once
-- Returns sku_id of every price that is new or changed.
INSERT INTO prices AS r (store_id, sku_id, price_minor, list_price_minor, currency, active,
                         updated_at)
SELECT $1::text, sku_id, price_minor, list_price_minor, $2::text, active, darkstore_now()
FROM jsonb_to_recordset($3::text::jsonb)
     AS d(sku_id text, price_minor integer, list_price_minor integer, active boolean)
ON CONFLICT (store_id, sku_id) DO UPDATE SET
    price_minor = excluded.price_minor, list_price_minor = excluded.list_price_minor,
    currency = excluded.currency, active = excluded.active, updated_at = excluded.updated_at
WHERE (r.price_minor, r.list_price_minor, r.currency, r.active) IS DISTINCT FROM
      (excluded.price_minor, excluded.list_price_minor, excluded.currency, excluded.active)
RETURNING sku_id
