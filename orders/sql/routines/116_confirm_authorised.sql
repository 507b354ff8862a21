-- confirm_authorised: a plain yes written down together with the answer that the customer gets.
--   p_operation_id, p_reference, p_code  as settle_authorised takes them
--   p_actor, p_key                       the idempotency key of the checkout
--   p_status, p_body                     the answer, made before: it tells of the order in p_version
-- Returns the answer that stands.  No row when the yes is not plain, or when the order has gone
-- further than the answer tells: then the caller goes step by step, and settles nothing twice.
CREATE OR REPLACE FUNCTION confirm_authorised(
    p_operation_id text, p_reference text, p_code text, p_actor text, p_key text,
    p_status smallint, p_body bytea, p_order_id text, p_version integer
) RETURNS TABLE (status smallint, answer bytea)
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT settle_authorised(p_operation_id, p_reference, p_code) THEN
        RETURN;
    END IF;
    RETURN QUERY
    UPDATE idempotency_keys k SET
        status = coalesce(k.status, p_status), answer = coalesce(k.answer, p_body)
    WHERE k.actor = p_actor AND k.key = p_key
      AND EXISTS (SELECT FROM orders o WHERE o.id = p_order_id AND o.version = p_version)
    RETURNING k.status, k.answer;
END $$;
