-- GCRA: an arrival may run ahead of now by at most burst periods.
-- KEYS: arrival. ARGV: microseconds of one period, burst, units. Gives microseconds to wait, or 0.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local period = tonumber(ARGV[1])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local next_arrival = arrival + period * tonumber(ARGV[3])
local horizon = now + period * tonumber(ARGV[2])
if next_arrival > horizon then
  return next_arrival - horizon
end
local live = math.max(1, math.ceil((next_arrival - now) / 1000))
redis.call('SET', KEYS[1], string.format('%.0f', next_arrival), 'PX', string.format('%.0f', live))
return 0
