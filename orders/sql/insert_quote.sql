-- A quote.  Its row comes as one value: building the statement anew each time cost more than it.
--   $1 its columns as jsonb
INSERT INTO quotes SELECT * FROM jsonb_populate_record(NULL::quotes, $1::text::jsonb)
