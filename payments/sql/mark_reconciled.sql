-- Write down which line of the gateway's log showed which operation of ours.
--   $1 [{id, line}]
UPDATE payment_operations o SET gateway_operation_id = f.line, reconciled_at = darkstore_now()
FROM jsonb_to_recordset($1::text::jsonb) AS f(id text, line text)
WHERE o.id = f.id AND o.reconciled_at IS NULL
