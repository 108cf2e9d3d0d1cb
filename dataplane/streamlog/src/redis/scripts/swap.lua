-- Replaces head and meta (and the text) if the head is byte for byte the expected one ('': absent).
-- KEYS: head, text, meta. ARGV: expected head, next head, meta, opening or '', what becomes of the
-- text (keep, drop, set), the text, its index, seconds to live of head and meta, of the text, prefix
-- of inboxes (''; tell nobody), tools ('': as it is).
-- Gives 1, or the head that stands instead ('': absent).
local all = redis.call('GET', KEYS[1])
-- Whoever asked for a stream that is not there left its name where the head would stand.
local absent = not all or string.byte(all) ~= 1
local head = absent and '' or string.sub(all, 1, 46)
if head ~= ARGV[1] then
  return head
end
local followers = absent and (all or '') or string.sub(all, 47)
redis.call('SET', KEYS[1], ARGV[2] .. followers, 'EX', ARGV[8])
if head == '' then
  redis.call('DEL', KEYS[3])
end
redis.call('HSET', KEYS[3], 'meta', ARGV[3])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], 'opening', ARGV[4])
end
if ARGV[11] ~= '' then
  redis.call('HSET', KEYS[3], 'tools', ARGV[11])
end
if ARGV[5] ~= 'keep' then
  redis.call('DEL', KEYS[2])
  redis.call('HDEL', KEYS[3], 'index')
  if ARGV[5] == 'set' and ARGV[6] ~= '' then
    redis.call('SET', KEYS[2], ARGV[6])
    if ARGV[7] ~= '' then
      redis.call('HSET', KEYS[3], 'index', ARGV[7])
    end
  end
end
redis.call('EXPIRE', KEYS[3], ARGV[8])
redis.call('EXPIRE', KEYS[2], ARGV[9])
if ARGV[10] ~= '' then
  local hint = KEYS[1] .. ARGV[2]
  for node in string.gmatch(followers, '%x+') do
    redis.call('PUBLISH', ARGV[10] .. node, struct.pack('>I4', #hint) .. hint)
  end
end
return 1
