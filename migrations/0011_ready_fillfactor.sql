-- A message is written twice while it waits: when it is enqueued and when it is claimed, which makes it longer by worker and
-- time. With half a page left free and a little more, the second always fits beside the first, as a HOT update: no claim makes
-- an entry of the index, which would be a dead one as soon as the step has ended.
SET LOCAL lock_timeout = '5s';
ALTER TABLE tasker.ready SET (fillfactor = 45);
