-- Deletes a job in one step and leaves a tombstone, so that neither a message that is still queued nor a worker that is
-- at work brings it back.
--
-- KEYS[1]  hash: the job's record
-- KEYS[2]  stream: the job's events
-- KEYS[3]  hash: what its enrichment has cost so far
-- KEYS[4]  sorted set: ids of unfinished jobs
-- KEYS[5]  sorted set: "<id> <owner>" of ended jobs
-- KEYS[6]  stream: ids of the jobs that got their transcript, ended or were deleted last
-- KEYS[7]  prefix of the indexes of jobs
-- KEYS[8]  prefix of the outbox's keys
--
-- ARGV[1]  the job's id
-- ARGV[2]  how long the tombstone is kept (milliseconds)
-- ARGV[3]  the status that a tombstone has
-- ARGV[4]… every status
--
-- Returns the job's source, or nothing if there is no such job.

local job = ARGV[1]
local known = redis.call("HMGET", KEYS[1], "status", "owner", "source", "webhook.receiver")
if not known[1] or known[1] == ARGV[3] then
    return false
end
local owner = known[2] or ""
if known[4] then
    redis.call("ZREM", KEYS[8] .. ":jobs:" .. known[4], job)
end
for i = 4, #ARGV do
    redis.call("ZREM", KEYS[7] .. ":all:" .. ARGV[i], job)
    if owner ~= "" then
        redis.call("ZREM", KEYS[7] .. ":owner:" .. owner .. ":" .. ARGV[i], job)
    end
end
redis.call("DEL", KEYS[1], KEYS[2], KEYS[3])
redis.call("HSET", KEYS[1], "status", ARGV[3])
redis.call("PEXPIRE", KEYS[1], ARGV[2])
redis.call("ZREM", KEYS[4], job)
redis.call("ZREM", KEYS[5], job .. " " .. owner)
redis.call("XADD", KEYS[6], "MAXLEN", "~", 1000, "*", "job", job)
return known[3] or ""
