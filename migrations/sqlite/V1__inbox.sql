-- The inbox. Rules that this schema upholds:
--
--  * One row per (source, message_id), whoever races: a unique index, never a look-up first.
--  * A row is never changed. What is kept is enough to replay a webhook (body), to tell a repeat
--    from a conflict (body_sha256) and to say when and where it came in (received_at_us, source).
--  * Order is by time: ts_us is microseconds since 1970, ts_finer the decimal digits past them
--    without trailing zeros (nearly always ''); then message_id in byte order, then arrival (seq).
--  * Counts are kept in the transaction that adds the rows, so that no query counts the table.
--
-- STRICT: a value of another type than its column's is a bug, and is refused.

CREATE TABLE sources (
    source_id INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE
) STRICT;

INSERT INTO sources (name) VALUES ('default');

CREATE TABLE messages (
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
    body           BLOB    NOT NULL, -- last: what comes before it is read without it
    UNIQUE (source_id, message_id)
) STRICT;

-- The order of every listing; `since`; first and last of the statistics.
CREATE INDEX messages_by_time ON messages (ts_us, ts_finer, message_id);

-- The same for one sender.
CREATE INDEX messages_by_sender ON messages (sender, ts_us, ts_finer, message_id);

-- `total` of a listing by sender alone.
CREATE TABLE senders (
    sender        TEXT    PRIMARY KEY,
    message_count INTEGER NOT NULL CHECK (message_count > 0)
) STRICT, WITHOUT ROWID;

-- The statistics' ranking: the ten busiest of these, by count, then by sender. Counts only rise, so that one
-- can only come in when its own count changes. An index on all counts would be two more pages a message.
CREATE TABLE top_senders (
    sender        TEXT    PRIMARY KEY,
    message_count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: `total` of an unfiltered listing, and the statistics' counts.
CREATE TABLE totals (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    message_count INTEGER NOT NULL,
    sender_count  INTEGER NOT NULL
) STRICT;

INSERT INTO totals (id, message_count, sender_count) VALUES (1, 0, 0);
