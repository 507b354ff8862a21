-- What changed an order's price is added and never edited: a mistake is corrected by another row.
CREATE OR REPLACE FUNCTION order_adjustments_are_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'order adjustments are append-only: add another one' USING ERRCODE = 'DS500';
END $$;

CREATE OR REPLACE TRIGGER order_adjustments_append_only
    BEFORE UPDATE OR DELETE ON order_adjustments
    FOR EACH ROW EXECUTE FUNCTION order_adjustments_are_append_only();

-- The snapshot of a confirmed order: what it was sold at never changes.
CREATE OR REPLACE FUNCTION order_totals_are_final() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the totals of order % are a snapshot: add an adjustment', OLD.id
        USING ERRCODE = 'DS500';
END $$;

CREATE OR REPLACE TRIGGER orders_totals_are_final
    BEFORE UPDATE OF items_total_minor, tax_minor, delivery_fee_minor, small_order_fee_minor,
        discount_minor, tip_minor, total_minor, currency ON orders
    FOR EACH ROW WHEN ((OLD.items_total_minor, OLD.tax_minor, OLD.delivery_fee_minor,
        OLD.small_order_fee_minor, OLD.discount_minor, OLD.tip_minor, OLD.total_minor, OLD.currency)
        IS DISTINCT FROM (NEW.items_total_minor, NEW.tax_minor, NEW.delivery_fee_minor,
        NEW.small_order_fee_minor, NEW.discount_minor, NEW.tip_minor, NEW.total_minor,
        NEW.currency) AND OLD.status <> 'placed')
    EXECUTE FUNCTION order_totals_are_final();
