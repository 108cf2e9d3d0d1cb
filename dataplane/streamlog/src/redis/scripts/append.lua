-- Writes batches of several streams, each if the head of its stream is byte for byte the one that its
-- owner expects: what one pipeline carries costs one call, and each node that follows one message.
-- KEYS: head and text of each; then the meta of each that has more to note. ARGV: how many streams,
-- prefix of inboxes, most bytes of a record that travels with its hint; then of each: expected head,
-- next head, record, size of the text afterwards; then of each that has more: which one it is (from 1),
-- and where needed, else '': seconds to live, entry of the index, 1 where tools were used.
-- Gives for each 1, the head that stands instead, or nothing where there is no stream.
local call, streams = redis.call, tonumber(ARGV[1])
local answers, hints, told, named = {}, {}, {}, {}

-- The nodes named behind a head: most streams of one call have the same ones.
local function nodes_of(list)
  local nodes = named[list]
  if not nodes then
    nodes = {}
    for node in string.gmatch(list, '%x+') do
      nodes[#nodes + 1] = node
      if not hints[node] then
        hints[node], told[node] = {}, {}
      end
    end
    named[list] = nodes
  end
  return nodes
end

-- Joined once at the end: every string made on the way would be copied and hashed.
local function tell(list, head_key, after, record)
  if #record > tonumber(ARGV[3]) then
    record = ''
  end
  local length = struct.pack('>I4', #head_key + #after + #record)
  for _, node in ipairs(nodes_of(list)) do
    local pieces, last = hints[node], #hints[node]
    pieces[last + 1], pieces[last + 2] = length, head_key
    pieces[last + 3], pieces[last + 4] = after, record
    table.insert(told[node], head_key)
  end
end

local function append(head_key, text_key, at)
  local expected, followers = ARGV[at], nil
  local head = call('GET', head_key)
  if head ~= expected then
    if not head or string.byte(head) ~= 1 then
      return false
    end
    local stands = string.sub(head, 1, 46)
    if stands ~= expected then
      return stands
    end
    followers = string.sub(head, 47)
  end
  local after, record = ARGV[at + 1], ARGV[at + 2]
  if call('APPEND', text_key, record) ~= tonumber(ARGV[at + 3]) then
    -- The text was evicted: its owner has it, and restores a stream that is gone as a whole.
    call('DEL', head_key, text_key)
    return false
  end
  call('SETRANGE', head_key, 0, after)
  if followers then
    tell(followers, head_key, after, record)
  end
  return 1
end

for i = 1, streams do
  answers[i] = append(KEYS[2 * i - 1], KEYS[2 * i], 4 * i)
end

local at = 4 * streams + 4
for i = 2 * streams + 1, #KEYS do
  local which, meta_key = tonumber(ARGV[at]), KEYS[i]
  if answers[which] == 1 then
    local seconds, entry, tools = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    if entry ~= '' then
      local index = call('HGET', meta_key, 'index') or ''
      call('HSET', meta_key, 'index', index .. entry)
    end
    if tools ~= '' then
      call('HSET', meta_key, 'tools', tools)
    end
    if seconds ~= '' then
      call('EXPIRE', KEYS[2 * which - 1], seconds)
      call('EXPIRE', KEYS[2 * which], seconds)
      call('EXPIRE', meta_key, seconds)
    end
  end
  at = at + 4
end

for node, all in pairs(hints) do
  if call('PUBLISH', ARGV[2] .. node, table.concat(all)) == 0 then
    -- Nobody is there any more: it is told no further.
    for _, head_key in ipairs(told[node]) do
      local head = call('GET', head_key)
      local from, to = string.find(head, ':' .. node, 47, true)
      if from then
        local rest = string.sub(head, 1, from - 1) .. string.sub(head, to + 1)
        call('SET', head_key, rest, 'KEEPTTL')
      end
    end
  end
end
return answers
