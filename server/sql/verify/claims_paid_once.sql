-- A claim is decided once and paid once: what an approved one gave back is what its adjustments and
-- its units say, no other gave anything back, and no unit is paid back twice.
-- Returns claim ids and order ids with what is wrong.
WITH paid AS (
    SELECT source_id, sum(items_minor + tax_minor) AS amount FROM order_adjustments
    WHERE kind IN ('claim', 'goodwill') GROUP BY 1
), units AS (
    SELECT claim_id, sum(refunded_minor) AS amount, bool_or(open) AS open
    FROM order_claim_lines GROUP BY 1
), claimed AS (
    SELECT l.order_id, l.item_id, sum(l.quantity) AS quantity
    FROM order_claim_lines l JOIN order_claims c ON c.id = l.claim_id
    WHERE c.status = 'approved' GROUP BY 1, 2
), judged AS (
    SELECT coalesce(c.id, p.source_id) AS id, CASE
        WHEN c.id IS NULL THEN 'paid for no claim'
        WHEN c.status <> 'approved' AND p.source_id IS NOT NULL THEN 'paid without an approval'
        WHEN c.refunded_minor <> coalesce(p.amount, 0) THEN 'paid another amount'
        WHEN u.amount IS NOT NULL AND u.amount <> c.refunded_minor THEN 'its units say otherwise'
        WHEN u.open IS NOT NULL AND u.open <> (c.status = 'open') THEN 'open and decided'
        WHEN (c.status = 'open') <> (c.decided_by IS NULL) THEN 'decided by nobody'
    END AS wrong
    FROM order_claims c
    FULL JOIN paid p ON p.source_id = c.id
    LEFT JOIN units u ON u.claim_id = c.id
    UNION ALL
    SELECT l.order_id, 'a unit claimed twice, or one that never came'
    FROM order_lines l
    LEFT JOIN claimed d ON d.order_id = l.order_id AND d.item_id = l.line_id
    WHERE l.claimed_quantity <> coalesce(d.quantity, 0)
       OR l.claimed_quantity > l.picked_quantity
)
SELECT id, wrong FROM judged WHERE wrong IS NOT NULL
