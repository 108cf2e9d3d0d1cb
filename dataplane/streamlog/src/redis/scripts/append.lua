-- Writes batches of several streams, each if the head of its stream is byte for byte the one that its
-- owner expects: what one pipeline carries costs one call, and each node that follows one message.
-- KEYS: head, text, meta of each. ARGV: prefix of inboxes, most bytes of a record that travels with its
-- hint; then of each: expected head, next head, record, size of the text afterwards, and where needed,
-- else '': seconds to live, entry of the index, 1 where tools were used.
-- Gives for each 1, the head that stands instead, or nothing where there is no stream.
local answers, hints, told = {}, {}, {}

local function append(head_key, text_key, meta_key, at)
  local head = redis.call('GET', head_key)
  if not head then
    return false
  end
  if string.sub(head, 1, 46) ~= ARGV[at] then
    return string.sub(head, 1, 46)
  end
  local after, record = ARGV[at + 1], ARGV[at + 2]
  if redis.call('APPEND', text_key, record) ~= tonumber(ARGV[at + 3]) then
    -- The text was evicted: its owner has it, and restores a stream that is gone as a whole.
    redis.call('DEL', head_key, text_key, meta_key)
    return false
  end
  redis.call('SETRANGE', head_key, 0, after)
  if #head > 46 then
    local hint = head_key .. after
    if #record <= tonumber(ARGV[2]) then
      hint = hint .. record
    end
    hint = struct.pack('>I4', #hint) .. hint
    for node in string.gmatch(string.sub(head, 47), '%x+') do
      if not hints[node] then
        hints[node], told[node] = {}, {}
      end
      table.insert(hints[node], hint)
      table.insert(told[node], head_key)
    end
  end
  local seconds, entry, tools = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  if entry ~= '' then
    local index = redis.call('HGET', meta_key, 'index') or ''
    redis.call('HSET', meta_key, 'index', index .. entry)
  end
  if tools ~= '' then
    redis.call('HSET', meta_key, 'tools', tools)
  end
  if seconds ~= '' then
    redis.call('EXPIRE', head_key, seconds)
    redis.call('EXPIRE', text_key, seconds)
    redis.call('EXPIRE', meta_key, seconds)
  end
  return 1
end

for i = 1, #KEYS / 3 do
  answers[i] = append(KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i], 7 * i - 4)
end

for node, all in pairs(hints) do
  if redis.call('PUBLISH', ARGV[1] .. node, table.concat(all)) == 0 then
    -- Nobody is there any more: it is told no further.
    for _, head_key in ipairs(told[node]) do
      local head = redis.call('GET', head_key)
      local from, to = string.find(head, ':' .. node, 47, true)
      if from then
        local rest = string.sub(head, 1, from - 1) .. string.sub(head, to + 1)
        redis.call('SET', head_key, rest, 'KEEPTTL')
      end
    end
  end
end
return answers
