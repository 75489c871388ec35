-- Records how a delivery went, in one step: in the job's record, in the receiver's state, and when more is due.
--
-- KEYS[1]  prefix of the outbox's keys, see outbox.py
-- KEYS[2]  hash: the job's record
--
-- ARGV[1]  the job's id
-- ARGV[2]  the receiver
-- ARGV[3]  now (Unix seconds)
-- ARGV[4]  how long the record is kept from now (milliseconds)
-- ARGV[5]  number of the event that was to be delivered
-- ARGV[6]  the verdict: delivered, skipped, failed or stopped
-- ARGV[7]  failed: when the job is due again (Unix seconds)
-- ARGV[8]  the receiver's health: ok, answered (with an error), down; empty: no request was sent
-- ARGV[9]  how long it asks to be left alone (seconds)
-- ARGV[10] the pauses after one, two, ... failures (seconds, between blanks)
-- ARGV[11] after how many errors in a row a receiver that answers is left alone, too
-- ARGV[12] 1 if it is slow
-- ARGV[13] stopped: the dead letter, and
-- ARGV[14] Redis's id of it
-- ARGV[15]… pairs of a field of the record and its value; an empty value removes the field
--
-- Returns when to check the receiver again (Unix seconds); nothing if it has no jobs left.

local job, receiver, now, verdict, health = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[6], ARGV[8]
local jobs = KEYS[1] .. ":jobs:" .. receiver
local busy = KEYS[1] .. ":busy:" .. receiver
local state = KEYS[1] .. ":receiver:" .. receiver
local receivers = KEYS[1] .. ":receivers"

redis.call("ZREM", busy, job)
redis.call("HINCRBY", KEYS[1] .. ":counts", verdict, 1)

local pause = tonumber(redis.call("HGET", state, "until") or 0)
if health == "ok" then
    if tonumber(redis.call("HGET", state, "pauses") or 0) >= 2 then
        -- It was away and is back: jobs that wait for their next attempt need not.
        for _, id in ipairs(redis.call("ZRANGEBYSCORE", jobs, "(" .. ARGV[3], "+inf", "LIMIT", 0, 10000)) do
            if not redis.call("ZSCORE", busy, id) then
                redis.call("ZADD", jobs, now, id)
            end
        end
    end
    redis.call("DEL", state)
    pause = 0
    if ARGV[12] == "1" then
        redis.call("HSET", state, "slow", 1)
        redis.call("EXPIRE", state, 3600)
    end
elseif health ~= "" then
    local streak = redis.call("HINCRBY", state, "streak", 1)
    redis.call("HSETNX", state, "since", ARGV[3])
    -- Deliveries in progress when it went down count once.
    if pause <= now and (health == "down" or streak >= tonumber(ARGV[11])) then
        local lengths = {}
        for length in string.gmatch(ARGV[10], "%S+") do
            table.insert(lengths, tonumber(length))
        end
        local pauses = redis.call("HINCRBY", state, "pauses", 1)
        pause = now + math.max(tonumber(ARGV[9]), lengths[math.min(pauses, #lengths)])
        redis.call("HSET", state, "until", pause)
    end
    redis.call("EXPIRE", state, 8 * 86400)
end

local pending = redis.call("HGET", KEYS[2], "webhook.pending")
if not pending then
    redis.call("ZREM", jobs, job) -- expired or deleted meanwhile
else
    for i = 15, #ARGV, 2 do
        if health ~= "ok" and health ~= "" and ARGV[i] == "webhook.last_error" then
            redis.call("HSET", state, "error", ARGV[i + 1])
        end
        if ARGV[i + 1] == "" then
            redis.call("HDEL", KEYS[2], ARGV[i])
        else
            redis.call("HSET", KEYS[2], ARGV[i], ARGV[i + 1])
        end
    end
    redis.call("HDEL", KEYS[2], "webhook.next_at")
    if verdict == "delivered" or verdict == "skipped" then
        local number, rest = string.match(pending, "^(%d+):%S+ (.*)$")
        if number == ARGV[5] then
            pending = rest
            redis.call("HSET", KEYS[2], "webhook.pending", rest, "webhook.since", ARGV[3])
            redis.call("HDEL", KEYS[2], "webhook.attempts")
        end
        if pending == "" then
            redis.call("ZREM", jobs, job)
        else
            redis.call("ZADD", jobs, ARGV[3], job)
        end
    elseif verdict == "failed" then
        redis.call("ZADD", jobs, ARGV[7], job)
        redis.call("HSET", KEYS[2], "webhook.next_at", math.max(tonumber(ARGV[7]), pause))
    else
        redis.call("ZREM", jobs, job)
        redis.call("ZADD", KEYS[1] .. ".XQ", math.floor(now * 1000), ARGV[14])
        redis.call("HSET", KEYS[1] .. ".XQ.msgs", ARGV[14], ARGV[13])
    end
    redis.call("PEXPIRE", KEYS[2], ARGV[4])
end

local first = redis.call("ZRANGE", jobs, 0, 0, "WITHSCORES")
if not first[1] then
    redis.call("ZREM", receivers, receiver)
    return ""
end
local at = math.max(tonumber(first[2]), pause)
redis.call("ZADD", receivers, at > now and at or now + 60, receiver) -- in case the worker that continues at once dies
return tostring(at)
