-- Moves a job from state to state, in one step: the record, its events, the list of unfinished jobs and what its
-- sender's server is to be told never disagree.
--
-- KEYS[1]  hash: the job's record
-- KEYS[2]  stream: the job's events
-- KEYS[3]  sorted set: the ids of jobs that have not ended, by the time of their last change (Unix seconds)
-- KEYS[4]  queue of the webhook workers, and the prefix of the keys of voicemill/store/outbox.py
-- KEYS[5]  sorted set: the ids of the jobs that ended last, by the time of their end (Unix seconds)
-- KEYS[6]  hash: how many jobs ended, ever, by status and by what failed
-- KEYS[7]  sorted set: the uploads that no job waits for any more, by the time of that (Unix seconds)
-- KEYS[8]  stream: the ids of the jobs that got their transcript or ended last
--
-- ARGV[1]  the job's id
-- ARGV[2]  now (Unix seconds)
-- ARGV[3]  how long record and events are kept from now (milliseconds)
-- ARGV[4]  the status to enter; empty: keep the present one
-- ARGV[5]  the statuses that this is allowed in, each between commas; "new" stands for a job without a record
-- ARGV[6]  field to count up by one; empty: none
-- ARGV[7]  the event (JSON); empty: none
-- ARGV[8]  message to the webhook workers that this job has something to tell; empty: it has not
-- ARGV[9]  Redis's id of that message
-- ARGV[10] what a failure is counted under; empty: it is none
-- ARGV[11]… pairs of a field and its value; an empty value removes the field
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
        redis.call("ZADD", KEYS[5], ARGV[2], ARGV[1])
        redis.call("ZREMRANGEBYRANK", KEYS[5], 0, -1001) -- the last 1000 are enough to look back on
        redis.call("HINCRBY", KEYS[6], ARGV[4], 1)
        if ARGV[10] ~= "" then
            redis.call("HINCRBY", KEYS[6], ARGV[10], 1)
        end
    else
        redis.call("HDEL", KEYS[1], "finished_at")
        redis.call("ZADD", KEYS[3], ARGV[2], ARGV[1])
        redis.call("ZREM", KEYS[5], ARGV[1])
    end
end
if string.find(",transcribed,done,failed,cancelled,", "," .. ARGV[4] .. ",", 1, true) then
    redis.call("XADD", KEYS[8], "MAXLEN", "~", 1000, "*", "job", ARGV[1])
end
local receiver = ARGV[8] ~= "" and present ~= ARGV[4] and redis.call("HGET", KEYS[1], "webhook.receiver")
if receiver then
    local told = redis.call("HMGET", KEYS[1], "webhook.pending", "webhook.stopped")
    local number = redis.call("HINCRBY", KEYS[1], "webhook.events", 1)
    local pending = (told[1] or "") .. number .. ":" .. ARGV[4] .. ":" .. ARGV[2] .. " "
    redis.call("HSET", KEYS[1], "webhook.pending", pending)
    if (told[1] or "") == "" then
        redis.call("HSET", KEYS[1], "webhook.since", ARGV[2])
    end
    -- One that is being told something at this moment is looked at again when that is over.
    local busy = tonumber(redis.call("ZSCORE", KEYS[4] .. ":busy:" .. receiver, ARGV[1]) or 0)
    if not told[2] and busy <= tonumber(ARGV[2]) then
        redis.call("ZADD", KEYS[4] .. ":jobs:" .. receiver, ARGV[2], ARGV[1])
        local pause = tonumber(redis.call("HGET", KEYS[4] .. ":receiver:" .. receiver, "until") or 0)
        local look = tonumber(redis.call("ZSCORE", KEYS[4] .. ":receivers", receiver) or math.huge)
        if pause <= tonumber(ARGV[2]) then
            redis.call("HSET", KEYS[4] .. ".msgs", ARGV[9], ARGV[8])
            redis.call("RPUSH", KEYS[4], ARGV[9])
            pause = tonumber(ARGV[2]) + 60 -- should the message be lost
        end
        if look > pause then
            redis.call("ZADD", KEYS[4] .. ":receivers", pause, receiver)
        end
    end
end
if ARGV[6] ~= "" then
    redis.call("HINCRBY", KEYS[1], ARGV[6], 1)
end
for i = 11, #ARGV, 2 do
    if ARGV[i + 1] == "" then
        redis.call("HDEL", KEYS[1], ARGV[i])
    else
        redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
if ARGV[4] ~= "" then
    local source = redis.call("HGET", KEYS[1], "source") or ""
    if string.sub(source, 1, 7) == "upload:" then
        if string.find(",queued,decoding,decoded,transcribing,", "," .. ARGV[4] .. ",", 1, true) then
            redis.call("ZREM", KEYS[7], source)
        else
            redis.call("ZADD", KEYS[7], ARGV[2], source)
        end
    end
end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
if ARGV[7] ~= "" then
    redis.call("XADD", KEYS[2], "MAXLEN", "~", 1000, "*", "event", ARGV[7])
    redis.call("PEXPIRE", KEYS[2], ARGV[3])
end
return 1
