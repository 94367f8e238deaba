-- Counts of senders are written by runs, too: a commit of some hundred messages of as many senders would write a
-- page for each. What is up to totals.indexed_seq is counted here; the tail is counted by whoever reads it.

CREATE TABLE senders_3 (
    sender            TEXT    PRIMARY KEY,
    message_count     INTEGER NOT NULL, -- without the run below
    run_seq           INTEGER NOT NULL, -- the last place of the last run with messages of this sender
    run_message_count INTEGER NOT NULL  -- how many it had: they count once run_seq is indexed
) STRICT, WITHOUT ROWID;

INSERT INTO senders_3
SELECT sender, message_count - coalesce(n_unindexed, 0), 0, 0
FROM senders LEFT JOIN
     (SELECT sender, count(*) AS n_unindexed FROM messages
      WHERE seq > (SELECT indexed_seq FROM totals) GROUP BY sender) USING (sender)
WHERE message_count > coalesce(n_unindexed, 0);

DROP TABLE senders;
ALTER TABLE senders_3 RENAME TO senders;
