-- Claims the receivers that are due: the caller sees to it that a worker delivers to them.
--
-- KEYS[1]  prefix of the outbox's keys, see outbox.py
-- ARGV[1]  now (Unix seconds)
--
-- Returns when the next one is due (Unix seconds; empty: never), and pairs of a receiver and a job of its.

local receivers, now = KEYS[1] .. ":receivers", tonumber(ARGV[1])
local found = {}
for _, receiver in ipairs(redis.call("ZRANGEBYSCORE", receivers, "-inf", now, "LIMIT", 0, 100)) do
    local job = redis.call("ZRANGE", KEYS[1] .. ":jobs:" .. receiver, 0, 0)[1]
    if job then
        redis.call("ZADD", receivers, now + 60, receiver) -- in case the worker dies
        table.insert(found, receiver)
        table.insert(found, job)
    else
        redis.call("ZREM", receivers, receiver)
    end
end
return { redis.call("ZRANGE", receivers, 0, 0, "WITHSCORES")[2] or "", unpack(found) }
