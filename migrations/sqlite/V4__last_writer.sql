-- The writer remembers much of what it wrote. PRAGMA data_version tells it that another connection has written since,
-- not whether that was another Hookkeeper: so whoever writes messages leaves its mark here. 0: nobody has.
ALTER TABLE totals ADD COLUMN writer_id INTEGER NOT NULL DEFAULT 0;
