-- Put one line into a cart, at its place if the product is there already.
-- KEYS[1]  hash of the cart: "store_id", and "line:<sku id>" -> "quantity:price_minor:added_ms"
-- ARGV     store id, sku id, quantity (units), price_minor (as shown to the customer),
--          now (POSIX ms), most lines, life of the cart (s)
-- Reply: 'ok'; 'other_store' when the cart holds lines of another store; 'full'.
local store_id, sku_id, quantity, price_minor, now_ms, max_lines, life_s = unpack(ARGV)
local held_store = redis.call('HGET', KEYS[1], 'store_id')
local lines = math.max(0, redis.call('HLEN', KEYS[1]) - 1)
if held_store and held_store ~= store_id and lines > 0 then return 'other_store' end
local field = 'line:' .. sku_id
local held = redis.call('HGET', KEYS[1], field)
if not held and lines >= tonumber(max_lines) then return 'full' end
local added_ms = held and string.match(held, '(%d+)$') or now_ms
redis.call('HSET', KEYS[1], 'store_id', store_id,
           field, quantity .. ':' .. price_minor .. ':' .. added_ms)
redis.call('EXPIRE', KEYS[1], life_s)
return 'ok'
