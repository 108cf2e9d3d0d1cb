-- Writes one batch if the head is byte for byte the one that its owner expects.
-- KEYS: head, text, meta. ARGV: expected head, next head, record, size of the text afterwards,
-- prefix of inboxes, most bytes of a record that travels with its hint; then, only where needed:
-- seconds to live, entry of the index, tools used.
-- Gives 1, the head that stands instead, or nothing where there is no stream.
local head = redis.call('GET', KEYS[1])
if not head then
  return false
end
if string.sub(head, 1, 46) ~= ARGV[1] then
  return string.sub(head, 1, 46)
end
if redis.call('APPEND', KEYS[2], ARGV[3]) ~= tonumber(ARGV[4]) then
  -- The text was evicted: its owner has it, and restores a stream that is gone as a whole.
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  return false
end
redis.call('SETRANGE', KEYS[1], 0, ARGV[2])
if #head > 46 then
  local hint, kept, gone = KEYS[1] .. ARGV[2], {}, false
  if #ARGV[3] <= tonumber(ARGV[6]) then
    hint = hint .. ARGV[3]
  end
  for node in string.gmatch(string.sub(head, 47), '%x+') do
    if redis.call('PUBLISH', ARGV[5] .. node, hint) == 0 then
      gone = true
    else
      kept[#kept + 1] = ':' .. node
    end
  end
  if gone then
    redis.call('SET', KEYS[1], ARGV[2] .. table.concat(kept), 'KEEPTTL')
  end
end
if ARGV[7] then
  if ARGV[8] ~= '' then
    local index = redis.call('HGET', KEYS[3], 'index') or ''
    redis.call('HSET', KEYS[3], 'index', index .. ARGV[8])
  end
  if ARGV[9] ~= '' then
    redis.call('HSET', KEYS[3], 'tools', ARGV[9])
  end
  if ARGV[7] ~= '' then
    redis.call('EXPIRE', KEYS[1], ARGV[7])
    redis.call('EXPIRE', KEYS[2], ARGV[7])
    redis.call('EXPIRE', KEYS[3], ARGV[7])
  end
end
return 1
