-- Nobody is promised what is not there, and no more is blocked than there is.
-- Returns store/sku of every stock row that has promised or blocked more than it holds.
SELECT store_id || '/' || sku_id AS id, on_hand, reserved, blocked
FROM stock WHERE reserved < 0 OR reserved > on_hand OR blocked < 0 OR blocked > on_hand
