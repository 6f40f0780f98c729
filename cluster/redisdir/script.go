package redisdir

// The scripts. They are sent as text, and not by a hash that a server may not know
// after a fail-over. Each touches the one key that it is given, reads no more of it
// than a value may be long, and overwrites what is of another type.

// read is the beginning of those that look at a value: v is what the key holds, or
// "" if there is nothing, or nothing that was written here.
// ARGV: 1 the longest value.
const read = `
local v = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[1])
if type(v) ~= 'string' or #v > tonumber(ARGV[1]) then v = '' end
`

// putScript stores a value if there is none, or the one that is expected. It returns
// "" if it did so, and otherwise what is stored, which is refreshed if it is the
// same.
// ARGV: 2 the value, 3 the one it may replace, 4 its life in ms, 5 channel,
// 6 message.
const putScript = read + `
if v == ARGV[2] then
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
	return v
end
if v ~= '' and v ~= ARGV[3] then return v end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return ''
`

// deleteScript deletes a value that begins with a prefix and, if so said, ends there or
// has only words more that a later version has added.
// ARGV: 2 the prefix, 3 "exact" or "", 4 channel, 5 message.
const deleteScript = read + `
if string.sub(v, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
if ARGV[3] == 'exact' and v ~= ARGV[2] and string.sub(v, #ARGV[2] + 1, #ARGV[2] + 1) ~= ' ' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
`

// beatScript stores a node and returns what was there. It tells the others if that
// began in another way.
// ARGV: 2 the value, 3 how it begins, 4 its life in ms, 5 channel, 6 message.
const beatScript = read + `
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
if string.sub(v, 1, #ARGV[3]) ~= ARGV[3] then
	redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return v
`

// enlistScript notes the name of a node in the list, and takes out those that have
// not been noted for long, or in the future, and those that are too many.
// ARGV: 1 the name, 2 how long in seconds, 3 how many.
const enlistScript = `
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + tonumber(ARGV[2]), '+inf')
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
`

// listScript returns the names in the list, the latest first.
// ARGV: 1 how many at most, 2 how long a name may be.
const listScript = `
local names = {}
local all = redis.pcall('ZREVRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
if all.err then return names end
for _, name in ipairs(all) do
	if #name <= tonumber(ARGV[2]) then names[#names + 1] = name end
end
return names
`

// checkScript does what the others do, to a key of its own.
// ARGV: 1 channel, 2 message.
const checkScript = `
redis.call('SET', KEYS[1], ARGV[2], 'PX', 1000)
redis.call('PEXPIRE', KEYS[1], 1000)
local v = redis.call('GETRANGE', KEYS[1], 0, 9)
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
if redis.call('TYPE', KEYS[1]).ok ~= 'none' then return '' end
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 1)
redis.call('ZREVRANGE', KEYS[1], 0, 0)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', 0)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1)
return v
`
