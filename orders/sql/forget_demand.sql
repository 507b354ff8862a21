-- What is older than any forecast looks back.
DELETE FROM store_demand WHERE bucket_at < darkstore_now() - interval '36 days'
