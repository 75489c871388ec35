-- Begins a job's deliveries anew after they were given up, with all of their patience.
--
-- KEYS[1]  prefix of the outbox's keys, whose meaning is told in outbox.py
-- KEYS[2]  hash: the job's record
-- ARGV[1]  the job's id
-- ARGV[2]  now (Unix seconds)
--
-- Returns 1; 0 where there is nothing to deliver.

local told = redis.call("HMGET", KEYS[2], "webhook.receiver", "webhook.pending")
if not told[1] or (told[2] or "") == "" then
    return 0
end
redis.call("HDEL", KEYS[2], "webhook.stopped", "webhook.attempts")
redis.call("HSET", KEYS[2], "webhook.since", ARGV[2])
redis.call("ZADD", KEYS[1] .. ":jobs:" .. told[1], ARGV[2], ARGV[1])
redis.call("ZADD", KEYS[1] .. ":receivers", ARGV[2], told[1])
return 1
