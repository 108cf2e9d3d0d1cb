-- Takes one mention of a node out of the head. KEYS: head. ARGV: follower.
local head = redis.call('GET', KEYS[1])
if not head then
  return 0
end
local from, to = string.find(head, ARGV[1], 47, true)
if not from then
  return 0
end
redis.call('SET', KEYS[1], string.sub(head, 1, from - 1) .. string.sub(head, to + 1), 'KEEPTTL')
return 1
