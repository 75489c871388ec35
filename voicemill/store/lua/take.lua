-- Takes a receiver's next job for a while, in one step. If the worker dies, the job comes back by itself, later each
-- time.
--
-- KEYS[1]  prefix of the outbox's keys, see outbox.py
-- KEYS[2]  prefix of the job records' keys
--
-- ARGV[1]  the receiver
-- ARGV[2]  now (Unix seconds)
-- ARGV[3]  how long a delivery may take (seconds)
-- ARGV[4]  how many deliveries to one receiver may be in progress
--
-- Returns the job, or nothing if there is none for now; when to check again (Unix seconds), or nothing if another worker
-- will; and 1 if another worker would find work, too.

local receiver, now, lease, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local jobs = KEYS[1] .. ":jobs:" .. receiver
local busy = KEYS[1] .. ":busy:" .. receiver
local receivers = KEYS[1] .. ":receivers"

local state = redis.call("HMGET", KEYS[1] .. ":receiver:" .. receiver, "until", "pauses", "slow")
if tonumber(state[1] or 0) > now then
    redis.call("ZADD", receivers, state[1], receiver)
    return { "", state[1], 0 }
end
-- A receiver that failed is tried with one delivery, and a slow one holds one thread.
if state[2] or state[3] then
    limit = 1
end
redis.call("ZREMRANGEBYSCORE", busy, "-inf", now)
if redis.call("ZCARD", busy) >= limit then
    return { "", "", 0 }
end

while true do
    local id = redis.call("ZRANGEBYSCORE", jobs, "-inf", now, "LIMIT", 0, 1)[1]
    if not id then
        local first = redis.call("ZRANGE", jobs, 0, 0, "WITHSCORES")
        if not first[1] then
            redis.call("ZREM", receivers, receiver)
            return { "", "", 0 }
        end
        redis.call("ZADD", receivers, first[2], receiver)
        return { "", first[2], 0 }
    end
    local known = redis.call("HMGET", KEYS[2] .. id, "webhook.pending", "webhook.stopped")
    if (known[1] or "") ~= "" and not known[2] then
        local attempts = redis.call("HINCRBY", KEYS[2] .. id, "webhook.attempts", 1)
        redis.call("ZADD", jobs, now + lease * attempts, id)
        redis.call("ZADD", busy, now + lease, id)
        redis.call("ZADD", receivers, now + lease, receiver)
        local more = redis.call("ZCARD", busy) < limit and redis.call("ZCOUNT", jobs, "-inf", now) > 0
        return { id, "", more and 1 or 0 }
    end
    redis.call("ZREM", jobs, id) -- expired, deleted, delivered or given up
end
