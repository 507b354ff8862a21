-- taken_barcodes: barcodes of a batch that other products of the catalogue already have.
--   $1 jsonb  [{external_id, barcode}]
-- Returns barcode, external_id (of the batch), owner_external_id, in the order of barcodes.
SELECT p.barcode, d.external_id, p.external_id AS owner_external_id
FROM jsonb_to_recordset($1::text::jsonb) AS d(external_id text, barcode text)
JOIN products p USING (barcode)
WHERE p.external_id <> d.external_id
ORDER BY p.barcode
