-- Tell a batch of positions to whoever listens now; nothing is kept.
--
-- KEYS[i]  topic i (pub/sub channel)
-- ARGV[i]  packet i
--
-- Reply: how many subscribers heard, over all packets.
local heard = 0
for i = 1, #KEYS do
  heard = heard + redis.call('PUBLISH', KEYS[i], ARGV[i])
end
return heard
