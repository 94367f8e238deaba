-- Retention goes by notes of the server, not by what the clock said when a message came in: once an hour it notes how far
-- the messages have come, if the clock can be trusted (see arrivals.rs).

-- By this time the messages up to this place had arrived.
CREATE TABLE arrivals (
    seq   INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL
) STRICT;

-- One row: the readings of the clock that notes go by. All are null before the first one.
CREATE TABLE clock (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    settled_us  INTEGER,          -- the last reading that was trusted
    since_us    INTEGER,          -- after a jump: the first reading since then
    seen_us     INTEGER,          -- and the last one
    stamped_seq INTEGER NOT NULL  -- what came before there were notes is noted by its received_at_us
) STRICT;

INSERT INTO clock (id, stamped_seq) SELECT 1, last_seq FROM totals;
