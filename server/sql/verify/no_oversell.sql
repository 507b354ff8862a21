-- Nobody is promised what is not there.
-- Returns store/sku of every stock row that has promised more than it holds.
SELECT store_id || '/' || sku_id AS id, on_hand, reserved
FROM stock WHERE reserved < 0 OR reserved > on_hand
