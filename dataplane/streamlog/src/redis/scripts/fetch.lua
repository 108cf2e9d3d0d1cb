-- Reads a stream in one atomic step, and registers a follower's node where one is named.
-- KEYS: head, text, meta. ARGV: first index, version of the meta that the reader knows, bytes
-- wanted, life and offset at which the reader believes the index to stand, follower or ''.
-- Gives nothing, or {head, meta, text, offset of the text, text exists, seconds, microseconds}.
local all = redis.call('GET', KEYS[1])
if not all then
  return false
end
local head = string.sub(all, 1, 46)
local sealed = string.byte(head, 26) >= 4
local life = string.sub(head, 43, 46)
if ARGV[6] ~= '' and not sealed and not string.find(all, ARGV[6], 47, true) then
  redis.call('APPEND', KEYS[1], ARGV[6])
end
local meta, now = false, { 0, 0 }
if string.sub(head, 2, 9) .. string.sub(head, 26, 26) .. life ~= ARGV[2] then
  meta = redis.call('HMGET', KEYS[3], 'meta', 'opening', 'tools')
  now = redis.call('TIME')
end
local from, text, offset = tonumber(ARGV[1]), '', 0
if from < struct.unpack('>I8', head, 27) then
  local bytes = tonumber(ARGV[3])
  if life == ARGV[4] then
    offset = tonumber(ARGV[5])
  elseif from > 0 then
    -- An entry stands for about 64 KiB: the index may lie anywhere up to the next one.
    bytes = bytes + 131072
    local index = redis.call('HGET', KEYS[3], 'index') or ''
    for at = 1, #index, 12 do
      local first, place = struct.unpack('>I8I4', index, at)
      if first > from then
        break
      end
      offset = place
    end
  end
  text = redis.call('GETRANGE', KEYS[2], offset, offset + bytes - 1)
end
local there = 1
if sealed then
  there = redis.call('EXISTS', KEYS[2])
end
return { head, meta, text, offset, there, now[1], now[2] }
