-- Keeps a finished piece of an enrichment, unless its job was deleted or cancelled meanwhile.
--
-- KEYS[1]  hash: the job's account and finished pieces
-- KEYS[2]  hash: the job's record
-- ARGV[1]  field of the piece
-- ARGV[2]  the piece (JSON)
-- ARGV[3]  how long it is kept (milliseconds)
-- ARGV[4]… statuses in which it is not kept

local status = redis.call("HGET", KEYS[2], "status")
for i = 4, #ARGV do
    if status == ARGV[i] then
        return
    end
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
