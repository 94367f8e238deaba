-- Messages that an operator deletes (hookkeeper delete), which is not expiry: their keys stay, so that a repeat is a
-- duplicate.

-- How many have been. Whoever has messages in memory learns by it that some of them are gone.
ALTER TABLE totals ADD COLUMN deleted_count INTEGER NOT NULL DEFAULT 0;

-- Those whose texts may still be in the index of texts, which is another file, or in the write-ahead log.
CREATE TABLE deletions (
    seq INTEGER PRIMARY KEY
) STRICT;
