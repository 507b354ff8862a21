-- What dispatch did with an order, newest first.
--   $1 order id   $2 at most so many
SELECT e.*, d.at, d.parameter_set, d.engine, d.epoch, d.seconds, d.orders, d.riders, d.city_id,
       d.file, d.file_offset
FROM dispatch_explanations e JOIN dispatch_decisions d ON d.id = e.decision_id
WHERE e.order_id = $1::text
ORDER BY d.at DESC, d.id DESC LIMIT $2::int
