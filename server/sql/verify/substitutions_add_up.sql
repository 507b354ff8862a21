-- A substitute is one thing on both sides, the order's and the store's, and stands in for units that
-- are missing: offered once, charged as it was picked, and open only while its order is picked.
-- Returns order ids with what is wrong.
WITH charged AS (
    SELECT source_id, -sum(items_minor + tax_minor) AS amount, sum(quantity) AS units
    FROM order_adjustments WHERE kind = 'substitution' GROUP BY 1
), claimed AS (
    SELECT l.item_id, sum(l.quantity) AS units, sum(l.refunded_minor) AS amount
    FROM order_claim_lines l JOIN order_claims c ON c.id = l.claim_id
    WHERE c.status = 'approved' GROUP BY 1
), covered AS (
    SELECT order_id, line_id, sum(quantity - missing_quantity) AS units FROM order_substitutions
    WHERE status NOT IN ('rejected', 'withdrawn') GROUP BY 1, 2
), judged AS (
    SELECT coalesce(u.order_id, t.order_id) AS id, coalesce(u.id, s.id) AS substitution, CASE
        WHEN u.id IS NULL OR s.id IS NULL THEN 'known to one side only'
        WHEN (u.line_id, u.sku_id, u.quantity, u.picked_quantity, u.missing_quantity, u.status)
             <> (s.line_id, s.sku_id, s.quantity, s.picked, s.missing, s.status)
            THEN 'the store has another one'
        WHEN u.status IN ('proposed', 'approved') AND o.status <> 'picking' THEN 'still open'
        WHEN u.status = 'proposed' AND u.deadline_at IS NULL THEN 'asked without a deadline'
        WHEN u.status IN ('rejected', 'proposed') AND u.picked_quantity > 0
            THEN 'picked without a yes'
        WHEN u.status = 'picked' AND u.picked_quantity + u.missing_quantity <> u.quantity
            THEN 'picked in part'
        WHEN u.charged_minor <> coalesce(h.amount, 0) OR u.picked_quantity <> coalesce(h.units, 0)
            THEN 'charged another amount'
        WHEN u.claimed_quantity <> coalesce(c.units, 0) OR u.refunded_minor <> coalesce(c.amount, 0)
            THEN 'claimed another amount'
        WHEN v.units > l.missing_quantity THEN 'stands in for more than is missing'
    END AS wrong
    FROM order_substitutions u
    FULL JOIN pick_task_substitutes s ON s.id = u.id
    LEFT JOIN pick_tasks t ON t.id = s.pick_task_id
    LEFT JOIN orders o ON o.id = u.order_id
    LEFT JOIN charged h ON h.source_id = u.id
    LEFT JOIN claimed c ON c.item_id = u.id
    LEFT JOIN covered v ON v.order_id = u.order_id AND v.line_id = u.line_id
    LEFT JOIN order_lines l ON l.order_id = u.order_id AND l.line_id = u.line_id
)
SELECT id, substitution, wrong FROM judged WHERE wrong IS NOT NULL
