-- The ledger's own guards: nothing is changed or deleted, and every transaction sums to zero.
CREATE OR REPLACE FUNCTION ledger_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: post a correction' USING ERRCODE = 'DS500';
END $$;

CREATE OR REPLACE FUNCTION ledger_sums_to_zero() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_sum bigint;
BEGIN
    SELECT sum(amount_minor) INTO v_sum FROM ledger_postings
    WHERE transaction_id = NEW.transaction_id;
    IF v_sum <> 0 THEN
        RAISE EXCEPTION 'transaction % is off by %', NEW.transaction_id, v_sum
            USING ERRCODE = 'DS500';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER ledger_postings_append_only
    BEFORE UPDATE OR DELETE ON ledger_postings
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();

CREATE OR REPLACE TRIGGER ledger_transactions_append_only
    BEFORE UPDATE OR DELETE ON ledger_transactions
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();

DROP TRIGGER IF EXISTS ledger_postings_sum_to_zero ON ledger_postings;
CREATE CONSTRAINT TRIGGER ledger_postings_sum_to_zero
    AFTER INSERT ON ledger_postings DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_sums_to_zero();
