-- A worker's heartbeat, and what the living do for the dead, in one step.
--
-- KEYS[1]  the namespace, of which all keys here are made; the names are those of Dramatiq's dispatch.lua, and:
--   $namespace:beats    sorted set: every worker's id by its last heartbeat (milliseconds, by the server's clock)
--   $namespace:queues   set: every queue that a worker has ever taken messages from
--   $namespace:workers  hash: what each worker says of itself, by its id
--   $namespace:begun    set: Redis ids of messages that were at work when a worker died before, and are at work again
--
-- ARGV[1]  this worker's id
-- ARGV[2]  how long a worker may be silent before it counts as dead (milliseconds)
-- ARGV[3]  how many workers a message may kill before it becomes a dead letter
-- ARGV[4]  how long dead letters are kept (milliseconds)
-- ARGV[5]  what this worker says of itself (JSON)
-- ARGV[6]… the queues that it takes messages from
--
-- Silence is measured by the server's clock alone, since workers' clocks differ. Dramatiq's own sorted set of
-- heartbeats, which is written by those clocks, only serves for workers that never sent a heartbeat here: they died
-- early, or run another version.
--
-- A message that is reclaimed from a dead worker carries the number of times behind its Redis id: `<id>~2`. From the
-- second time on it is counted only if the message was at work, not if it waited beside another.
--
-- Returns pairs of a queue and a message: those that became dead letters.

local STRANGER = 60000 -- milliseconds without a command after which such a worker counts as dead; Dramatiq's own

local namespace, me, timeout = KEYS[1], ARGV[1], tonumber(ARGV[2])
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local beats = namespace .. ":beats"
local heartbeats = namespace .. ":__heartbeats__"
local begun = namespace .. ":begun"
local killed = {}

-- If no worker has sent a heartbeat for so long, Redis was away. Then that time counts as a quarter of the permitted
-- silence, so that all living workers get to report. It does count, or a single slow survivor would never find the dead.
local newest = redis.call("ZREVRANGE", beats, 0, 0, "WITHSCORES")[2]
local gap = newest and now - newest or 0
if gap > timeout / 2 then
    for _, worker in ipairs(redis.call("ZRANGE", beats, 0, -1)) do
        redis.call("ZINCRBY", beats, gap - timeout / 4, worker)
    end
end

redis.call("ZADD", beats, now, me)
redis.call("ZADD", heartbeats, now, me)
redis.call("HSET", namespace .. ":workers", me, ARGV[5])
for i = 6, #ARGV do
    redis.call("SADD", namespace .. ":queues", ARGV[i])
end

-- Replaces one Redis id by another in the text of a message.
local function renamed(data, old, new)
    local first, last = string.find(data, old, 1, true)
    return first and string.sub(data, 1, first - 1) .. new .. string.sub(data, last + 1) or data
end

local function reclaim(queue, id)
    local list = namespace .. ":" .. queue
    local data = redis.call("HGET", list .. ".msgs", id)
    if not data then
        return
    end
    if string.sub(queue, -3) == ".DQ" then
        redis.call("RPUSH", list, id)
        return
    end
    local base, count = string.match(id, "^(.+)~(%d+)$")
    base, count = base or id, tonumber(count or 0)
    if redis.call("SREM", begun, id) == 1 or count == 0 then
        count = count + 1
    end
    local new = base .. "~" .. count
    redis.call("HDEL", list .. ".msgs", id)
    if count >= tonumber(ARGV[3]) then
        redis.call("ZADD", list .. ".XQ", now, new)
        redis.call("HSET", list .. ".XQ.msgs", new, renamed(data, id, new))
        table.insert(killed, queue)
        table.insert(killed, data)
    else
        redis.call("HSET", list .. ".msgs", new, renamed(data, id, new))
        redis.call("RPUSH", list, new)
    end
end

local queues = redis.call("SMEMBERS", namespace .. ":queues")
local silent = redis.call("ZRANGEBYSCORE", beats, 0, now - timeout)
for _, worker in ipairs(redis.call("ZRANGEBYSCORE", heartbeats, 0, now - STRANGER)) do
    if not redis.call("ZSCORE", beats, worker) then
        table.insert(silent, worker)
    end
end
for _, worker in ipairs(silent) do
    for _, queue in ipairs(queues) do
        local acks = namespace .. ":__acks__." .. worker .. "." .. queue
        for _, id in ipairs(redis.call("SMEMBERS", acks)) do
            reclaim(queue, id)
        end
        redis.call("DEL", acks)
    end
    redis.call("ZREM", beats, worker)
    redis.call("ZREM", heartbeats, worker)
    redis.call("HDEL", namespace .. ":workers", worker)
end

for _, queue in ipairs(queues) do
    local dead = namespace .. ":" .. queue .. ".XQ"
    for _, id in ipairs(redis.call("ZRANGEBYSCORE", dead, 0, now - tonumber(ARGV[4]), "LIMIT", 0, 100)) do
        redis.call("ZREM", dead, id)
        redis.call("HDEL", dead .. ".msgs", id)
    end
end
return killed
