-- Starts a job's deliveries again after they were given up, with the full time limit.
--
-- KEYS[1]  prefix of the outbox's keys, see outbox.py
-- KEYS[2]  hash: the job's record
-- ARGV[1]  the job's id
-- ARGV[2]  now (Unix seconds)
--
-- Returns 1; 0 where there is nothing to deliver.

local known = redis.call("HMGET", KEYS[2], "webhook.receiver", "webhook.pending")
if not known[1] or (known[2] or "") == "" then
    return 0
end
redis.call("HDEL", KEYS[2], "webhook.stopped", "webhook.attempts")
redis.call("HSET", KEYS[2], "webhook.since", ARGV[2])
redis.call("ZADD", KEYS[1] .. ":jobs:" .. known[1], ARGV[2], ARGV[1])
redis.call("ZADD", KEYS[1] .. ":receivers", ARGV[2], known[1])
return 1
