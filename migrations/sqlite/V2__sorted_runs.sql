-- Messages are appended, and indexed a moment later. Rules that this schema upholds, beside those of V1:
--
--  * `messages` has no index. A new message is one row at its end, so that a commit writes what it stores and
--    little more. Random pages of indexes are what limits an inbox on one disk.
--  * What is up to totals.indexed_seq is in the indexes below; the rest, the tail, is some thousand rows and is
--    read as it is. The writer moves the tail into the indexes in sorted runs, a slice with each commit.
--    An entry past indexed_seq belongs to a run under way and does not count yet.
--  * One row per (source, message_id): the writer, which is alone, looks into the tail (in memory) and into
--    the ledger `message_keys`. A key stays there when its message is gone.
--  * A segment is 65,536 places in the order of arrival (seq >> 16). What has it as the first column of its
--    key is written in one small part of the tree, however large the tree is.

CREATE TABLE messages_2 (
    seq            INTEGER PRIMARY KEY,
    source_id      INTEGER NOT NULL REFERENCES sources,
    message_id     TEXT    NOT NULL,
    sender         TEXT    NOT NULL,
    recipient      TEXT    NOT NULL,
    ts             TEXT    NOT NULL, -- as sent
    ts_us          INTEGER NOT NULL,
    ts_finer       TEXT    NOT NULL,
    text           TEXT,
    received_at_us INTEGER NOT NULL,
    body_sha256    BLOB    NOT NULL CHECK (length(body_sha256) = 32),
    body           BLOB    NOT NULL -- last: what comes before it is read without it
) STRICT;

INSERT INTO messages_2 SELECT * FROM messages;
DROP TABLE messages;
ALTER TABLE messages_2 RENAME TO messages;

-- The ledger. key: the first 16 bytes of the SHA-256 of source_id (8 bytes, most significant first) and
-- message_id. Two messages share one by chance once in 2^64 tries, which is never.
CREATE TABLE message_keys (
    segment INTEGER NOT NULL,
    key     BLOB    NOT NULL CHECK (length(key) = 16),
    seq     INTEGER NOT NULL,
    PRIMARY KEY (segment, key)
) STRICT, WITHOUT ROWID;

-- Of a segment whose keys are all in the ledger: its column of the filter that tells which segments may have
-- a key (see key_filter.rs). It can be made anew from the keys, in more time.
CREATE TABLE segments (
    segment             INTEGER PRIMARY KEY,
    last_received_at_us INTEGER NOT NULL, -- of its last run; its keys are kept for a time from then on
    key_filter          BLOB    NOT NULL
) STRICT;

-- The order of every listing; `since`; first and last of the statistics.
CREATE TABLE messages_by_time (
    ts_us      INTEGER NOT NULL,
    ts_finer   TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (ts_us, ts_finer, message_id, seq)
) STRICT, WITHOUT ROWID;

-- The same for one sender, segment by segment.
CREATE TABLE messages_by_sender (
    segment    INTEGER NOT NULL,
    sender     TEXT    NOT NULL,
    ts_us      INTEGER NOT NULL,
    ts_finer   TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (segment, sender, ts_us, ts_finer, message_id, seq)
) STRICT, WITHOUT ROWID;

-- How many indexed messages lie in a span of time: ts_us >> (20 + 6 * level) is the same in all of it. Level
-- 0 is about a second; each next one is 64 of those below it.
CREATE TABLE time_counts (
    level         INTEGER NOT NULL,
    span          INTEGER NOT NULL,
    message_count INTEGER NOT NULL CHECK (message_count > 0),
    PRIMARY KEY (level, span)
) STRICT, WITHOUT ROWID;

ALTER TABLE totals ADD COLUMN last_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN indexed_seq INTEGER NOT NULL DEFAULT 0;
-- Messages up to here have expired, and their rows are gone; what came with them is gone from the counts.
ALTER TABLE totals ADD COLUMN purged_seq INTEGER NOT NULL DEFAULT 0;
-- 0 while messages expire: counts fall then, and top_senders is empty.
ALTER TABLE totals ADD COLUMN is_ranked INTEGER NOT NULL DEFAULT 1;
UPDATE totals SET last_seq = (SELECT coalesce(max(seq), 0) FROM messages);
