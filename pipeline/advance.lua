-- Moves a job from state to state, in one step: the record, its events and the list of unfinished jobs never disagree.
--
-- KEYS[1]  hash: the job's record
-- KEYS[2]  stream: the job's events
-- KEYS[3]  sorted set: the ids of jobs that have not ended, by the time of their last change (Unix seconds)
--
-- ARGV[1]  the job's id
-- ARGV[2]  now (Unix seconds)
-- ARGV[3]  how long record and events are kept from now (milliseconds)
-- ARGV[4]  the status to enter; empty: keep the present one
-- ARGV[5]  the statuses that this is allowed in, each between commas; "new" stands for a job without a record
-- ARGV[6]  field to count up by one; empty: none
-- ARGV[7]  the event (JSON); empty: none
-- ARGV[8]… pairs of a field and its value; an empty value removes the field
--
-- Returns 1 where it was done, 0 where the job's status forbids it, -1 where there is no such job.

local present = redis.call("HGET", KEYS[1], "status")
if not string.find(ARGV[5], "," .. (present or "new") .. ",", 1, true) then
    return present and 0 or -1
end

if ARGV[4] ~= "" then
    redis.call("HSET", KEYS[1], "status", ARGV[4])
    if ARGV[4] == "done" or ARGV[4] == "failed" or ARGV[4] == "cancelled" then
        redis.call("HSET", KEYS[1], "finished_at", ARGV[2])
        redis.call("ZREM", KEYS[3], ARGV[1])
    else
        redis.call("HDEL", KEYS[1], "finished_at")
        redis.call("ZADD", KEYS[3], ARGV[2], ARGV[1])
    end
end
if ARGV[6] ~= "" then
    redis.call("HINCRBY", KEYS[1], ARGV[6], 1)
end
for i = 8, #ARGV, 2 do
    if ARGV[i + 1] == "" then
        redis.call("HDEL", KEYS[1], ARGV[i])
    else
        redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
if ARGV[7] ~= "" then
    redis.call("XADD", KEYS[2], "MAXLEN", "~", 1000, "*", "event", ARGV[7])
    redis.call("PEXPIRE", KEYS[2], ARGV[3])
end
return 1
