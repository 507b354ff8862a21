-- Write what a store can promise, unless something newer stands there already.
-- KEYS[1]  hash of the store: sku id -> "version:available", and "epoch"
-- ARGV[1]  epoch of a rebuild: of another epoch nothing stays; '' for an update, which writes
--          nothing into a hash that no rebuild has filled (the rest of it would be missing)
-- ARGV[2…] triples: sku id, version, available
-- Reply: how many were written; -1 when a rebuild is needed first.
local key = KEYS[1]
local held = redis.call('HGET', key, 'epoch')
if ARGV[1] == '' then
  if not held then return -1 end
elseif held ~= ARGV[1] then
  redis.call('DEL', key)
  redis.call('HSET', key, 'epoch', ARGV[1])
end
local written = 0
for i = 2, #ARGV, 3 do
  local value = redis.call('HGET', key, ARGV[i])
  local version = value and tonumber(string.match(value, '^(%d+):')) or -1
  if tonumber(ARGV[i + 1]) > version then
    redis.call('HSET', key, ARGV[i], ARGV[i + 1] .. ':' .. ARGV[i + 2])
    written = written + 1
  end
end
return written
